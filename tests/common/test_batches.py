"""The order of examples, and batches of them."""

from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest

from common.data import batches

SIZES = st.integers(1, 30)


@given(size=SIZES, batch_size=st.integers(1, 40), seed=st.integers(0, 5))
def test_every_epoch_holds_every_example_once(size, batch_size, seed):
    steps = -(-3 * size // batch_size)
    order = np.concatenate([batches.batch_indices(seed, step, batch_size, size) for step in range(steps)])
    for epoch in range(3):
        np.testing.assert_array_equal(np.sort(order[epoch * size : (epoch + 1) * size]), np.arange(size))


def test_checksum_tells_arrays_apart_that_differ_in_one_value():
    arrays = {'image': np.arange(24, dtype=np.uint8).reshape(2, 3, 4), 'label': np.array([3, 7])}
    kept = batches.checksum(arrays)
    assert batches.checksum(dict(reversed(arrays.items()))) == kept
    assert batches.checksum(arrays | {'image': np.asfortranarray(arrays['image'])}) == kept
    assert batches.checksum(arrays | {'image': arrays['image'] + np.uint8(arrays['image'] == 5)}) != kept
    assert batches.checksum(arrays | {'label': np.array([7, 3])}) != kept


def test_order_is_a_function_of_seed_and_step_alone():
    forwards = [batches.batch_indices(0, step, 8, 20) for step in range(10)]
    backwards = [batches.batch_indices(0, step, 8, 20) for step in reversed(range(10))]
    np.testing.assert_array_equal(forwards, backwards[::-1])
    halves = np.concatenate([batches.batch_indices(0, step, 4, 20) for step in range(20)])
    np.testing.assert_array_equal(np.concatenate(forwards), halves)
    assert np.any(batches.batch_indices(1, 0, 20, 20) != batches.batch_indices(0, 0, 20, 20))
    assert np.any(batches.batch_indices(0, 1, 20, 20) != batches.batch_indices(0, 0, 20, 20))


@given(size=SIZES, batch_size=st.integers(1, 40))
def test_evaluation_covers_every_example_once(size, batch_size):
    found = [*batches.padded_batches(size, batch_size)]
    assert all(index.shape == valid.shape == (batch_size,) for index, valid in found)
    assert all(np.all((index >= 0) & (index < size)) for index, _ in found)
    np.testing.assert_array_equal(np.concatenate([index[valid] for index, valid in found]), np.arange(size))


@pytest.mark.parametrize(
    'stats, expected', [(None, True), ({'bytes_limit': 1000}, True), ({'bytes_limit': 900}, False)]
)
def test_split_stays_on_the_device_up_to_a_share_of_its_memory(stats, expected):
    device = SimpleNamespace(memory_stats=lambda: stats)
    devices = SimpleNamespace(devices=[None, device], local_rows=[1])
    arrays = {'image': np.zeros((70, 4), np.uint8), 'label': np.zeros(4, np.int32)}  # 296 bytes.
    assert batches.DEVICE_SHARE == 0.3 and batches.fits(arrays, devices) == expected
