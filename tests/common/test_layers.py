"""Layers compute one function on all platforms: on a CPU in forms of their own, elsewhere in those of Flax and lax."""

from collections import Counter
import functools
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common.layers import default, tpu

flax_max_pool = functools.partial(nn.max_pool, window_shape=(2, 2), strides=(2, 2))
CONVOLUTIONS = [(1, 8, 3, 6), (8, 1, 3, 6), (16, 3, 5, 6), (17, 16, 3, 6), (16, 3, 3, 7), (8, 16, 1, 6)]
# Inputs, outputs, side of the kernel, width of the images.


def draw(*shape, dtype=jnp.float32):
    return jnp.asarray(np.random.default_rng(sum(shape)).normal(size=shape), dtype)


def resize(x):
    return jax.image.resize(x, (x.shape[0], 2 * x.shape[1], 2 * x.shape[2], x.shape[3]), 'bilinear')


def conv(form):
    return lambda images, kernel: form(images, kernel, (1, 1), 'SAME', **default.PLAIN)


def value_and_gradients(function, *arrays):
    """The value, and the gradients of a random weighting of it."""

    @jax.jit
    def compiled(*arrays):
        value, backward = jax.vjp(function, *arrays)
        return value, *backward(draw(*value.shape, dtype=value.dtype))

    return compiled(*arrays)


def assert_same(found, expected, tolerance=1e-4):
    for one, other in zip(found, expected, strict=True):
        one, other = (np.asarray(x, np.float32) for x in (one, other))
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance * np.abs(other).max())


def flax_conv(form):
    layer = nn.Conv(2, (3, 3), use_bias=False, conv_general_dilated_cls=form)
    return lambda images, kernel: layer.apply({'params': {'kernel': kernel}}, images)


