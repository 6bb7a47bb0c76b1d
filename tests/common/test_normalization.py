"""Batch normalisation is Flax's: outputs, gradients and statistics, on one device and on several."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common.layers.normalization import BatchNorm


def layers(**options):
    options = {'use_running_average': False, 'momentum': 0.9, 'dtype': jnp.float32, 'axis_name': None} | options
    return BatchNorm(**options), nn.BatchNorm(**options)


def draw(*shape, dtype=jnp.float32, mean=3.0):
    return jnp.asarray(np.random.default_rng(int(mean)).normal(mean, 2, shape), dtype)


def results(layer, x, weights):
    """Outputs, statistics, and gradients by images, scale and offset, of a random weighting of the outputs."""
    variables = {'params': {'scale': jnp.array([0.5, 2, -1]), 'bias': jnp.array([1.0, 0, 3])},
                 'batch_stats': {'mean': jnp.array([1.0, 2, 3]), 'var': jnp.array([2.0, 1, 3])}}

    def apply(x, params):
        y, updates = layer.apply(variables | {'params': params}, x, mutable=['batch_stats'])
        return y, updates

    y, backward, updates = jax.vjp(apply, x, variables['params'], has_aux=True)
    return y, updates, backward(weights)


def assert_close(found, expected, tolerance):
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert one.dtype == other.dtype
        one, other = (np.asarray(x, np.float32) for x in (one, other))
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance * np.abs(other).max())


@pytest.mark.parametrize('average', [False, True])
@pytest.mark.parametrize('dtype, tolerance', [(jnp.float32, 1e-4), (jnp.bfloat16, 2e-2)])
def test_results_are_those_of_flax(average, dtype, tolerance):
    x, weights = draw(4, 5, 6, 3, dtype=dtype), draw(4, 5, 6, 3, dtype=dtype, mean=0.0)
    ours, flax = layers(use_running_average=average, dtype=dtype)
    assert_close(results(ours, x, weights), results(flax, x, weights), tolerance)


def test_batch_over_several_devices_is_one_batch():
    x, weights = draw(2, 4, 5, 6, 3), draw(2, 4, 5, 6, 3, mean=0.0)
    (ours, _), (over, flax) = layers(), layers(axis_name='devices')
    parts = jax.vmap(functools.partial(results, over), axis_name='devices')(x, weights)
    assert_close(parts, jax.vmap(functools.partial(results, flax), axis_name='devices')(x, weights), 1e-4)
    y, updates, (by_x, by_params) = results(ours, *(a.reshape(8, 5, 6, 3) for a in (x, weights)))
    whole = y.reshape(x.shape), jax.tree.map(lambda a: jnp.stack([a, a]), updates), by_x.reshape(x.shape)
    assert_close((*parts[:2], parts[2][0]), whole, 1e-4)
    assert_close(jax.tree.map(lambda a: jnp.sum(a, 0), parts[2][1]), by_params, 1e-4)


def test_variables_start_as_flax_s():
    x = draw(2, 4, 4, 3)
    ours, flax = (layer.init(jax.random.key(0), x) for layer in layers(axis_name='devices'))
    assert jax.tree.structure(ours) == jax.tree.structure(flax)
    assert_close(ours, flax, 0)
