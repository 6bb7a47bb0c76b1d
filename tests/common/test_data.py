"""Reading, decoding and ordering examples."""

import io
import os
import pathlib

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
from PIL import Image
import pytest
import tensorflow_datasets as tfds

from common import data
from common.errors import UserError
from unet.data import FEATURES, decode_example
from vae import data as vae_data

SIZES = st.integers(1, 30)


def example(mask, height=12, width=9):
    rng = np.random.default_rng(0)
    return {'image': rng.integers(0, 256, (height, width, 3), np.uint8), 'segmentation_mask': mask[..., None],
            'file_name': b'Abyssinian_34.jpg'}


def test_decoding_maps_the_trimap_to_classes():
    mask = np.random.default_rng(0).integers(1, 4, (8, 8), np.uint8)
    decoded = decode_example(example(mask, 8, 8), 8)
    np.testing.assert_array_equal(decoded['labels'], mask.astype(int) - 1)
    np.testing.assert_array_equal(decoded['image'], example(mask, 8, 8)['image'])
    assert decoded['labels'].dtype == decoded['image'].dtype == np.uint8


@pytest.mark.parametrize('size', [4, 7, 32])
def test_resizing_makes_no_new_label(size):
    mask = np.random.default_rng(0).choice([1, 3], (12, 9)).astype(np.uint8)
    decoded = decode_example(example(mask), size)
    assert decoded['image'].shape == (size, size, 3) and decoded['labels'].shape == (size, size)
    assert {*np.unique(decoded['labels'])} == {0, 2}


@given(height=SIZES, width=SIZES, size=SIZES, values=st.lists(st.integers(0, 255), min_size=2, max_size=2))
def test_resizing_invents_no_label_and_leaves_the_range_of_the_pixels(height, width, size, values):
    array = np.random.default_rng(0).choice(values, (height, width)).astype(np.uint8)
    assert {*np.unique(data.resize_labels(array, size))} <= {*np.unique(array)}
    image = data.resize_image(np.stack([array] * 3, axis=-1), size)
    assert image.shape == (size, size, 3)
    assert array.min() <= image.min() <= image.max() <= array.max()


@pytest.mark.parametrize('label', [-1, 10])
def test_label_out_of_range_names_the_example(label):
    image = np.zeros((4, 4, 1), np.uint8)
    with pytest.raises(UserError, match=f'seven has label {label}, not 0 to 9'):
        vae_data.decode_example({'image': image, 'label': label, 'id': b'seven'}, 4)