def transposed_conv(x, kernel, bias):
    layer = default.TransposedConv(len(bias) // 4)
    return layer.apply({'params': {'Dense_0': {'kernel': kernel, 'bias': bias}}}, x)


LAYERS = {
    'max_pool': (default.max_pool, flax_max_pool, [(8, 4, 6, 5)]),
    'bilinear_upsample': (default.bilinear_upsample, resize, [(8, 4, 6, 5)]),
    'transposed_conv': (transposed_conv, default.plain_transposed_conv, [(8, 4, 6, 5), (5, 12), (12,)]),
    'conv': (flax_conv(lambda: default.conv), flax_conv(None), [(2, 4, 6, 8), (3, 3, 8, 2)]),
}


@pytest.mark.parametrize('name', LAYERS)
def test_layers_have_the_values_and_gradients_of_plain_ones(name):
    layer, plain, shapes = LAYERS[name]
    arrays = [draw(*shape) for shape in shapes]
    assert_same(*(value_and_gradients(function, *arrays) for function in (layer, plain)))


def test_pooling_of_blocks_has_the_values_and_gradients_of_max_pool():
    x = draw(2, 4, 6, 5)
    assert_same(*(value_and_gradients(layer, x) for layer in (lambda x: tpu.max_pool(tpu.to_blocks(x)), flax_max_pool)))


def test_equally_large_pixels_of_a_block_share_the_gradient():
    block = jnp.array([3.0, 3.0, 2.0, 3.0])[None, None, None]
    np.testing.assert_allclose(jax.grad(lambda x: 6 * tpu.max_pool(x).sum())(block).ravel(), [2, 2, 0, 2])


@pytest.mark.parametrize('name', LAYERS)
def test_programs_for_accelerators_are_those_of_plain_layers(name):
    """Reads lowered programs: without an accelerator nothing else shows which form it would run."""
    layer, plain, shapes = LAYERS[name]

    def operations(function, platform):
        program = jax.jit(functools.partial(value_and_gradients, function)).trace(*(draw(*shape) for shape in shapes))
        found = re.findall(r'= "?stablehlo\.(\w+)', program.lower(lowering_platforms=(platform,)).as_text())
        return Counter(
            name for name in found if name not in ('case', 'constant', 'broadcast_in_dim')
        )  # Part of the choice.

    assert operations(layer, 'tpu') == operations(plain, 'tpu')
    assert operations(layer, 'cuda') == operations(plain, 'cuda')
    assert operations(layer, 'cpu') != operations(plain, 'cpu')


def test_transposed_conv_equals_flax_for_equal_biases():
    x, bias, layer = draw(2, 4, 6, 5), np.array([0.5, -1, 2], np.float32), default.TransposedConv(3)
    ((name, dense),) = layer.init(jax.random.key(0), x)['params'].items()
    assert name == 'Dense_0'  # As in checkpoints.
    kernel = dense['kernel'].reshape(5, 2, 2, 3).transpose(1, 2, 0, 3)[::-1, ::-1]
    found = layer.apply({'params': {name: {'kernel': dense['kernel'], 'bias': np.tile(bias, 4)}}}, x)
    expected = nn.ConvTranspose(3, (2, 2), (2, 2)).apply({'params': {'kernel': kernel, 'bias': bias}}, x)
    assert_same([found], [expected])


def test_transposed_conv_has_the_parameters_of_a_dense_layer():
    x = draw(2, 4, 6, 5)

    class Dense(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(12)(x)

    jax.tree.map(
        np.testing.assert_array_equal,
        *(layer.init(jax.random.key(0), x) for layer in (default.TransposedConv(3), Dense())),
    )


@pytest.mark.parametrize('inputs, outputs, side, width', CONVOLUTIONS)
def test_conv_has_the_values_and_gradients_of_lax(inputs, outputs, side, width):
    arrays = draw(2, 5, width, inputs), draw(side, side, inputs, outputs)
    assert_same(*(value_and_gradients(conv(form), *arrays) for form in (default.conv, jax.lax.conv_general_dilated)))


@pytest.mark.parametrize('inputs, outputs, side, width', CONVOLUTIONS[:4])
def test_conv_in_bfloat16_is_as_exact_as_that_of_lax(inputs, outputs, side, width):
    arrays = [draw(2, 5, width, inputs, dtype=jnp.bfloat16), draw(side, side, inputs, outputs, dtype=jnp.bfloat16)]
    found = value_and_gradients(conv(default.conv), *arrays)
    assert all(x.dtype == jnp.bfloat16 for x in found)
    expected = value_and_gradients(conv(jax.lax.conv_general_dilated), *(x.astype(jnp.float32) for x in arrays))
    assert_same(found, expected, 2e-2)


@pytest.mark.parametrize('options', [{'window_strides': (2, 2)}, {'padding': 'VALID'}, {'rhs_dilation': (2, 2)}])
def test_conv_leaves_other_options_to_lax(options):
    arrays = draw(2, 6, 6, 4), draw(3, 3, 4, 2)
    options = {'window_strides': (1, 1), 'padding': 'SAME', **default.PLAIN} | options
    np.testing.assert_array_equal(*(form(*arrays, **options) for form in (default.conv, jax.lax.conv_general_dilated)))


class Net(nn.Module):
    """All layers that have a form for CPU, in it."""

    @nn.compact
    def __call__(self, x):
        mode = default.Mode(train=False)
        x = default.max_pool(default.conv_norm_relu(x, 16, mode))
        x = default.bilinear_upsample(default.conv_norm_relu(x, 4, mode))
        return default.TransposedConv(3)(x)


def test_layers_work_mapped_over_devices_and_examples():
    net, images = Net(), draw(4, 2, 8, 8, 1)
    variables = jax.jit(net.init)(jax.random.key(0), images[0])

    def gradients(variables, images):
        return jax.lax.pmean(jax.grad(lambda v: jnp.mean(net.apply(v, images) ** 2))(variables), 'batch')

    results = [
        jax.jit(mapped(gradients, axis_name='batch', in_axes=(None, 0), out_axes=None))(variables, images)
        for mapped in (jax.pmap, jax.vmap)
    ]
    whole = jax.jit(jax.grad(lambda v: jnp.mean(net.apply(v, images.reshape(8, 8, 8, 1)) ** 2)))(variables)
    for result in results:
        assert_same(jax.tree.leaves(result), jax.tree.leaves(whole))


def test_layers_run_from_a_program_for_several_platforms():
    net, images = Net(), draw(2, 8, 8, 1)
    variables = jax.jit(net.init)(jax.random.key(0), images)
    program = jax.export.export(jax.jit(net.apply), platforms=('tpu', 'cuda', 'cpu'))(variables, images)
    assert_same([program.call(variables, images)], [jax.jit(net.apply)(variables, images)], 1e-6)
