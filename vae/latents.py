"""Pictures from latents that no image has: between two images, and drawn at random."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

PAIRS = 6  # Pairs of images that are interpolated.


def interpolation(apply: Callable, features: jax.Array, labels: jax.Array, steps: int = 9) -> jax.Array:
    """From each image's latent to the next one's, under their own labels: `[pairs, steps, S, S, C]` in `[0, 1]`.

    Args:
        apply: the model's `apply` with its variables bound.
        features: of images, `[N, F]`. labels: the true ones, `[N]`.
    """
    mu = apply(features, labels, method='posterior').mu
    weights = jnp.linspace(0, 1, steps)[None, :, None]
    return apply((1 - weights) * mu[:-1, None][:PAIRS] + weights * mu[1:, None][:PAIRS], method='decode')


def samples(apply: Callable, features: jax.Array, classes: int, key: jax.Array, count: int = 10) -> jax.Array:
    """New images of each label: `[classes, count, S, S, C]` in `[0, 1]`.

    The prior does not depend on the label. Latents are therefore drawn from the Gaussian with the mean and covariance
    of the posteriors of `features` under each label, from the same random numbers for each label: a column of the
    result shows one style as every label.
    """

    def one(label):
        posterior = apply(features, jnp.full(len(features), label), method='posterior')
        covariance = jnp.cov(posterior.mu, rowvar=False, ddof=0)
        covariance += jnp.diag(jnp.mean(jnp.exp(posterior.log_var), axis=0))
        return jax.random.multivariate_normal(key, jnp.mean(posterior.mu, axis=0), covariance, (count,))

    return apply(jnp.stack([one(label) for label in range(classes)]), method='decode')
