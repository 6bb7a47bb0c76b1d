"""The U-Net in its four variants."""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common.errors import UserError
from common.parallel import AXIS, Devices
from unet.losses import LOSSES
from unet.model import DOWN, UP, UNet

VARIANTS = [*product(DOWN, UP)]
PARAMETERS = {
    ('max_pool', 'transposed_conv'): 3700419,
    ('max_pool', 'upsample'): 3437859,
    ('strided_conv', 'transposed_conv'): 4484739,
    ('strided_conv', 'upsample'): 4222179,
}


@pytest.fixture
def images():
    return jnp.asarray(np.random.default_rng(0).normal(size=(2, 16, 16, 3)), jnp.float32)


@pytest.fixture
def labels():
    return jnp.asarray(np.random.default_rng(1).integers(0, 3, (2, 16, 16)))


def initialised(model, images):
    return jax.jit(model.init, static_argnames='train')(jax.random.key(0), images, train=False)


@pytest.mark.parametrize('size', [64, 240])
@pytest.mark.parametrize('variant', VARIANTS)
def test_output_shape_and_number_of_parameters(variant, size):
    model = UNet((32, 64, 128, 256, 256), 3, *variant)
    images = jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32)
    logits, variables = jax.eval_shape(lambda x: model.init_with_output(jax.random.key(0), x, False), images)
    assert (logits.shape, logits.dtype) == ((2, size, size, 3), jnp.float32)
    assert sum(p.size for p in jax.tree.leaves(variables['params'])) == PARAMETERS[variant]


@pytest.mark.parametrize('size', [(100, 96), (96, 100), (8, 16)])
def test_size_that_cannot_be_halved_is_refused(size):
    with pytest.raises(UserError, match='does not halve 4 times.*multiple of 16'):
        initialised(UNet((4,) * 5, 3), jnp.zeros((1, *size, 3)))


@pytest.mark.parametrize('variant', VARIANTS)
def test_initial_loss_is_the_entropy_of_three_classes(variant, images, labels):
    model = UNet((4, 8), 3, *variant)
    with jax.numpy_dtype_promotion('strict'):
        logits, _ = jax.jit(model.init_with_output, static_argnames='train')(jax.random.key(0), images, train=False)
        loss = LOSSES['cross_entropy'](logits=logits, labels=labels)
    np.testing.assert_allclose(loss, np.log(3), atol=0.05)


@pytest.mark.parametrize('variant', VARIANTS)
def test_every_parameter_gets_a_gradient(variant, images, labels):
    model = UNet((4, 8), 3, *variant)
    variables = initialised(model, images)

    @jax.jit
    @jax.grad
    def gradient(params):
        logits, _ = model.apply(variables | {'params': params}, images, train=True, mutable='batch_stats')
        return jnp.mean(LOSSES['cross_entropy'](logits=logits, labels=labels))

    gradients = jax.tree.leaves_with_path(gradient(variables['params']))
    assert not [path for path, g in gradients if not np.abs(g).max() > 1e-7]


def test_bfloat16_is_close_to_float32_and_returns_float32(images):
    variables = initialised(UNet((4, 8), 3), images)
    exact, rough = (
        jax.jit(UNet((4, 8), 3, dtype=dtype).apply, static_argnames='train')(variables, images, train=False)
        for dtype in (jnp.float32, jnp.bfloat16)
    )
    assert rough.dtype == jnp.float32 and np.any(exact != rough)
    np.testing.assert_allclose(exact, rough, atol=0.05)


@pytest.mark.parametrize('variant', [*zip(DOWN, UP, strict=True)])
def test_network_in_blocks_computes_the_same(variant, images, labels):
    """Training and evaluation: logits, gradients and running statistics, with the same variables."""
    plain = UNet((4, 6, 8), 3, *variant)
    variables = initialised(plain, images)
    noise = np.random.default_rng(2)
    variables = jax.tree.map(lambda x: x + np.float32(0.1) * noise.uniform(size=x.shape).astype('f'), variables)

    def outcome(model):
        @jax.jit
        def step(variables, images):
            def loss(params, train=True):
                logits, updates = model.apply(
                    variables | {'params': params}, images, train=train, mutable=['batch_stats']
                )
                return jnp.mean(LOSSES['cross_entropy'](logits=logits, labels=labels)), (logits, updates)

            return jax.grad(loss, has_aux=True)(variables['params']), loss(variables['params'], train=False)

        return step(variables, images)

    blocks = plain.clone(in_blocks=True)
    assert jax.tree.map(jnp.shape, initialised(blocks, images)) == jax.tree.map(jnp.shape, variables)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4 * np.abs(b).max()),
        outcome(blocks),
        outcome(plain),
    )


@pytest.mark.parametrize('in_blocks', [False, True])
def test_batch_statistics_are_synchronised_over_devices(images, in_blocks):
    model = UNet((4, 8), 3, axis_name=AXIS, in_blocks=in_blocks)
    images = jnp.concatenate([images, 2 * images + 1])
    variables, outcomes = initialised(model, images), []
    for count in (1, 4):
        step = Devices(jax.devices()[:count]).map(
            lambda variables, x: model.apply(variables, x, train=True, mutable='batch_stats'),
            in_axes=(None, 0),
            out_axes=(0, None),
        )
        logits, updates = step(variables, images.reshape(count, -1, 16, 16, 3))
        outcomes.append((logits.reshape(4, 16, 16, 3), *jax.tree.leaves(updates)))
    for one, four in zip(*outcomes, strict=True):
        np.testing.assert_allclose(one, four, rtol=1e-5, atol=1e-5)
