"""What images under wrong labels have in common, and what they keep of their originals.

Every measure is computed from sums over the images of a split, so that it does not depend on the batches.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

LAYOUT_SIDE = 8  # Pixels a side of the low-pass images that `layout` compares.
COARSE_SIDE = 4  # Pixels a side of those that `coarse_difference` compares.
# Accelerators multiply float32 with fewer bits unless they are told not to.
einsum = functools.partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)


def batch_sums(*, originals: jax.Array, images: jax.Array, labels: jax.Array, valid: jax.Array) -> dict[str, jax.Array]:
    """Sums over a batch, for `metrics`.

    Args:
        originals: `[B, H, W, C]`. images: each original as each of K labels, `[K, B, H, W, C]`.
        labels: the true ones, int32 `[B]`, below K. valid: which images count, `[B]`.
    Returns:
        By true label, `count` `[K]`, and sums of the originals x: `image` `[K, H, W, C]`, `image_squares` `[K]` of
        |x|^2, `layout` `[K, F]`. By given label, sums of the difference d between an image of another label under the
        given one and its reconstruction under the true one: `change` `[K, H, W, C]`, `change_squares` `[K]` of |d|^2.
        By given and true label, sums of layouts, `given_layout` `[K, K, F]`, and of their products with those of the
        originals, `layout_products` `[K, K]`.
    """
    members = jax.nn.one_hot(labels, len(images)) * valid[:, None].astype(jnp.float32)
    changes = images - images[labels, jnp.arange(len(labels))][None]  # 0 under the true label.
    changes = jnp.where(valid[None, :, None, None, None], changes, 0)
    before, after = layout(originals), layout(images)
    return {
        'count': jnp.sum(members, axis=0).astype(jnp.int32),
        'image': einsum('bt,bhwc->thwc', members, originals),
        'image_squares': einsum('bt,bhwc->t', members, jnp.square(originals)),
        'layout': einsum('bt,bf->tf', members, before),
        'change': jnp.sum(changes, axis=1),
        'change_squares': jnp.sum(jnp.square(changes), axis=(1, 2, 3, 4)),
        'given_layout': einsum('gbf,bt->gtf', after, members),
        'layout_products': einsum('gbf,bf,bt->gt', after, before, members),
    }


def metrics(sums: dict[str, np.ndarray]) -> dict[str, float]:
    """What swaps share and keep, each beside a bound, from `batch_sums` summed over a split.

    `shared_change` of swaps, and `shared_change/real` of real images in their place; `kept` by swaps, and
    `kept/reconstruction` by reconstructions. Means over the labels that have one, or over images.
    """
    sums = {name: np.asarray(value, np.float64) for name, value in sums.items()}
    kept, kept_by_reconstruction = layout_kept(sums)
    return {
        'shared_change': mean_of_finite(shared_change(sums)),
        'shared_change/real': mean_of_finite(shared_change_of_real(sums)),
        'kept': kept,
        'kept/reconstruction': kept_by_reconstruction,
    }


def shared_change(sums: dict[str, Any]) -> np.ndarray:
    """The share of the change to a label that is the same in all images: `[K]`.

    It is |E d|^2 / E |d|^2: 1 where one stencil is added to every image, 0 where changes have nothing in common.
    |E d|^2 is estimated by the mean of d_i d_j over pairs i != j, (|sum d|^2 - sum |d|^2) / (n (n - 1)), which has no
    bias for any n, and may be below 0. NaN for fewer than two images, or where no image changes.
    """
    count, squares = np.sum(sums['count']) - sums['count'], sums['change_squares']
    return quotient(pair_products(sums['change'], squares, count), quotient(squares, count))


def shared_change_of_real(sums: dict[str, Any]) -> np.ndarray:
    """`shared_change` of swaps that are real images of the label, drawn independently of the original: `[K]`.

    d is the difference of an image of the label and one of another, over all such pairs. NaN for fewer than two images
    of the label, or of the others.
    """
    count, squares, images = sums['count'], sums['image_squares'], sums['image'].reshape(len(sums['count']), -1)
    others, other_count, other_squares = (np.sum(x, axis=0) - x for x in (images, count, squares))
    across = 2 * quotient(np.sum(images * others, axis=1), count * other_count)
    shared = pair_products(images, squares, count) + pair_products(others, other_squares, other_count) - across
    return quotient(shared, quotient(squares, count) + quotient(other_squares, other_count) - across)


def pair_products(total: np.ndarray, squares: np.ndarray, count: np.ndarray) -> np.ndarray:
    """The mean of x_i x_j over i != j, from sum x `[K, ...]`, sum |x|^2 `[K]` and their count `[K]`: `[K]`."""
    return quotient(np.sum(np.square(total.reshape(len(count), -1)), axis=1) - squares, count * (count - 1))


def reduced(images: jax.Array, side: int) -> jax.Array:
    """Images `[..., H, W, C]` at `side` pixels a side."""
    return jax.image.resize(images, (*images.shape[:-3], side, side, images.shape[-1]), 'linear')


def coarse_difference(swaps: jax.Array, originals: jax.Array) -> jax.Array:
    """The squared difference at 4x4 pixels, summed over pixels and channels: `[B, H, W, C]` to `[B]`."""
    return jnp.sum(jnp.square(reduced(swaps - originals, COARSE_SIDE)), axis=(1, 2, 3))


def layout(images: jax.Array) -> jax.Array:
    """Where an image is brighter or darker than on average: `[..., H, W, C]` to `[..., F]` of length 1.

    The image is reduced to 8x8 pixels, and the mean of each channel is taken off: its colours do not count, nor its
    contrast. An even image has zeros, up to rounding.
    """
    small = reduced(images, LAYOUT_SIDE)
    flat = (small - jnp.mean(small, axis=(-3, -2), keepdims=True)).reshape(*images.shape[:-3], -1)
    return flat / jnp.maximum(jnp.linalg.norm(flat, axis=-1, keepdims=True), 1e-3)  # Less than 8 bits show is even.


def layout_kept(sums: dict[str, Any]) -> tuple[float, float]:
    """How much of the original's layout swaps keep, and reconstructions.

    It is the mean correlation of an image under the given label with its original, minus the mean with all other
    originals of the same true label: 0 for a picture that depends on the two labels alone, such as a prototype of the
    class, and 1 minus the mean correlation of two images of a class for the original itself. An image that is the
    only one of its label does not count; NaN where none counts.
    """
    count, own = sums['count'], sums['layout_products']
    others = np.einsum('gtf,tf->gt', sums['given_layout'], sums['layout']) - own
    kept = own - quotient(others, np.maximum(count - 1, 0))  # Summed over the images of a true label.
    counted, same = count > 1, np.eye(len(count), dtype=bool)
    swapped, reconstructed = (
        float(quotient(np.sum(kept[which & counted]), np.sum((which * count)[which & counted])))
        for which in (~same, same)
    )
    return swapped, reconstructed


def mean_of_finite(values: np.ndarray) -> float:
    """The mean of what is not NaN."""
    return float(quotient(np.nansum(values), np.sum(~np.isnan(values))))


def quotient(a, b) -> np.ndarray:
    """a / b, NaN where b is 0."""
    a, b = np.broadcast_arrays(np.asarray(a, np.float64), b)
    return np.divide(a, b, out=np.full(a.shape, np.nan), where=b != 0)
