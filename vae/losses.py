"""The terms of the conditional VAE's objective per example, in nats."""

import jax
import jax.numpy as jnp

MIN_LOG_SCALE = -6.0


def kl_divergence(*, mu: jax.Array, log_var: jax.Array) -> jax.Array:
    """KL(N(mu, exp(log_var)) || N(0, 1)) of latents `[B, Z]`, in closed form: `[B]`.

    Kingma & Welling 2014 (arXiv:1312.6114), appendix B.
    """
    check_same_shape(mu, log_var)
    return 0.5 * jnp.sum(jnp.square(mu) + jnp.exp(log_var) - 1 - log_var, axis=-1)


def gaussian_log_likelihood(*, images: jax.Array, mean: jax.Array, log_scale: jax.Array) -> jax.Array:
    """log N(images; mean, exp(log_scale)), summed over pixels and channels: `[B, H, W, C]` to `[B]`.

    Args:
        log_scale: scalar, shared by all pixels (sigma-VAE, Rybkin et al. 2020, arXiv:2006.13202).
    """
    check_same_shape(images, mean)
    squares = jnp.sum(jnp.square((images - mean) * jnp.exp(-log_scale)), axis=(1, 2, 3))
    pixels = images.size // images.shape[0]
    return -0.5 * squares - pixels * (log_scale + 0.5 * jnp.log(2 * jnp.pi))


def floored(log_scale: jax.Array) -> jax.Array:
    """A smooth lower bound on the log-scale, so that the likelihood stays finite."""
    return MIN_LOG_SCALE + jax.nn.softplus(log_scale - MIN_LOG_SCALE)


def label_nll(*, logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Negative log-likelihood of integer labels `[B]` under logits `[B, classes]`: `[B]`."""
    if labels.shape != logits.shape[:-1]:
        raise ValueError(f'logits {logits.shape} need labels of shape {logits.shape[:-1]}, not {labels.shape}')
    return -jnp.sum(jax.nn.log_softmax(logits) * jax.nn.one_hot(labels, logits.shape[-1]), axis=-1)


def check_same_shape(a: jax.Array, b: jax.Array) -> None:
    if a.shape != b.shape:
        raise ValueError(f'shapes do not match: {a.shape} and {b.shape}')
