"""Decoders whose channels the latent scales and shifts."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common.layers.default import Mode
from vae import networks


class Modulated(nn.Module):
    @nn.compact
    def __call__(self, x, code):
        return networks.modulate(x, code)


def test_modulation_starts_as_the_identity_and_is_linear_in_the_code():
    rng = np.random.default_rng(0)
    x, code, kernel, bias = (rng.normal(size=s).astype(np.float32) for s in ((2, 3, 4, 5), (2, 7), (7, 10), (10,)))
    variables = Modulated().init(jax.random.key(0), x, code)
    np.testing.assert_array_equal(Modulated().apply(variables, x, code), x)
    found = Modulated().apply({'params': {'Dense_0': {'kernel': kernel, 'bias': bias}}}, x, code)
    scale, shift = np.split(0.1 * (code @ kernel + bias), 2, axis=-1)
    np.testing.assert_allclose(found, x * (1 + scale[:, None, None]) + shift[:, None, None], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('name', networks.DECODERS)
def test_all_parameters_of_a_modulated_decoder_matter(name):
    decoder = networks.DECODERS[name](width=4, channels=1, size=8, mode=Mode(train=True), modulated=True)
    latents, keys = jax.random.normal(jax.random.key(0), (5, 3)), iter(jax.random.split(jax.random.key(1), 99))
    variables = decoder.init(jax.random.key(2), latents)
    moved = jax.tree.map(lambda x: x + 0.1 * jax.random.normal(next(keys), x.shape), variables['params'])

    @jax.jit
    def gradient(params):
        def loss(params):
            images, _ = decoder.apply(variables | {'params': params}, latents, mutable=['batch_stats'])
            return jnp.mean(jnp.sin(images))

        return jax.grad(loss)(params)

    plain = decoder.clone(modulated=False).init(jax.random.key(2), latents)['params']
    grads = gradient(moved)
    assert len(jax.tree.leaves(grads)) > len(jax.tree.leaves(plain))
    assert all(np.any(np.abs(leaf) > 1e-7) for leaf in jax.tree.leaves(grads))
