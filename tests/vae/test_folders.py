"""Own labelled pictures in folders, and labels that come from the data."""

import numpy as np
from PIL import Image
import pytest

from common.config import filled
from common.data.source import DataSet
from common.errors import UserError
from configs import classifier_folder
from main import make_task
from vae import data, folders


def add(folder, label, count, value=0, mode='RGB'):
    """Writes LABEL/0.png and so on: 4x4 pixels, half of them `value`, the others 255."""
    (folder / label).mkdir(parents=True, exist_ok=True)
    pixels = np.full((4, 4), 255, np.uint8)
    pixels[:2] = value
    for number in range(count):
        Image.fromarray(pixels).convert(mode).save(folder / label / f'{number}.png')


@pytest.fixture
def own(tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    folder = tmp_path / 'own'
    folder.mkdir()
    return folder


@pytest.fixture
def config(own):
    config = classifier_folder.get_config()
    config.data.update({'dir': str(own), 'image_size': 16, 'test_share': 0.3})
    return config


def known(config):
    """The configuration with what the data tell."""
    return filled(config, make_task(config).open_values())


def test_labels_mean_and_deviation_come_from_the_pictures(config, own):
    add(own, 'zebra', 8, 255)
    add(own, 'ant', 8, 255)
    add(own / 'ant', '.', 0)
    config.data.test_share = 0.0
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(own / 'ant' / 'black.png')
    found = known(config).data
    assert found.classes == ['ant', 'zebra']
    np.testing.assert_allclose(found.mean, [16 / 17] * 3, atol=1e-4)
    np.testing.assert_allclose(found.std, [np.sqrt(16) / 17] * 3, atol=1e-4)
    train = data.load(found, 'train')
    assert np.bincount(train['label']).tolist() == [9, 8] and train['image'].shape == (17, 16, 16, 3)


@pytest.mark.parametrize('stored, channels', [(1, 3), (3, 1), (1, 1), (3, 3)])
def test_pictures_get_the_channels_of_the_model(stored, channels):
    example = {'image': np.full((4, 6, stored), 7, np.uint8), 'label': 1}
    arrays = data.decode_example(example, size=8, channels=channels, numbers=(0, 1))
    np.testing.assert_array_equal(arrays['image'], np.full((8, 8, channels), 7))


def test_grey_pictures_have_one_channel(config, own):
    for label in ('a', 'b'):
        add(own, label, 5, 0, 'L')
    found = known(config).data
    assert len(found.mean) == 1 and data.load(found, 'train')['image'].shape[1:] == (16, 16, 1)
    add(own, 'c', 1, 0)
    assert len(known(config).data.mean) == 3


@pytest.mark.parametrize('labels', [2, 5, 26, 100])
def test_numbered_labels_are_in_the_order_of_their_numbers(config, own, labels):
    config.data.test_share = 0.0
    for label in range(labels):
        add(own, str(label), 1, label)
    config.class_weights = 'balanced'
    complete = known(config)
    assert complete.data.classes == [str(label) for label in range(labels)]
    arrays = data.load(complete.data, 'train')
    np.testing.assert_array_equal(arrays['image'][:, 0, 0, 0], arrays['label'])
    assert complete.class_weights == ','.join(['1'] * labels)


def test_equal_numbers_have_one_order():
    labels = {f'{"0" * zeros}7' for zeros in range(20)}  # So many are hardly in this order by chance.
    assert folders.in_order({'8', *labels}) == (*sorted(labels), '8')


def test_parts_are_folders_or_held_out(config, own):
    for part, count in {'train': 6, 'test': 3}.items():
        for label in ('a', 'b'):
            add(own / part, label, count)
    found = known(config).data
    assert [len(data.load(found, split)['label']) for split in ('train', 'test')] == [12, 6]
    add(own / 'test', 'c', 1)
    with pytest.raises(UserError, match='test/c: there is no .*train/c'):
        known(config)


@pytest.mark.parametrize('key', ['mean', 'std'])
def test_images_have_one_channel_or_three(config, own, key):
    config.data[key] = (0.5,) * 4
    with pytest.raises(UserError, match=f'data.{key} has 4 values; give one for grey images, three for colour'):
        make_task(config)


@pytest.mark.parametrize('labels', [[], ['a']])
def test_fewer_than_two_labels_are_refused(config, own, labels):
    for label in labels:
        add(own, label, 3)
    message = 'names 1 labels' if labels else 'holds no pictures with labels; it must hold LABEL'
    with pytest.raises(UserError, match=message):
        known(config)


def test_what_is_no_picture_is_named(config, own):
    for label in 'ab':
        add(own, label, 3)
    (own / 'lost.png').touch()
    (own / 'a' / 'notes.txt').touch()
    (own / 'a' / 'x.gif').touch()
    (own / 'c').mkdir()
    problems = data.find(config.data).problems
    assert [problem.split('own/')[1] for problem in problems] == [
        'a/x.gif: it does not end in .jpg or .jpeg or .png or .webp',
        'lost.png: it is in no folder of a label',
        'c: it holds no picture',
    ]


def test_links_are_followed_or_named(config, own, tmp_path):
    add(own, 'a', 3)
    add(tmp_path / 'elsewhere', '.', 3)
    (own / 'b').symlink_to(tmp_path / 'elsewhere')
    (own / 'gone').symlink_to(tmp_path / 'nowhere')
    (own / 'loop').symlink_to(own)
    found = data.find(config.data)
    assert found.labels == ('a', 'b')
    assert [problem.split('own/')[1].split(f'{tmp_path}')[0] for problem in found.problems] == [
        'gone: it links to a file that is not there',
        'loop: it links to ',
        'loop: it holds no picture',
    ]


def test_unreadable_picture_is_named(config, own):
    config.data.update({'mean': (0.5,) * 3, 'std': (0.5,) * 3, 'test_share': 0.0})
    for label in 'ab':
        add(own, label, 3)
    (own / 'b' / '1.png').write_bytes(b'no picture')
    with pytest.raises(UserError, match=r'example \d of .* \(train\), b/1.png: it is not a JPEG or PNG or WEBP file'):
        data.load(known(config).data, 'train')


@pytest.mark.parametrize(
    'classes, labels, expected',
    [
        (('a', 'b', 'c'), ('c', 'a', 'b'), (2, 0, 1)),
        (tuple('0123'), ('w', 'x', 'y', 'z'), (0, 1, 2, 3)),
        (tuple('01'), (), (0, 1)),
        (('a', 'b', 'c'), ('b',), (1,)),
    ],
)
def test_labels_are_matched_by_name_else_by_number(classes, labels, expected):
    assert data.class_numbers(classes, DataSet('own', {}, labels)) == expected


@pytest.mark.parametrize('labels, unknown', [(('x', 'y', 'z'), 'x, y, z'), (('b', 'z'), 'z')])
def test_other_labels_than_the_classes_are_refused(labels, unknown):
    match = rf'own has {len(labels)} labels, of which {unknown} are not in data.classes \(a, b\)'
    with pytest.raises(UserError, match=match):
        data.class_numbers(('a', 'b'), DataSet('own', {}, labels))


@pytest.mark.parametrize('classes, message', [(('a',), 'has one name'), (('a', 'b', 'a'), 'names a more than once')])
def test_classes_must_be_two_or_more_different_names(classes, message):
    config = classifier_folder.get_config()
    config.data.classes = classes
    with pytest.raises(UserError, match=message):
        make_task(config)
