"""Reading, decoding and keeping examples, whatever the data set."""

import functools
import io

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
from PIL import Image
import pytest
import tensorflow_datasets as tfds

from common.config import filled
from common.data import cache, images, prepared, source
from common.data.source import DataSet, Drawn, Fault, Source
from common.errors import UserError
from configs import classifier_folder
from main import make_task
from unet import data
from vae import data as vae_data

SIZES = st.integers(1, 30)


@given(height=SIZES, width=SIZES, size=SIZES, values=st.lists(st.integers(0, 255), min_size=2, max_size=2))
def test_resizing_keeps_labels_and_range(height, width, size, values):
    array = np.random.default_rng(0).choice(values, (height, width)).astype(np.uint8)
    assert {*np.unique(images.resize_labels(array, size))} <= {*np.unique(array)}
    image = images.resize_image(np.stack([array] * 3, axis=-1), size)
    assert image.shape == (size, size, 3)
    assert array.min() <= image.min() <= image.max() <= array.max()


def numbers(count, fault=None):
    """A data set whose examples are their own indices."""

    def draw(index):
        if index == fault:
            raise Fault('it is odd')
        return {'image': np.full((2, 2, 3), index, np.uint8), 'id': f'number {index}'}

    parts = {split: Source(split, Drawn(draw, count), ('numbers', split)) for split in ('train', 'test')}
    return DataSet('numbers', parts)


def decode(example, *, plus=0):
    return {'image': example['image'] + np.uint8(plus)}


class Config:
    name, image_size = 'numbers', 2


def loaded(split, held_out=0, plus=0, **options):
    return source.load(
        numbers(20, **options).split(split, held_out), functools.partial(decode, plus=plus), Config, split
    )['image'][:, 0, 0, 0]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch, request):
    if 'pets' not in request.fixturenames:
        monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))


def test_validation_examples_end_the_training_split():
    np.testing.assert_array_equal(loaded('train', 5), np.arange(15))
    np.testing.assert_array_equal(loaded('validation', 5), np.arange(15, 20))
    np.testing.assert_array_equal(loaded('test', 5), np.arange(20))


@pytest.mark.parametrize('split, held_out', [('train', 20), ('train', 21), ('validation', 20), ('validation', 0)])
def test_split_without_examples_is_named(split, held_out):
    with pytest.raises(UserError, match=f"numbers has no examples in split '{split}' .*data.validation_examples"):
        loaded(split, held_out)


def test_missing_test_split_is_named():
    train_only = DataSet('numbers', {'train': numbers(3).parts['train']})
    with pytest.raises(UserError, match=r"no examples in split 'test' \(it has 3 in 'train'\)"):
        train_only.split('test', 0)


def test_faulty_example_is_named_by_split_index_and_name():
    with pytest.raises(UserError, match=r'example 7 of numbers \(train\): it is odd.*--mode=data'):
        loaded('train', fault=7)
    with pytest.raises(UserError, match=r'example 3 of numbers \(test\), number 3: it cannot be decoded'):

        def fail(example):
            raise Fault('it cannot be decoded') if example['id'] == 'number 3' else KeyError

        source.decode_one(numbers(20).split('test', 0), fail, 3)


def test_decoded_copy_is_used_and_replaced_when_damaged(tmp_path, monkeypatch):
    decoded = loaded('test')
    with monkeypatch.context() as patch:
        patch.setattr(source, 'decode_all', lambda *_: pytest.fail('the copy was not used'))
        again = loaded('test')
    (copy,) = (path for path in tmp_path.rglob('*') if path.is_file())
    content = copy.read_bytes()
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 1
    code = io.BytesIO()
    np.savez(code, image=np.array([object], dtype=object))  # A pickle, which could run anything.
    for damaged in (content[: len(content) // 2], b'', flipped, code.getvalue()):
        copy.write_bytes(damaged)
        mended = loaded('test')
        assert copy.read_bytes() == content
        np.testing.assert_array_equal(again, decoded)
        np.testing.assert_array_equal(mended, decoded)


def test_decoded_copy_is_for_its_decoder_and_split_alone():
    assert [loaded('test', plus=plus)[0] for plus in (0, 1, 0)] == [0, 1, 0]
    assert [len(loaded('train', held_out)) for held_out in (1, 2, 1)] == [19, 18, 19]


def test_cache_that_cannot_be_written_costs_nothing_but_time(tmp_path, monkeypatch, capsys):
    (tmp_path / 'file').touch()
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'file'))  # Not even root can write below it.
    assert len(loaded('test')) == 20
    assert 'the decoded copy of the data was not kept' in capsys.readouterr().err


