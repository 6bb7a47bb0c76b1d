"""Fast layers against the plain ones."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common.layers.blocks import Mode, TransposedConv, bilinear_upsample, conv_norm, max_pool, product


@pytest.fixture
def images():
    return jnp.asarray(np.random.default_rng(0).normal(2, 3, (8, 4, 6, 5)), jnp.float32)


def assert_same_function(one, other, x, **tolerance):
    """Compares outputs, and gradients with respect to `x` of a random weighting of the outputs."""
    (output, backward), (expected, expected_backward) = jax.vjp(one, x), jax.vjp(other, x)
    weights = jax.random.normal(jax.random.key(1), output.shape)
    np.testing.assert_allclose(output, expected, **tolerance)
    np.testing.assert_allclose(backward(weights)[0], expected_backward(weights)[0], **tolerance)


def test_max_pool_equals_flax(images):
    assert_same_function(max_pool, lambda x: nn.max_pool(x, (2, 2), (2, 2)), images)


def test_bilinear_upsample_equals_jax_image_resize(images):
    assert_same_function(bilinear_upsample, lambda x: jax.image.resize(x, (8, 8, 12, 5), 'bilinear'), images,
                         rtol=1e-5, atol=1e-5)


def test_transposed_conv_equals_flax(images):
    layer = TransposedConv(3, jnp.float32)
    params = layer.init(jax.random.key(0), images)['params']
    (name, dense), = params.items()
    bias = np.array([0.5, -1, 2], np.float32)
    params = {name: {'kernel': dense['kernel'], 'bias': np.tile(bias, 4)}}
    # [in, 4 F] to [2, 2, in, F]; flax convolves, so its kernel runs backwards.
    kernel = dense['kernel'].reshape(5, 2, 2, 3).transpose(1, 2, 0, 3)[::-1, ::-1]
    assert_same_function(
        lambda x: layer.apply({'params': params}, x),
        lambda x: nn.ConvTranspose(3, (2, 2), (2, 2)).apply({'params': {'kernel': kernel, 'bias': bias}}, x),
        images, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('dtype, tolerance', [(jnp.float32, 1e-5), (jnp.bfloat16, 2e-2)])
def test_product_has_the_gradients_of_flax(images, dtype, tolerance):
    params = nn.Dense(3).init(jax.random.key(0), images)
    found, expected = (jax.grad(lambda params, x, dense=dense: (dense.apply(params, x) ** 2).sum(), argnums=(0, 1))(
        params, images) for dense in (nn.Dense(3, dtype=dtype, dot_general=product), nn.Dense(3)))
    jax.tree.map(lambda found, expected: np.testing.assert_allclose(
        found, expected, rtol=tolerance, atol=tolerance * np.abs(expected).max()), found, expected)


def test_product_refuses_others(images):
    kernel = jnp.ones((5, 3))
    with pytest.raises(ValueError, match='not for dimensions'):
        product(images, kernel, (((0,), (0,)), ((), ())))
    with pytest.raises(ValueError, match='precision highest'):
        product(images, kernel, precision='highest')


class Layer(nn.Module):
    features: int
    kernel: int = 3
    stride: int = 1

    @nn.compact
    def __call__(self, x):
        return conv_norm(x, self.features, Mode(train=False), self.kernel, self.stride)


@pytest.mark.parametrize('layer, own', [(TransposedConv(3), 'matrix_product'), (Layer(3), 'same_size')])
def test_layers_are_computed_by_our_own_forms(images, layer, own):
    variables = layer.init(jax.random.key(0), images)
    assert f'name={own}' in str(jax.make_jaxpr(layer.apply)(variables, images))


@pytest.mark.parametrize('features, kernel, stride', [(3, 3, 1), (3, 1, 1), (7, 3, 1), (3, 3, 2)])
def test_convolution_has_the_gradients_of_flax(images, features, kernel, stride):
    layer, plain = Layer(features, kernel, stride), nn.Conv(features, (kernel, kernel), stride, use_bias=False)
    variables = layer.init(jax.random.key(0), images)

    def ours(weights):
        return layer.apply(variables | {'params': variables['params'] | {'Conv_0': {'kernel': weights}}}, images)

    def flax(weights):
        return plain.apply({'params': {'kernel': weights}}, images) / np.float32(np.sqrt(1 + 1e-5))

    assert_same_function(ours, flax, variables['params']['Conv_0']['kernel'], rtol=1e-4, atol=1e-4)
