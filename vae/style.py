"""Measures of an image's style that do not depend on its label: what a swap should keep."""

import jax
import jax.numpy as jnp
import numpy as np

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


def moments(a: jax.Array, b: jax.Array, weight: jax.Array) -> jax.Array:
    """Weighted sums of 1, a, b, a², b², ab for measures `[..., M]` and weights `[...]`: `[6, M]`."""
    terms = jnp.stack([jnp.ones_like(a), a, b, a * a, b * b, a * b])
    axes = tuple(range(1, terms.ndim - 1))
    return jnp.sum(terms * weight[None, ..., None], axis=axes)


def correlations(sums: np.ndarray) -> np.ndarray:
    """Pearson's correlation `[M]` from summed `moments` `[6, M]`."""
    n, a, b, aa, bb, ab = np.asarray(sums, np.float64)
    covariance = ab / n - a * b / n**2
    return covariance / np.sqrt((aa / n - (a / n) ** 2) * (bb / n - (b / n) ** 2))
