"""Augmentation on the device, of image and mask together."""

from hypothesis import given
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common.augment import (
    cut_out,
    random_color,
    random_noise,
    random_sampling,
    reflect,
    resample_image,
    resample_labels,
    triangle_weights,
)
from common.keys import Keys

STILL = {'flip': False, 'scale': 0.0, 'aspect': 0.0, 'shift': 0.0}
MOVING = {'flip': True, 'scale': 0.3, 'aspect': 0.15, 'shift': 0.1}
GREY = {'brightness': 0.0, 'contrast': 0.0, 'saturation': 0.0}


@pytest.fixture
def image():
    return jnp.asarray(np.random.default_rng(0).uniform(0.2, 0.6, (16, 16, 3)), jnp.float32)


@pytest.fixture
def labels():
    return jnp.asarray(np.random.default_rng(1).integers(0, 3, (16, 16)), jnp.uint8)


def sampling(seed, output_size=16, **options):
    return random_sampling(jax.random.key(seed), input_size=16, output_size=output_size, **STILL | options)


def test_zero_strengths_return_the_input(image, labels):
    np.testing.assert_allclose(resample_image(image, sampling(0)), image, atol=1e-6)
    np.testing.assert_array_equal(resample_labels(labels, sampling(0)), labels)
    np.testing.assert_allclose(random_color(jax.random.key(0), image, **GREY), image, atol=1e-6)


def test_flip_mirrors_image_and_mask_together(image, labels):
    flipped = 0
    for seed in range(16):
        mirror = sampling(seed, flip=True)
        mask = resample_labels(labels, mirror)
        flips = bool(np.any(mask != labels))
        flipped += flips
        np.testing.assert_array_equal(mask, labels[:, ::-1] if flips else labels)
        expected = image[:, ::-1] if flips else image
        np.testing.assert_allclose(resample_image(image, mirror), expected, atol=1e-6)
    assert 2 < flipped < 14


def test_image_and_mask_are_resampled_together(config, tiny_task):
    labels = tiny_task.load('train')['labels'][:8]
    config.augment.update(GREY)
    batch = {'image': 255 * jax.nn.one_hot(labels, 3), 'labels': labels, 'index': np.arange(8)}
    images, moved = tiny_task.augment(batch, Keys(jax.random.key(0), 0), 16)
    assert np.mean(np.argmax(images, -1) == moved) > 0.95
    assert np.mean(labels == moved) < 0.9


@given(seed=st.integers(0, 2**31), size=st.sampled_from([8, 16, 24]))
def test_labels_stay_in_the_label_set(seed, size):
    labels = np.random.default_rng(seed).choice([0, 2], (16, 16)).astype(np.uint8)
    resampled = resample_labels(labels, sampling(seed, size, **MOVING))
    assert resampled.shape == (size, size) and resampled.dtype == np.uint8
    assert set(np.unique(resampled)) <= set(np.unique(labels))


@given(positions=st.lists(st.floats(0, 15, width=32), min_size=4, max_size=4), step=st.floats(0.25, 4, width=32))
def test_resampling_weights_sum_to_one(positions, step):
    weights = triangle_weights(jnp.array(positions), jnp.float32(step), 16)
    assert np.min(weights) >= 0
    np.testing.assert_allclose(jnp.sum(weights, axis=1), 1, rtol=1e-5)


@given(st.floats(-100, 100, width=32))
def test_reflection_stays_inside_the_image(position):
    inside = reflect(jnp.array([position, -1 - position]), 16)
    assert np.all((inside >= 0) & (inside <= 15))
    np.testing.assert_allclose(*inside, atol=1e-4)


def test_reflection_keeps_positions_inside():
    np.testing.assert_allclose(reflect(jnp.arange(16.0), 16), np.arange(16))
    np.testing.assert_allclose(reflect(jnp.array([-1.0, -2, 16, 17]), 16), [0, 1, 15, 14])


def test_same_key_gives_the_same_image(image):
    def changed(seed):
        return random_color(
            jax.random.key(seed),
            resample_image(image, sampling(seed, **MOVING)),
            brightness=0.2,
            contrast=0.2,
            saturation=0.2,
        )

    np.testing.assert_array_equal(changed(3), changed(3))
    assert np.abs(changed(3) - changed(4)).max() > 0.01


def test_zero_strength_keeps_a_property_of_the_geometry():
    for seed in range(4):
        no_flip, no_shift = (sampling(seed, **MOVING | {name: 0}) for name in ('flip', 'shift'))
        no_zoom, no_aspect = sampling(seed, scale=0.0, aspect=0.3), sampling(seed, scale=0.3)
        assert no_flip.cols[9] > no_flip.cols[7]
        np.testing.assert_allclose([no_shift.rows[7:9].mean(), no_shift.cols[7:9].mean()], 7.5, atol=1e-4)
        np.testing.assert_allclose(no_zoom.row_step * no_zoom.col_step, 1, rtol=1e-5)
        np.testing.assert_allclose(no_aspect.row_step, no_aspect.col_step, rtol=1e-6)
        assert abs(no_zoom.row_step - 1) > 1e-4 and abs(no_aspect.row_step - 1) > 1e-4


def test_zero_strength_keeps_a_property_of_the_colours(image):
    grey, key = jnp.mean(image, axis=-1), jax.random.key(0)
    brighter, contrasted, saturated = (random_color(key, image, **GREY | {name: 0.3}) for name in GREY)
    np.testing.assert_allclose(brighter / image, np.full(image.shape, (brighter / image)[0, 0, 0]), rtol=1e-5)
    np.testing.assert_allclose(jnp.mean(contrasted), jnp.mean(image), rtol=1e-5)
    np.testing.assert_allclose(jnp.mean(saturated, axis=-1), grey, rtol=1e-5)
    assert all(np.abs(changed - image).max() > 0.01 for changed in (brighter, contrasted, saturated))


@pytest.mark.parametrize('size', [8, 24, 32])
def test_resizing_equals_jax_image_resize(image, size):
    expected = jax.image.resize(image, (size, size, 3), 'linear', antialias=True)
    np.testing.assert_allclose(resample_image(image, sampling(0, size)), expected, atol=1e-5)


def test_noise_is_gaussian_with_one_strength_per_image():
    keys = jax.random.split(jax.random.key(0), 500)
    noise = jax.vmap(lambda key: random_noise(key, jnp.zeros((16, 16, 3)), 0.25))(keys)
    strengths = np.std(noise, axis=(1, 2, 3))
    assert 0 < strengths.min() < 0.01 and 0.24 < strengths.max() < 0.27
    assert np.mean(strengths) == pytest.approx(0.125, abs=0.01)
    scaled = noise / strengths[:, None, None, None]
    assert np.mean(scaled**4) == pytest.approx(3, abs=0.05)  # The kurtosis of a Gaussian.


@pytest.mark.parametrize('seed', range(5))
def test_cut_out_blanks_one_square(seed):
    image = jnp.ones((16, 16, 3))
    cut = np.asarray(cut_out(jax.random.key(seed), image, 0.5))
    rows, columns = (np.flatnonzero((cut[..., 0] == 0.5).any(axis)) for axis in (1, 0))
    assert (cut[np.ix_(rows, columns)] == 0.5).all() and (cut == 0.5).sum() == 3 * len(rows) * len(columns)
    for places in (rows, columns):  # Contiguous, half the side long unless the border cuts it off.
        assert 4 <= len(places) <= 8 and np.ptp(places) == len(places) - 1
        assert len(places) == 8 or {0, 15} & {*places}
