"""Own photos and masks in folders."""

import json
import os

import numpy as np
from PIL import Image
import pytest

from common.config import filled
from common.data import folders as common_folders
from common.data.source import Fault
from common.errors import UserError
from configs import unet_folder
from main import make_task
from unet import data, folders

TURN_RIGHT = 6  # EXIF: the stored picture must be turned by 90 degrees.


def disc(width=12, height=8):
    """A mask `[height, width]` of 1 in the upper left quarter, 0 elsewhere."""
    mask = np.zeros((height, width), np.uint8)
    mask[: height // 2, : width // 2] = 1
    return mask


def add(folder, name, mask, image=None, exif=None, mode=None):
    """Writes images/NAME.png and masks/NAME.png; the image shows the mask."""
    for kind in ('images', 'masks'):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    image = image if image is not None else np.stack([disc() * 200] * 3, axis=-1)
    options = {}
    if exif:
        tags = Image.Exif()
        tags[0x0112] = exif
        options['exif'] = tags
    Image.fromarray(image).save(folder / 'images' / f'{name}.png', **options)
    picture = Image.fromarray(mask, mode) if mode else Image.fromarray(mask)
    if mode == 'P':
        picture.putpalette([0, 0, 0, 255, 0, 0])
    picture.save(folder / 'masks' / f'{name}.png')


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    config = unet_folder.get_config()
    config.data.update({'dir': str(tmp_path / 'own'), 'image_size': 8, 'test_share': 0.3})
    config.model.multipliers = (1, 2)
    return config


@pytest.fixture
def own(tmp_path):
    folder = tmp_path / 'own'
    folder.mkdir()
    return folder


def known(config):
    """The configuration with what the data tell."""
    return filled(config, make_task(config).open_values())


def test_binary_masks_are_background_and_foreground(config, own):
    for number in range(12):
        add(own, f'photo {number}', disc() * 255)
    found = known(config).data
    assert (found.classes, found.mask_values) == (['background', 'foreground'], ['0', '255'])
    assert found.ignore_values == [] and len(found.colors) == 2
    train, test = data.load(found, 'train'), data.load(found, 'test')
    assert 0 < len(test['labels']) < 12 == len(train['labels']) + len(test['labels'])
    for labels in (*train['labels'], *test['labels']):
        np.testing.assert_array_equal(labels, disc(8, 8))


def test_more_pictures_move_none_between_the_parts(config, own):
    for number in range(12):
        add(own, str(number), disc())
    before = data.find(known(config).data).parts
    for number in range(12, 20):
        add(own, str(number), disc())
    after = data.find(known(config).data).parts
    for part in ('train', 'test'):
        assert set(before[part].names) <= set(after[part].names)
        kept = [name for name in after[part].names if name in before[part].names]
        assert kept == list(before[part].names)  # Nor does it change their order.


@pytest.mark.parametrize(
    'mode, mask, values',
    [
        ('P', disc(), ['0', '1']),
        (None, disc().astype(np.uint16) * 300, ['0', '300']),
        (None, np.stack([disc() * 255] * 3, -1), ['0', '255']),
        (None, np.stack([disc() * 255, disc() * 0, disc() * 0], -1), ['0', '#ff0000']),
        (None, disc().astype(bool), ['0', '255']),
    ],
)
def test_masks_of_every_form_are_read(config, own, mode, mask, values):
    for name in 'abcdef':
        add(own, name, mask, mode=mode)
    found = known(config).data
    assert found.mask_values == values
    np.testing.assert_array_equal(data.load(found, 'train')['labels'][0], disc(8, 8))


def test_classes_json_is_applied(config, own):
    mask = disc() * 4
    mask[-1] = 255
    for name in 'abcdef':
        add(own, name, mask)
    content = {
        'classes': [
            {'name': 'sky', 'value': 0, 'color': '#0000ff'},
            {'name': 'cat', 'value': 4, 'color': '#ff0000'},
            {'name': 'dog', 'value': 5, 'color': '#00ff00'},
        ]
    }
    (own / 'classes.json').write_text(json.dumps(content), encoding='utf-8-sig')  # As Windows writes it.
    found = known(config).data
    assert found.classes == ['sky', 'cat', 'dog'] and found.mask_values == ['0', '4', '5']
    assert found.colors == ['#0000ff', '#ff0000', '#00ff00'] and found.ignore_values == ['255']
    labels = data.load(found, 'train')['labels'][0]
    assert {*np.unique(labels)} == {0, 1, 255} and (labels[-1] == 255).all()


@pytest.mark.parametrize('mode', ['P', None])
def test_described_colours_are_values_where_masks_are_coloured(config, own, mode):
    mask = disc() if mode else np.stack([disc() * 255, disc() * 0, disc() * 0], -1)
    for name in 'abcdef':
        add(own, name, mask, mode=mode)
    classes = [{'name': 'cat', 'color': '#ff0000'}, {'name': 'sky', 'color': '#000000'}]
    if mode:
        classes = [entry | {'value': entry['color']} for entry in classes]
    (own / 'classes.json').write_text(json.dumps({'classes': classes}))
    found = known(config).data
    assert found.mask_values == (['#ff0000', '#000000'] if mode else ['#ff0000', '0'])
    np.testing.assert_array_equal(data.load(found, 'train')['labels'][0], 1 - disc(8, 8))


@pytest.mark.parametrize(
    'content',
    [
        '[',
        '{}',
        '{"classes": [{"value": 1}]}',
        '{"classes": [{"name": "a", "value": 1}, {"name": "b"}]}',
        '{"classes": [{"name": "a", "value": 1}, {"name": "b", "value": 1}]}',
        '{"classes": [{"name": "a", "color": "red"}, {"name": "b", "color": "blue"}]}',
    ],
)
def test_description_that_is_wrong_is_named(config, own, content):
    add(own, 'a', disc())
    (own / 'classes.json').write_text(content)
    with pytest.raises(UserError, match='classes.json'):
        known(config)


@pytest.mark.parametrize('turned_mask', [True, False])
def test_mask_is_turned_with_its_photo_or_upright_already(config, own, turned_mask):
    upright = disc(8, 12)
    stored = np.rot90(upright, 1)  # EXIF 6 turns it clockwise.
    image = np.stack([stored * 200] * 3, axis=-1)
    for name in 'abcdef':
        add(own, name, np.ascontiguousarray(stored if turned_mask else upright), image, exif=TURN_RIGHT)
    found = data.find(known(config).data).parts['train']
    example = found.read(0)
    np.testing.assert_array_equal(example['segmentation_mask'][..., 0], upright)
    np.testing.assert_array_equal(example['image'][..., 0], upright * 200)
    assert example['notes'] == [
        f'the picture is turned by EXIF orientation 6, its mask {"with it" if turned_mask else "is upright"}'
    ]


def test_mask_that_fits_either_way_is_taken_as_upright(config, own):
    mask = disc(8, 8)
    for name in 'abcdef':
        add(own, name, mask, np.stack([np.rot90(mask) * 200] * 3, axis=-1), exif=TURN_RIGHT)
    example = data.find(known(config).data).parts['train'].read(0)
    np.testing.assert_array_equal(example['segmentation_mask'][..., 0], mask)
    np.testing.assert_array_equal(example['image'][..., 0], mask * 200)
    assert 'though it fits either way' in example['notes'][0]


@pytest.mark.parametrize('mask', [disc(8, 12), disc(6, 4)])
def test_mask_of_another_size_names_its_example(config, own, mask):
    config.data.mask_values, config.data.test_share = ('0', '1'), 0.0
    add(own, 'a', disc())
    add(own, 'wrong', mask)
    with pytest.raises(
        UserError,
        match=rf'example \d of .*own \(train\), images/wrong.png: its mask is '
        rf'{mask.shape[1]}x{mask.shape[0]} pixels, the picture 12x8',
    ):
        data.load(known(config).data, 'train')


def test_decoded_copies_follow_the_folder(config, own):
    config.data.update({'mask_values': ('0', '1'), 'test_share': 0.0})
    for name in 'ab':
        add(own, name, disc())
    found = known(config).data
    assert data.load(found, 'train')['labels'].sum() == 2 * 16
    add(own, 'a', disc() * 0 + 1)
    assert data.load(found, 'train')['labels'].sum() == 64 + 16
    add(own, 'c', disc())
    assert len(data.load(found, 'train')['labels']) == 3
    (own / 'images' / 'a.png').unlink()
    (own / 'masks' / 'a.png').unlink()
    assert data.load(found, 'train')['labels'].sum() == 2 * 16


def test_pictures_and_masks_without_the_other_are_named(config, own):
    for name in 'abc':
        add(own, name, disc())
    (own / 'masks' / 'a.png').unlink()
    (own / 'images' / 'b.png').unlink()
    problems = data.find(config.data).problems
    assert [problem.split('own/')[1].split(':')[0] for problem in problems] == ['images/a.png', 'masks/b.png']
    config.data.mask_values = ('0', '1')
    with pytest.raises(UserError, match='a.png: it has no mask .*; and 1 more; --mode=data lists'):
        data.load(known(config).data, 'train')


def test_mask_that_lost_its_values_is_refused(config, own):
    for name in 'ab':
        add(own, name, disc())
    Image.fromarray(disc()).save(own / 'masks' / 'b.jpg')
    (own / 'masks' / 'b.png').unlink()
    problems = data.find(config.data).problems
    assert any('b.jpg: it does not end in .png' in problem for problem in problems)


def test_train_and_test_folders_are_the_parts(config, own):
    for part, names in {'train': 'abc', 'test': 'de'}.items():
        for name in names:
            add(own / part, name, disc())
    found = known(config).data
    assert [len(data.load(found, split)['labels']) for split in ('train', 'test')] == [3, 2]
    assert {name for name in data.find(found).parts['test'].names} == {'test/images/d.png', 'test/images/e.png'}


@pytest.mark.parametrize(
    'values, message',
    [
        ({'data.dir': ''}, 'data.dir is empty'),
        ({'data.dir': 'nowhere'}, 'which is no folder'),
        ({'data.test_share': 1.5}, 'data.test_share is 1.5'),
    ],
)
def test_folder_that_is_none_is_refused(config, own, values, message):
    add(own, 'a', disc())
    with pytest.raises(UserError, match=message):
        known(filled(config, values))


def test_folder_of_another_layout_is_explained(config, own):
    with pytest.raises(UserError, match='has no folders images and masks; .* must hold'):
        known(config)


def test_balanced_weights_are_inverse_to_the_shares(config, own):
    config.class_weights = 'balanced'
    for name in 'abcdef':
        add(own, name, disc())
    weights = make_task(known(config)).weights
    np.testing.assert_allclose(weights, (64 / (2 * 48), 64 / (2 * 16)), rtol=1e-4)


def test_unpacked_archives_of_the_pets_are_taken_as_they_are(config, own):
    config.data.update({'name': 'oxford_iiit_pet', 'manual_dir': str(own), 'mask_values': ('0', '1')})
    assert folders.unpacked_pets(own) is None
    for number, name in enumerate(('Beagle_1', 'Sphynx_2', 'Pug_3')):
        add(own, name, disc(), np.full((8, 12, 3), number, np.uint8))
        (own / 'images' / f'{name}.png').rename(own / 'images' / f'{name}.jpg')
    (own / 'annotations').mkdir()
    (own / 'masks').rename(own / 'annotations' / 'trimaps')
    (own / 'annotations' / 'trainval.txt').write_text('# A list\nSphynx_2 2 1 1\nBeagle_1 1 2 1\n')
    (own / 'annotations' / 'test.txt').write_text('Pug_3 3 2 2\n')
    train, test = (data.load(known(config).data, split) for split in ('train', 'test'))
    assert test['image'][:, 0, 0, 0].tolist() == [2]
    assert train['image'][:, 0, 0, 0].tolist() == [0, 1]  # Not in the order of the list, which is by breed.
    (own / 'images' / 'Pug_3.jpg').unlink()
    with pytest.raises(UserError, match='Pug_3.jpg: it is missing'):
        data.load(known(config).data, 'train')


def test_state_of_files_changes_with_each_of_them(own):
    paths = [own / name for name in 'ab']
    for path in paths:
        path.write_text('one')
    before = common_folders.state(paths)
    assert common_folders.state(paths) == before != common_folders.state(paths[:1])
    paths[0].write_text('two')  # As many bytes as before.
    os.utime(paths[0], ns=(0, before[0][2] + 1))
    assert common_folders.state(paths) != before


def test_stored_mask_of_another_size_is_a_fault():
    """As a data set of TFDS may have it."""
    example = {'image': np.zeros((8, 12, 3), np.uint8), 'segmentation_mask': disc(8, 12)[..., None]}
    with pytest.raises(Fault, match='its mask is 8x12 pixels, the picture 12x8'):
        data.decode_example(example, size=8, values=('0', '1'), ignored=())
