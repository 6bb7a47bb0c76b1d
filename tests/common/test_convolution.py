"""The convolution's other forms on a CPU are the library's function, with its gradients, and stay on the CPU."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common.layers.blocks import Mode
from common.layers.convolution import conv
from vae.networks import SmallDecoder, SmallEncoder

CHANNELS = [(1, 8), (8, 1), (1, 1), (3, 16), (16, 3), (16, 8), (8, 16), (16, 17), (17, 16)]
library = functools.partial(jax.lax.conv_general_dilated, window_strides=(1, 1), padding='SAME',
                            dimension_numbers=('NHWC', 'HWIO', 'NHWC'))


def draw(inputs, outputs, side=3, dtype=jnp.float32, width=6):
    rng = np.random.default_rng(0)
    shapes = (2, 5, width, inputs), (side, side, inputs, outputs), (2, 5, width, outputs)
    return [jnp.asarray(rng.normal(size=shape), dtype) for shape in shapes]


def value_and_gradients(form, images, kernel, weights):
    value, backward = jax.vjp(form, images, kernel)
    return value, *backward(weights)


@pytest.mark.parametrize('side, width', [(1, 6), (3, 6), (5, 6), (3, 7)])
@pytest.mark.parametrize('inputs, outputs', CHANNELS)
def test_value_and_gradients_are_the_library_s(inputs, outputs, side, width):
    arrays = draw(inputs, outputs, side, width=width)
    for found, expected in zip(value_and_gradients(conv, *arrays), value_and_gradients(library, *arrays), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('inputs, outputs', CHANNELS)
def test_mapped_over_kernels_and_compiled_it_is_the_library_s_too(inputs, outputs):
    images, kernel, weights = draw(inputs, outputs)
    kernels = jnp.stack([kernel, kernel[::-1]])
    for found, expected in zip(*(jax.jit(jax.vmap(functools.partial(value_and_gradients, form), (None, 0, None)))(
            images, kernels, weights) for form in (conv, library)), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('inputs, outputs', CHANNELS)
def test_bfloat16_stays_bfloat16_and_as_exact(inputs, outputs):
    arrays = draw(inputs, outputs, dtype=jnp.bfloat16)
    exact = value_and_gradients(library, *(array.astype(jnp.float32) for array in arrays))
    for found, expected in zip(value_and_gradients(conv, *arrays), exact, strict=True):
        assert found.dtype == jnp.bfloat16
        np.testing.assert_allclose(found.astype(jnp.float32), expected, rtol=1e-2, atol=1e-2 * np.abs(expected).max())


def program(function, platform, *arrays):
    """The lines that multiply, in the program for a platform."""
    lowered = jax.jit(function).trace(*arrays).lower(lowering_platforms=(platform,)).as_text()
    multiplying = [line for line in lowered.splitlines() if 'convolution(' in line or 'dot_general ' in line]
    return sorted(re.sub(r'%\w+', '', line).strip() for line in multiplying)


@pytest.mark.parametrize('width', [6, 7])
@pytest.mark.parametrize('inputs, outputs', CHANNELS)
def test_forms_are_other_than_the_library_s_on_a_cpu_alone_and_only_where_they_are_of_use(inputs, outputs, width):
    arrays = draw(inputs, outputs, width=width)
    pairs = max(inputs, outputs) <= 16 and width == 6
    for part, changed in enumerate([outputs <= 4 or inputs == 1 or pairs, inputs <= 4 or outputs == 1 or pairs,
                                    outputs < inputs]):
        def computed(form, platform, part=part):
            return program(lambda *arrays: value_and_gradients(form, *arrays)[part], platform, *arrays)

        assert (computed(conv, 'cpu') != computed(library, 'cpu')) == changed
        for platform in ('cuda', 'tpu'):
            assert computed(conv, platform) == computed(library, platform)


@pytest.mark.parametrize('network, shape', [
    (SmallEncoder(16, Mode(train=False)), (2, 28, 28, 1)), (SmallDecoder(16, 1, 28, Mode(train=False)), (2, 10))])
def test_first_and_last_layer_of_the_networks_for_digits_are_computed_by_it(network, shape):
    def convolutions(platform):
        lines = program(lambda x: network.init_with_output(jax.random.key(0), x)[0], platform, jnp.zeros(shape))
        return sum('convolution(' in line for line in lines)

    assert convolutions('cpu') == convolutions('cuda') - 1


@pytest.mark.parametrize('side, options', [
    (3, {'window_strides': (2, 2)}), (3, {'padding': 'VALID'}), (2, {}), (3, {'rhs_dilation': (2, 2)}),
    (3, {'lhs_dilation': (2, 2)}), (3, {'feature_group_count': 5}), (3, {'precision': 'highest'}),
    (3, {'dimension_numbers': jax.lax.conv_dimension_numbers((1,) * 4, (1,) * 4, ('NCHW', 'OIHW', 'NCHW'))})])
def test_what_it_is_not_for_is_refused(side, options):
    with pytest.raises(ValueError, match='not for strides'):
        conv(jnp.zeros((1, 8, 8, 5)), jnp.zeros((side, side, 5, 2)), **options)


def test_kernels_that_are_not_square_are_refused():
    with pytest.raises(ValueError, match=r'kernel \(3, 5, 5, 2\)'):
        conv(jnp.zeros((1, 8, 8, 5)), jnp.zeros((3, 5, 5, 2)))
