"""The page about a data set: what is wrong is named, what is in it is counted."""

import numpy as np
from PIL import Image
import pytest

from common.errors import UserError
from common.report import dataset
from configs import classifier_folder, unet_folder
from main import make_task

TURN_RIGHT = 6


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))


def add(folder, name, mask, image=None, exif=None):
    for kind in ('images', 'masks'):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    image = (
        np.random.default_rng(len(name) + ord(name[0])).integers(0, 255, (*mask.shape, 3), np.uint8)
        if (image is None)
        else image
    )
    tags = Image.Exif()
    if exif:
        tags[0x0112] = exif
    Image.fromarray(image).save(folder / 'images' / f'{name}.png', exif=tags)
    Image.fromarray(mask).save(folder / 'masks' / f'{name}.png')


@pytest.fixture
def faulty(tmp_path):
    """A folder of pets with one fault of each kind."""
    own, mask = tmp_path / 'own', np.arange(32, dtype=np.uint8).reshape(4, 8) % 2
    for part, names in {'train': 'abcdefghijkl', 'test': 'mno'}.items():
        for name in names:
            add(own / part, name, mask)
    train, test = own / 'train', own / 'test'
    (train / 'images' / 'a.png').write_bytes(b'nothing')
    Image.fromarray(mask[:2]).save(train / 'masks' / 'b.png')
    (train / 'masks' / 'c.png').unlink()
    (test / 'images' / 'm.png').unlink()
    (test / 'images' / 'n.png').write_bytes((train / 'images' / 'd.png').read_bytes())
    odd = mask.copy()
    odd[0, 0] = 7
    Image.fromarray(odd).save(train / 'masks' / 'e.png')
    add(train, 'f', mask, exif=TURN_RIGHT, image=np.zeros((8, 4, 3), np.uint8))
    (train / 'images' / 'old.tif').touch()
    (train / 'images' / 'notes.txt').touch()
    return own


def test_every_fault_is_named_once(faulty, tmp_path):
    config = unet_folder.get_config()
    config.data.update({'dir': str(faulty), 'image_size': 16, 'mask_values': ('0', '1'), 'classes': ('cat', 'dog')})
    path, count = dataset.write(make_task(config), tmp_path / 'page')
    text = (tmp_path / 'page' / 'data.md').read_text()
    wrong = text[text.index('## What is wrong') : text.index('## What is in it')].replace('&#95;', '_')
    for said in (
        'images/old.tif: it does not end in',
        'images/c.png: it has no mask',
        'masks/m.png: it has no picture',
        'train/images/a.png: it is not a JPEG',
        'train/images/b.png: its mask is 8x2 pixels, the picture 8x4',
        'test/images/n.png: the same picture is example',
        'train/images/e.png: 7 is no class',
        'class cat: 9 training examples',
        'class dog: 9 training examples',
    ):
        assert wrong.count(said) == 1, (said, wrong)
    assert count == wrong.count('\n* ') == 9
    assert 'train/images/f.png: the picture is turned by EXIF orientation 6, its mask is upright' in text
    assert path.exists() and not (tmp_path / 'page' / 'nothing').exists()


def test_folder_that_cannot_be_written_is_found_before_the_work(faulty, tmp_path, monkeypatch):
    config = unet_folder.get_config()
    config.data.dir = str(faulty)
    (tmp_path / 'page').touch()
    monkeypatch.setattr(dataset, 'look_at', lambda *_: pytest.fail('the pictures were read'))
    with pytest.raises(UserError, match='cannot write to .*page'):
        dataset.write(make_task(config), tmp_path / 'page')


def test_whole_data_set_is_described(tmp_path):
    own, mask = tmp_path / 'own', np.zeros((4, 8), np.uint8)
    mask[:, 6:] = 1
    for part, names in {'train': 'abcdefghijkl', 'test': 'mno'}.items():
        for name in names:
            add(own / part, name, mask, np.full((4, 8, 3), ord(name), np.uint8))
    config = unet_folder.get_config()
    config.data.update({'dir': str(own), 'image_size': 16})
    path, count = dataset.write(make_task(config), tmp_path / 'page')
    text = (tmp_path / 'page' / 'data.md').read_text()
    assert count == 0 and '0 faults' in text
    assert '| background | 0 | 75.00% | 12 | 75.00% | 3 |' in text
    assert '| foreground | 1 | 25.00% | 12 | 25.00% | 3 |' in text
    assert '| train | 12 | 8, 8, 8 | 4, 4, 4 | 2.00, 2.00, 2.00 |' in text
    assert f'{np.mean([*map(ord, "abcdefghijkl")]) / 255:.4f}' in text
    assert 'src="data:image/png' in path.read_text()


def test_refusal_by_the_data_alone_is_counted(tmp_path):
    mask = np.arange(144, dtype=np.uint8).reshape(12, 12)
    for part, names in {'train': 'abcdefghijkl', 'test': 'mno'}.items():
        for name in names:
            add(tmp_path / 'own' / part, name, mask, np.full((12, 12, 3), ord(name), np.uint8))
    config = unet_folder.get_config()
    config.data.update({'dir': str(tmp_path / 'own'), 'image_size': 16})
    _, count = dataset.write(make_task(config), tmp_path / 'page')
    text = (tmp_path / 'page' / 'data.md').read_text()
    assert count == 1 and '1 faults' in text and 'Nothing.' not in text.partition('## What is in it')[0]


def test_labels_are_counted(tmp_path):
    for label, count in {'ant': 12, 'bee': 3}.items():
        for part in ('train', 'test'):
            (tmp_path / 'own' / part / label).mkdir(parents=True)
            for number in range(count):
                pixels = np.full((4, 4, 3), number + 20 * (label == 'bee') + 40 * (part == 'test'), np.uint8)
                Image.fromarray(pixels).save(tmp_path / 'own' / part / label / f'{number}.png')
    config = classifier_folder.get_config()
    config.data.update({'dir': str(tmp_path / 'own'), 'image_size': 16})
    _, count = dataset.write(make_task(config), tmp_path / 'page')
    text = (tmp_path / 'page' / 'data.md').read_text()
    assert count == 1 and 'class bee: 3 training examples have it, fewer than 10' in text
    assert '| ant | 0 | 80.00% | 12 | 80.00% | 12 |' in text
