"""Latents of samples."""

import jax
import jax.numpy as jnp
import numpy as np

from vae import latents
from vae.model import Posterior


def test_samples_have_mean_and_covariance_of_the_posteriors():
    mixing = jnp.array([[2.0, 0, 0], [1, 1, 0], [-1, 0.5, 0.1]])
    features = jax.random.normal(jax.random.key(1), (64, 3)) @ mixing.T

    def apply(x, labels=None, *, method):
        return Posterior(x + labels[:, None], jnp.full_like(x, -1)) if method == 'posterior' else x

    samples = latents.samples(apply, features, 10, jax.random.key(0), 50_000)
    for label in (0, 7):
        np.testing.assert_allclose(samples[label].mean(0), features.mean(0) + label, atol=0.05)
        expected = np.cov(features.T, ddof=0) + np.exp(-1) * np.eye(3)
        np.testing.assert_allclose(np.cov(samples[label].T), expected, atol=0.1)
