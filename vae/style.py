"""Measures of an image's style, which a swap should keep, and how well it keeps them."""

import jax
import jax.numpy as jnp
import numpy as np

from vae.swaps import einsum

DIGIT_MEASURES = ('slant', 'stroke_width', 'center_x', 'center_y', 'ink')
COLOR_MEASURES = ('red', 'green', 'blue', 'contrast', 'saturation')


def names(channels: int) -> tuple[str, ...]:
    """The measures for images of so many channels."""
    return DIGIT_MEASURES if channels == 1 else COLOR_MEASURES


def measures(images: jax.Array) -> jax.Array:
    """Images `[B, H, W, C]` in `[0, 1]` to `[B, measures]`, in the order of `names`."""
    return digit_measures(images[..., 0]) if images.shape[-1] == 1 else color_measures(images)


def digit_measures(ink: jax.Array) -> jax.Array:
    """`[B, H, W]`: the shear that would make it upright, twice area over outline, centre and mean of the ink."""
    total = jnp.sum(ink, axis=(1, 2)) + 1e-6
    y = jnp.linspace(-1, 1, ink.shape[1])[None, :, None]
    x = jnp.linspace(-1, 1, ink.shape[2])[None, None, :]
    mean_x, mean_y = (jnp.sum(ink * axis, axis=(1, 2)) / total for axis in (x, y))
    dx, dy = x - mean_x[:, None, None], y - mean_y[:, None, None]
    slant = jnp.sum(ink * dx * dy, axis=(1, 2)) / (jnp.sum(ink * dy * dy, axis=(1, 2)) + 1e-6)
    across = ink[:, :-1, 1:] - ink[:, :-1, :-1]
    down = ink[:, 1:, :-1] - ink[:, :-1, :-1]
    outline = jnp.sum(jnp.sqrt(across**2 + down**2 + 1e-12), axis=(1, 2)) + 1e-6
    width = 2 * total / outline
    return jnp.stack([slant, width, mean_x, mean_y, total / (ink.shape[1] * ink.shape[2])], axis=-1)


def color_measures(images: jax.Array) -> jax.Array:
    """`[B, H, W, 3]`: mean of each colour, standard deviation of the brightness, mean saturation."""
    grey = jnp.mean(images, axis=-1)
    saturation = jnp.mean(jnp.max(images, axis=-1) - jnp.min(images, axis=-1), axis=(1, 2))
    return jnp.concatenate(
        [jnp.mean(images, axis=(1, 2)), jnp.std(grey, axis=(1, 2))[:, None], saturation[:, None]], axis=-1
    )


def batch_sums(*, originals: jax.Array, images: jax.Array, labels: jax.Array, valid: jax.Array) -> jax.Array:
    """Sums over a batch, for `metrics`: of 1, a, b, a², b² and ab, by given and true label, `[6, K, K, M]`.

    a are the measures of an original, b those of the image that it becomes.

    Args:
        originals: `[B, H, W, C]`. images: each of them as each of K labels, `[K, B, H, W, C]`.
        labels: the true ones, int32 `[B]`, below K. valid: which images count, `[B]`.
    """
    members = jax.nn.one_hot(labels, len(images)) * jnp.asarray(valid, jnp.float32)[:, None]
    b = jax.vmap(measures)(images)
    a = jnp.broadcast_to(measures(originals)[None], b.shape)
    return einsum('sgbm,bt->sgtm', jnp.stack([jnp.ones_like(a), a, b, a * a, b * b, a * b]), members)


def metrics(sums: np.ndarray, channels: int) -> dict[str, float]:
    """Correlations of the measures of original and swap, from `batch_sums` over a split.

    `NAME/kept` is that of all swaps. Part of it may come from the labels: digits of a slanted kind may all become
    slanted.
    `NAME/kept/ideal` is the same for swaps that have the given label's mean and keep the original's difference from the
    mean of its own label: below 1 if labels differ in the measure.
    `NAME/kept_within_labels` is that of swaps with the same given and the same true label, pooled over both: 0 for a
    picture that depends on the two labels alone.
    """
    sums = np.asarray(sums, np.float64)
    present = sums[0, 0, :, 0] > 0
    pairs = ~np.eye(len(present), dtype=bool)
    kept = correlation(deviations(sums[:, pairs].sum(axis=1)))
    ideal = correlation(deviations(ideal_sums(sums)[:, pairs & present[:, None]].sum(axis=1)))
    within = correlation(deviations(sums[:, pairs]).sum(axis=1))
    results = dict[str, float]()
    for name, *values in zip(names(channels), kept, ideal, within, strict=True):
        keys = (f'{name}/kept', f'{name}/kept/ideal', f'{name}/kept_within_labels')
        results |= dict(zip(keys, map(float, values), strict=True))
    return results


def ideal_sums(sums: np.ndarray) -> np.ndarray:
    """`batch_sums` of swaps whose measures are the originals' plus the difference of the two labels' means."""
    n, a, _, aa, _, _ = sums
    means = a[0] / np.maximum(n[0], 1)
    shift = means[:, None] - means[None]  # [given, true, M]
    return np.stack([n, a, a + shift * n, aa, aa + shift * (2 * a + shift * n), aa + shift * a])


def deviations(sums: np.ndarray) -> np.ndarray:
    """Sums of squares and products of deviations from the means, aa, bb and ab `[3, ...]`, from raw ones `[6, ...]`."""
    n, a, b, aa, bb, ab = sums
    n = np.maximum(n, 1)
    return np.stack([aa - a * a / n, bb - b * b / n, ab - a * b / n])


def correlation(products: np.ndarray) -> np.ndarray:
    """Pearson's correlation from `deviations`; NaN where a measure is the same in all images."""
    aa, bb, ab = products
    squares = aa * bb
    return np.divide(ab, np.sqrt(np.maximum(squares, 0)), out=np.full(ab.shape, np.nan), where=squares > 0)