class PetsWithATruncatedPhotograph(tfds.core.GeneratorBasedBuilder):
    """Two pets; the second one's JPEG ends in the middle."""

    VERSION = tfds.core.Version('1.0.0')

    def _info(self):
        return self.dataset_info_from_configs(features=tfds.features.FeaturesDict({
            'image': tfds.features.Image(encoding_format='jpeg')}))

    def _split_generators(self, dl_manager):
        return {'train': self._generate_examples()}

    def _generate_examples(self):
        noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
        whole = io.BytesIO()
        Image.fromarray(noise).save(whole, 'JPEG')
        for number, end in enumerate((None, len(whole.getvalue()) // 2)):
            yield number, {'image': io.BytesIO(whole.getvalue()[:end])}


def test_truncated_photograph_is_named(config, tmp_path):
    config.data.update({'name': 'pets_with_a_truncated_photograph', 'dir': str(tmp_path)})
    with pytest.raises(UserError, match=r'example \d of pets_with_a_truncated_photograph.* cannot be read'):
        data.load(config.data, 'train', lambda example, size: example, {'image': (3,)})


@pytest.mark.parametrize('value', [0, 4])
def test_impossible_label_names_the_file(value):
    mask = np.full((12, 9), 2, np.uint8)
    mask[3, 4] = value
    with pytest.raises(UserError, match='Abyssinian_34.jpg'):
        decode_example(example(mask), 8)


@given(size=SIZES, batch_size=st.integers(1, 40), seed=st.integers(0, 5))
def test_every_epoch_holds_every_example_once(size, batch_size, seed):
    steps = -(-3 * size // batch_size)
    order = np.concatenate([data.batch_indices(seed, step, batch_size, size) for step in range(steps)])
    for epoch in range(3):
        np.testing.assert_array_equal(np.sort(order[epoch * size:(epoch + 1) * size]), np.arange(size))


def test_order_is_a_function_of_seed_and_step_alone():
    forwards = [data.batch_indices(0, step, 8, 20) for step in range(10)]
    backwards = [data.batch_indices(0, step, 8, 20) for step in reversed(range(10))]
    np.testing.assert_array_equal(forwards, backwards[::-1])
    halves = np.concatenate([data.batch_indices(0, step, 4, 20) for step in range(20)])
    np.testing.assert_array_equal(np.concatenate(forwards), halves)
    assert np.any(data.batch_indices(1, 0, 20, 20) != data.batch_indices(0, 0, 20, 20))
    assert np.any(data.batch_indices(0, 1, 20, 20) != data.batch_indices(0, 0, 20, 20))


@given(size=SIZES, batch_size=st.integers(1, 40))
def test_evaluation_covers_every_example_once(size, batch_size):
    batches = [*data.padded_batches(size, batch_size)]
    assert all(index.shape == valid.shape == (batch_size,) for index, valid in batches)
    assert all(np.all((index >= 0) & (index < size)) for index, _ in batches)
    np.testing.assert_array_equal(np.concatenate([index[valid] for index, valid in batches]), np.arange(size))


def test_decoded_copy_is_used_and_replaced_when_damaged(pets, tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    decoded = data.load(pets, 'test', decode_example, FEATURES)
    with monkeypatch.context() as patch:
        patch.setattr(data, 'decode_all', lambda *_: pytest.fail('the copy was not used'))
        again = data.load(pets, 'test', decode_example, FEATURES)
    (copy,) = (path for path in tmp_path.rglob('*') if path.is_file())
    content = copy.read_bytes()
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 1
    code = io.BytesIO()
    np.savez(code, image=np.array([object], dtype=object))  # A pickle, which could run anything.
    for damaged in (content[:len(content) // 2], b'', flipped, code.getvalue()):
        copy.write_bytes(damaged)
        mended = data.load(pets, 'test', decode_example, FEATURES)
        assert copy.read_bytes() == content
        for arrays in (again, mended):
            assert arrays.keys() == decoded.keys()
            for name in decoded:
                np.testing.assert_array_equal(arrays[name], decoded[name])


def test_decoded_copy_is_for_its_decoder_alone(pets, tmp_path, monkeypatch):
    def other_decoder(example, size):
        return {'image': decode_example(example, size)['image'] ^ 255}

    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    first, second = (data.load(pets, 'test', decode, FEATURES) for decode in (decode_example, other_decoder))
    np.testing.assert_array_equal(first['image'] ^ 255, second['image'])


@pytest.mark.skipif(os.getuid() == 0, reason='root may write anywhere')
def test_cache_that_cannot_be_written_costs_nothing_but_time(pets, tmp_path, monkeypatch):
    tmp_path.chmod(0o500)
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    assert len(data.load(pets, 'test', decode_example, FEATURES)['image']) == 256


def test_validation_examples_are_not_trained_on(pets):
    whole = data.load(pets, 'train', decode_example, FEATURES)['image']
    pets.validation_examples = 100
    train, validation = (data.load(pets, split, decode_example, FEATURES)['image'] for split in ('train', 'validation'))
    assert (len(train), len(validation)) == (412, 100)
    np.testing.assert_array_equal(np.concatenate([train, validation]), whole)
    assert not {image.tobytes() for image in train} & {image.tobytes() for image in validation}


@pytest.mark.parametrize('name', ['no_such_pets', 'oxford_iiit_pet'])
def test_data_set_that_is_not_there_says_how_to_get_it(config, tmp_path, monkeypatch, name):
    monkeypatch.setattr('urllib3.util.retry.Retry.sleep', lambda *_: None)
    config.data.update({'name': name, 'dir': str(tmp_path)})
    with pytest.raises(UserError, match=rf'{name}.*data\.dir.*data\.manual_dir.*:demo') as caught:
        data.load(config.data, 'train', decode_example, FEATURES)
    assert '\n' not in str(caught.value)


def test_data_of_another_kind_are_named(pets):
    with pytest.raises(UserError, match=r"synthetic_pets has other features .*'image': \(3,\)"):
        data.load(pets, 'train', decode_example, {'image': (1,), 'label': ()})


def test_split_without_examples_is_named(pets):
    pets.validation_examples = 512
    with pytest.raises(UserError, match='no examples.*data.validation_examples'):
        data.load(pets, 'train', decode_example, FEATURES)


def test_prepared_data_are_the_drawings(pets):
    from unet import synthetic
    pets.image_size = synthetic.SIZE
    labels = data.load(pets, 'test', decode_example, FEATURES)['labels']
    masks = [synthetic.example(synthetic.SEED, 'test', index)[1] for index in range(5)]
    assert {mask.tobytes() for mask in masks} <= {label.tobytes() for label in labels + np.uint8(1)}
    assert len(labels) == 256 and pathlib.Path(os.environ['TFDS_DATA_DIR']).is_dir()
