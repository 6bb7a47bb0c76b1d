"""Segmentation losses per example; the caller takes the mean."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp


def cross_entropy(
    *, logits: jax.Array, labels: jax.Array, weights: Sequence[float] = (), ignores: bool = False
) -> jax.Array:
    """Mean cross-entropy over the pixels of each image, in nats.

    Args:
        logits: `[B, H, W, C]`.
        labels: integers `[B, H, W]` in `[0, C)`.
        weights: by which the pixels of each class are multiplied, `[C]`; () for 1 each. The sum is divided by the
            number of pixels, not of weights, so that an image full of a rare class counts more.
        ignores: whether labels from C on are ignored: the mean is over the other pixels, and 0 without any.
    Returns:
        `[B]`.
    """
    check_shapes(logits, labels)
    # A product with one-hot labels instead of a gather, whose gradient is a slow scatter.
    targets = one_hot(logits, labels)
    if len(weights):
        targets = targets * jnp.asarray(weights, logits.dtype)[None, None, None]
    log_likelihood = jnp.sum(jax.nn.log_softmax(logits) * targets, axis=-1)
    if not ignores:
        return -jnp.mean(log_likelihood, axis=(1, 2))
    counted = jnp.sum(labels < logits.shape[-1], axis=(1, 2)).astype(logits.dtype)
    return -jnp.sum(log_likelihood, axis=(1, 2)) / jnp.maximum(counted, 1)


def dice(*, logits: jax.Array, labels: jax.Array, weights: Sequence[float] = (), ignores: bool = False) -> jax.Array:
    """One minus the soft Dice coefficient of each image, averaged over the classes present in it.

    Milletari et al. 2016 (V-Net, arXiv:1606.04797), without squares in the denominator as in Sudre et
    al. 2017 (arXiv:1707.03237). The coefficient is computed for each image alone, so it does not depend on the
    batch. Classes that are absent from an image are left out of its average.

    Args and returns as for `cross_entropy`, without weights; values are in `[0, 1]`, 0 for a perfect prediction.
    """
    if len(weights):
        raise ValueError('the Dice loss takes no weights of classes')
    check_shapes(logits, labels)
    probabilities, targets = jax.nn.softmax(logits), one_hot(logits, labels)
    if ignores:
        probabilities = probabilities * (labels < logits.shape[-1])[..., None].astype(logits.dtype)
    overlap = jnp.sum(probabilities * targets, axis=(1, 2))
    size = jnp.sum(targets, axis=(1, 2))
    total = jnp.sum(probabilities, axis=(1, 2)) + size
    coefficient = 2 * overlap / jnp.maximum(total, 1e-6)  # 0 for an absent class, whose overlap is 0.
    present = jnp.sum(size > 0, axis=-1).astype(logits.dtype)
    # Where all pixels are ignored, no class is present.
    return jnp.where(present > 0, 1 - jnp.sum(coefficient, axis=-1) / jnp.maximum(present, 1), 0)


def check_shapes(logits: jax.Array, labels: jax.Array) -> None:
    if logits.ndim != 4 or labels.shape != logits.shape[:-1]:
        raise ValueError(f'logits {logits.shape} need labels of shape {logits.shape[:-1]}, not {labels.shape}')


def one_hot(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype)


LOSSES = {'cross_entropy': cross_entropy, 'dice': dice}
