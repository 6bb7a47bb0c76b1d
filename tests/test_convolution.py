"""The convolution's other forms on a CPU are the library's function, with its gradients, and stay on the CPU."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common.convolution import conv

NAMES = ('NHWC', 'HWIO', 'NHWC')
CHANNELS = [(1, 8), (8, 1), (1, 1), (3, 16), (16, 3), (16, 8), (8, 16)]
OPTIONS = {'window_strides': (1, 1), 'padding': 'SAME', 'dimension_numbers': NAMES}
ours = functools.partial(conv, **OPTIONS)
library = functools.partial(jax.lax.conv_general_dilated, **OPTIONS)


def draw(inputs, outputs, side=3, dtype=jnp.float32):
    rng = np.random.default_rng(0)
    shapes = (2, 5, 7, inputs), (side, side, inputs, outputs), (2, 5, 7, outputs)
    return [jnp.asarray(rng.normal(size=shape), dtype) for shape in shapes]


def value_and_gradients(form, images, kernel, weights):
    value, backward = jax.vjp(form, images, kernel)
    return value, *backward(weights)


@pytest.mark.parametrize('side', [1, 3, 5])
@pytest.mark.parametrize('inputs, outputs', CHANNELS)
def test_value_and_gradients_are_the_library_s(inputs, outputs, side):
    arrays = draw(inputs, outputs, side)
    for found, expected in zip(value_and_gradients(ours, *arrays), value_and_gradients(library, *arrays), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('inputs, outputs', CHANNELS)
def test_bfloat16_stays_bfloat16_and_as_exact(inputs, outputs):
    arrays = draw(inputs, outputs, dtype=jnp.bfloat16)
    exact = value_and_gradients(library, *(array.astype(jnp.float32) for array in arrays))
    for found, expected in zip(value_and_gradients(ours, *arrays), exact, strict=True):
        assert found.dtype == jnp.bfloat16
        np.testing.assert_allclose(found.astype(jnp.float32), expected, rtol=1e-2, atol=1e-2 * np.abs(expected).max())


@pytest.mark.parametrize('inputs, outputs', CHANNELS)
def test_other_devices_compute_it_as_the_library_does(inputs, outputs):
    def products(form, platform):
        """What is multiplied, in the program for a platform."""
        traced = jax.jit(functools.partial(value_and_gradients, form)).trace(*draw(inputs, outputs))
        lines = traced.lower(lowering_platforms=(platform,)).as_text().splitlines()
        multiplying = (line for line in lines if 'convolution(' in line or 'dot_general ' in line)
        return sorted(re.sub(r'%\w+', '', line).strip() for line in multiplying)

    for platform in ('cuda', 'tpu'):
        assert products(ours, platform) == products(library, platform)
    if (inputs, outputs) != (8, 16):
        assert products(ours, 'cpu') != products(library, 'cpu')


@pytest.mark.parametrize('strides, padding, shape', [
    ((2, 2), 'SAME', (3, 3, 5, 2)), ((1, 1), 'VALID', (3, 3, 5, 2)), ((1, 1), 'SAME', (3, 5, 5, 2)),
    ((1, 1), 'SAME', (2, 2, 5, 2))])
def test_what_it_is_not_for_is_refused(strides, padding, shape):
    with pytest.raises(ValueError, match='not for strides'):
        conv(jnp.zeros((1, 8, 8, 5)), jnp.zeros(shape), strides, padding)
