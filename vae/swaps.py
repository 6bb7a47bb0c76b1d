"""What images under wrong labels have in common, and what they keep of their originals.

Every measure is computed from sums over the images of a split, so that it does not depend on the batches.
"""

import jax
import jax.numpy as jnp
import numpy as np

LAYOUT_SIDE = 8  # Pixels a side of the low-pass images that `layout` compares.


def change_sums(images: jax.Array, labels: jax.Array, valid: jax.Array) -> dict[str, jax.Array]:
    """Sums over a batch for `shared_change`.

    Args:
        images: each of B images as each of K labels, `[K, B, H, W, C]`.
        labels: the true ones, int32 `[B]`, below K. valid: which images count, `[B]`.
    Returns:
        `count` `[K]`, the images that have another label; over those, of the difference d between an image as the
        label and its reconstruction under the true one: `change` `[K, H, W, C]`, the sum of d, and `squares` `[K]`,
        the sum of |d|^2.
    """
    wrong = (jnp.arange(len(images))[:, None] != labels[None, :]) & valid[None, :]
    reconstructions = images[labels, jnp.arange(len(labels))]
    changes = jnp.where(wrong[..., None, None, None], images - reconstructions[None], 0)
    return {'count': jnp.sum(wrong, axis=1, dtype=jnp.int32), 'change': jnp.sum(changes, axis=1),
            'squares': jnp.sum(jnp.square(changes), axis=(1, 2, 3, 4))}


def shared_change(sums: dict[str, np.ndarray]) -> np.ndarray:
    """The share of the change to a label that is the same in all images: `[K]`, from summed `change_sums`.

    It is |E d|^2 / E |d|^2: 1 where one stencil is added to every image, 0 where changes have nothing in common.
    |E d|^2 is estimated by the mean of d_i d_j over pairs i != j, (|sum d|^2 - sum |d|^2) / (n (n - 1)), which has no
    bias for any n, and may be below 0. NaN for fewer than two images, or where no image changes.
    """
    count, squares = np.asarray(sums['count'], np.float64), np.asarray(sums['squares'], np.float64)
    return quotient(pair_products(sums['change'], squares, count), squares / np.maximum(count, 1))


def image_sums(images: jax.Array, labels: jax.Array, valid: jax.Array, *, classes: int) -> dict[str, jax.Array]:
    """Sums over a batch of real images `[B, H, W, C]` by label for `shared_change_of_real`.

    Returns:
        `count` `[K]`; `image` `[K, H, W, C]`, the sum of the images; `squares` `[K]`, the sum of |x|^2.
    """
    members = one_hot(labels, valid, classes)
    return {'count': jnp.sum(members, axis=0).astype(jnp.int32),
            'image': jnp.einsum('bk,bhwc->khwc', members, images),
            'squares': members.T @ jnp.sum(jnp.square(images), axis=(1, 2, 3))}


def shared_change_of_real(sums: dict[str, np.ndarray]) -> np.ndarray:
    """`shared_change` of swaps that are real images of the label, drawn independently of the original: `[K]`.

    d is the difference of an image of the label and one of another, over all such pairs; from summed `image_sums`.
    NaN for fewer than two images of the label, or of the others.
    """
    count, squares = (np.asarray(sums[name], np.float64) for name in ('count', 'squares'))
    images = np.asarray(sums['image'], np.float64).reshape(len(count), -1)
    others = images.sum(axis=0) - images
    other_count, other_squares = count.sum() - count, squares.sum() - squares
    across = 2 * quotient(np.sum(images * others, axis=1), count * other_count)
    shared = pair_products(images, squares, count) + pair_products(others, other_squares, other_count) - across
    return quotient(shared, quotient(squares, count) + quotient(other_squares, other_count) - across)


def pair_products(total: np.ndarray, squares: np.ndarray, count: np.ndarray) -> np.ndarray:
    """The mean of x_i x_j over i != j, from sum x `[K, ...]`, sum |x|^2 `[K]` and their count `[K]`: `[K]`."""
    total = np.asarray(total, np.float64).reshape(len(count), -1)
    return quotient(np.sum(np.square(total), axis=1) - squares, count * (count - 1))


def layout(images: jax.Array) -> jax.Array:
    """Where an image is brighter or darker than on average: `[..., H, W, C]` to `[..., F]` of length 1.

    The image is reduced to 8x8 pixels, and the mean of each channel is taken off: its colours do not count, nor its
    contrast. An even image has zeros, up to rounding.
    """
    shape = *images.shape[:-3], LAYOUT_SIDE, LAYOUT_SIDE, images.shape[-1]
    small = jax.image.resize(images, shape, 'linear')
    flat = (small - jnp.mean(small, axis=(-3, -2), keepdims=True)).reshape(*images.shape[:-3], -1)
    return flat / jnp.maximum(jnp.linalg.norm(flat, axis=-1, keepdims=True), 1e-3)  # Less than 8 bits show is even.


def layout_sums(images: jax.Array, originals: jax.Array, labels: jax.Array, valid: jax.Array) -> dict[str, jax.Array]:
    """Sums over a batch for `layout_kept`.

    Args:
        images: each original as each label, `[K, B, H, W, C]`. originals: `[B, H, W, C]`.
        labels: the true ones, int32 `[B]`, below K. valid: which images count, `[B]`.
    Returns:
        By true label, `count` `[K]` and the sum of layouts `original` `[K, F]`; by given and true label, the sum of
        layouts `result` `[K, K, F]` and of their products with the original's `own` `[K, K]`.
    """
    members = one_hot(labels, valid, len(images))
    before, after = layout(originals), layout(images)
    return {'count': jnp.sum(members, axis=0).astype(jnp.int32), 'original': jnp.einsum('bt,bf->tf', members, before),
            'result': jnp.einsum('gbf,bt->gtf', after, members),
            'own': jnp.einsum('gbf,bf,bt->gt', after, before, members)}


def layout_kept(sums: dict[str, np.ndarray]) -> tuple[float, float]:
    """How much of the original's layout swaps keep, and reconstructions: from summed `layout_sums`.

    It is the mean correlation of an image under the given label with its original, minus the mean with all other
    originals of the same true label: 0 for a picture that depends on the two labels alone, such as a prototype of the
    class, and 1 minus the mean correlation of two images of a class for the original itself. An image that is the
    only one of its label does not count; NaN where none counts.
    """
    names = 'count', 'own', 'result', 'original'
    count, own, result, original = (np.asarray(sums[name], np.float64) for name in names)
    others = np.einsum('gtf,tf->gt', result, original) - own
    kept = own - quotient(others, np.maximum(count - 1, 0))  # Summed over the images of a true label.
    counted, same = count > 1, np.eye(len(count), dtype=bool)
    return tuple(float(quotient(np.sum(kept[which & counted]), np.sum((which * count)[which & counted])))
                 for which in (~same, same))


def one_hot(labels: jax.Array, valid: jax.Array, classes: int) -> jax.Array:
    """Float32 `[B, classes]`; zeros for an image that does not count."""
    return jax.nn.one_hot(labels, classes) * valid[:, None].astype(jnp.float32)


def quotient(a, b) -> np.ndarray:
    """a / b, NaN where b is 0."""
    a, b = np.broadcast_arrays(np.asarray(a, np.float64), b)
    return np.divide(a, b, out=np.full(a.shape, np.nan), where=b != 0)
