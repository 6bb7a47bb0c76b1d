"""Placement of values on devices, and coordination of processes."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common import parallel
from common.errors import UserError
from common.parallel import Devices


@pytest.mark.parametrize('count', [1, 4])
def test_replicated_leaves_share_no_memory(count):
    devices, shared = Devices(jax.devices()[:count]), jnp.arange(1000.0)
    placed = devices.replicate({'params': shared, 'average': shared})
    addresses = [
        shard.data.unsafe_buffer_pointer() for leaf in jax.tree.leaves(placed) for shard in leaf.addressable_shards
    ]
    assert len({*addresses, shared.unsafe_buffer_pointer()}) == 2 * count + 1
    jax.tree.map(lambda leaf: np.testing.assert_array_equal(leaf, shared), placed)


def test_failure_of_the_first_process_reaches_the_others(monkeypatch):
    asked = []
    monkeypatch.setattr(parallel, 'largest', lambda value: asked.append(value) or value)
    with pytest.raises(ZeroDivisionError):
        parallel.on_first(lambda: 1 / 0)
    assert asked == [1]


def test_too_little_memory_is_reported_with_advice():
    with pytest.raises(UserError, match='too little memory.* lower batch_size'), parallel.joined(''):
        jnp.zeros((2**15, 2**15, 2**15))


@pytest.mark.parametrize('backend, own, kept', [('gpu', None, 'cache'), ('tpu', 'own', 'own'), ('cpu', None, None)])
def test_compilation_cache_is_set_only_on_accelerators(monkeypatch, backend, own, kept):
    before = jax.config.jax_compilation_cache_dir
    monkeypatch.setattr(jax, 'default_backend', lambda: backend)
    try:
        jax.config.update('jax_compilation_cache_dir', own)
        parallel.keep_compiled(pathlib.Path('cache'))
        assert jax.config.jax_compilation_cache_dir == kept
    finally:
        jax.config.update('jax_compilation_cache_dir', before)


def test_batch_is_split_in_order():
    index = np.arange(24).reshape(3, 8)
    np.testing.assert_array_equal(Devices().split(index)[1], index[:, 2:4])


@pytest.mark.parametrize('batch_size', [0, -4, 6])
def test_batch_that_does_not_divide_over_devices_is_refused(batch_size):
    with pytest.raises(UserError, match=f'batch_size {batch_size} .*4 devices; choose a multiple of 4'):
        Devices().check_batch(batch_size)