class PetsWithATruncatedPhotograph(tfds.core.GeneratorBasedBuilder):
    """Two pets; the second one's JPEG ends in the middle."""

    VERSION = tfds.core.Version('1.0.0')

    def _info(self):
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    'image': tfds.features.Image(encoding_format='jpeg'),
                    'segmentation_mask': tfds.features.Image(shape=(None, None, 1)),
                }
            )
        )

    def _split_generators(self, dl_manager):
        return {'train': self._generate_examples()}

    def _generate_examples(self):
        noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
        whole = io.BytesIO()
        Image.fromarray(noise).save(whole, 'JPEG')
        for number, end in enumerate((None, len(whole.getvalue()) // 2)):
            yield number, {'image': io.BytesIO(whole.getvalue()[:end]), 'segmentation_mask': noise[..., :1]}


def test_truncated_photograph_is_named(config, tmp_path):
    config.data.update({'name': 'pets_with_a_truncated_photograph', 'dir': str(tmp_path), 'mask_values': ('0', '1')})
    found = data.find(config.data)
    assert sorted(found.parts) == ['train'] and len(found.parts['train']) == 2
    with pytest.raises(UserError, match=r'example \d of pets_with_a_truncated_photograph \(train\): it cannot be read'):
        source.load(found.split('train', 0), functools.partial(decode), config.data, 'train')
    with pytest.raises(UserError, match=r"pets_with_a_truncated_photograph has other features .*'label': \(\)"):
        prepared.find(config.data, {'image': (3,), 'label': ()})


@pytest.mark.parametrize('name', ['no_such_pets', 'oxford_iiit_pet'])
def test_data_set_that_is_not_there_says_how_to_get_it(config, tmp_path, monkeypatch, name):
    monkeypatch.setattr('urllib3.util.retry.Retry.sleep', lambda *_: None)
    config.data.update({'name': name, 'dir': str(tmp_path)})
    with pytest.raises(UserError, match=rf'{name}.*data\.dir.*data\.manual_dir.*:demo') as caught:
        data.load(config.data, 'train')
    assert '\n' not in str(caught.value)


def test_data_set_that_cannot_be_opened_is_one_line(config, monkeypatch):
    """As where TFDS cannot reach a bucket."""

    def fail(*_, **__):
        raise RuntimeError('no such\nhost')

    monkeypatch.setattr(tfds, 'builder', fail)
    config.data.update({'name': 'oxford_iiit_pet', 'dir': 'gs://bucket/data'})
    with pytest.raises(UserError, match=r'oxford_iiit_pet in gs://bucket/data cannot be opened .*\(no such host\)'):
        data.find(config.data)


def test_drawn_pets_are_the_drawings(pets):
    from unet import synthetic

    labels = data.load(pets, 'test')['labels']
    masks = [synthetic.example(synthetic.SEED, 'test', index)[1] for index in range(3)]
    for mask, label in zip(masks, labels, strict=False):
        np.testing.assert_array_equal(images.resize_labels(mask, 16), label + np.uint8(1))
    assert len(labels) == 256


def test_cache_follows_its_identity():
    assert cache.path('a', (1,)) != cache.path('a', (2,)) and cache.path('a', (1,)) == cache.path('a', (1,))


class TinyFashion(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Two pictures for each of Fashion-MNIST's labels, stored as TFDS stores that data set."""

    name = 'tiny_fashion'
    VERSION = tfds.core.Version('3.0.1')

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {
                    'image': tfds.features.Image(shape=(28, 28, 1)),
                    'label': tfds.features.ClassLabel(names=['T-shirt/top', 'Trouser', 'Bag']),
                }
            ),
        )

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples() for split in ('train', 'test')}

    def _generate_examples(self):
        for number in range(6):
            yield number, {'image': np.full((28, 28, 1), 40 * number, np.uint8), 'label': number % 3}


def test_labelled_tfds_data_set_keeps_its_labels(tmp_path):
    TinyFashion(data_dir=tmp_path / 'data', file_format='array_record').download_and_prepare()
    config = classifier_folder.get_config()
    config.data.update({'name': 'tiny_fashion', 'dir': str(tmp_path / 'data'), 'image_size': 32})
    complete = filled(config, make_task(config).open_values())
    assert complete.data.classes == ['T-shirt/top', 'Trouser', 'Bag'] and len(complete.data.mean) == 1
    np.testing.assert_allclose(complete.data.mean, [100 / 255], atol=1e-4)
    arrays = vae_data.load(complete.data, 'test')
    np.testing.assert_array_equal(arrays['image'][:, 0, 0, 0] // 40 % 3, arrays['label'])
    config.data.update({'classes': ('a', 'b'), 'mean': (0.5,), 'std': (0.5,)})
    with pytest.raises(UserError, match=r'tiny_fashion has 3 labels, of which T-shirt/top, Trouser, Bag are not in'):
        vae_data.load(config.data, 'test')
