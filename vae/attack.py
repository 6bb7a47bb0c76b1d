"""Adversarial changes to images, for classifiers that are to be robust against them."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

START, STEP = 0.5, 1.25  # Lengths of the random start and of the step, in radii.


def attacked(
    nll: Callable[[jax.Array], jax.Array], images: jax.Array, directions: jax.Array, radius: float
) -> jax.Array:
    """Images changed within `radius`, in the L2 norm of all pixels of an image, so that `nll` rises: `[B, H, W, C]`.

    One step along the gradient from a random start, projected back to the ball (Wong et al. 2020, arXiv:2001.03994,
    there in the L-infinity norm). No gradient passes through the result. Values are not clipped to `[0, 1]`.

    Args:
        nll: the loss `[B]` of images `[B, H, W, C]`, each image's by itself.
        directions: of the random starts, `[B, H, W, C]`, of any length but 0.
    """
    start = START * radius * unit(directions)
    change = start + STEP * radius * unit(jax.grad(lambda x: jnp.sum(nll(x)))(images + start))
    return jax.lax.stop_gradient(images + change * jnp.minimum(1, radius / length(change)))


def unit(images: jax.Array) -> jax.Array:
    """Each image scaled to length 1."""
    return images / length(images)


def length(images: jax.Array) -> jax.Array:
    """The L2 norm of each image, `[B, 1, 1, 1]`, above 0."""
    return jnp.maximum(jnp.sqrt(jnp.sum(jnp.square(images), axis=(1, 2, 3), keepdims=True)), 1e-12)
