"""Random changes to images on the device: pure functions of a key and one image `[H, W, C]`.

Geometry is separable (flip, scale and shift along each axis), so resampling is two matrix products. These are fast on
every kind of device, antialiased, and can change the size of the image.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from common.errors import UserError


def check_strengths(section: str, options) -> None:
    """Raises UserError if a strength in a section of the configuration is negative."""
    for name, strength in options.items():
        if strength < 0:
            raise UserError(f'{section}.{name} is {strength}; it must not be negative')


class Sampling(NamedTuple):
    """The position of each output row and column in the input, in input pixels.

    Attributes:
        rows, cols: `[S]`, the centres of the output rows and columns.
        row_step, col_step: the distances between neighbouring rows and columns.
    """

    rows: jax.Array
    cols: jax.Array
    row_step: jax.Array
    col_step: jax.Array


def random_sampling(
    key: jax.Array, *, input_size: int, output_size: int, flip: bool, scale: float, aspect: float, shift: float
) -> Sampling:
    """Draws a flip, a zoom, an aspect ratio and a shift.

    Args:
        flip: whether to mirror left and right with probability one half.
        scale: the zoom is log-uniform in `[1 / (1 + scale), 1 + scale]`; 0 leaves it at 1.
        aspect: likewise for the ratio of width to height.
        shift: the shift along each axis is uniform in `[-shift, shift]`, as a fraction of the image.
    """
    flip_key, zoom_key, aspect_key, shift_key = jax.random.split(key, 4)
    log_zoom = jnp.log1p(scale) * jax.random.uniform(zoom_key, minval=-1, maxval=1)
    log_aspect = 0.5 * jnp.log1p(aspect) * jax.random.uniform(aspect_key, minval=-1, maxval=1)
    down, across = shift * input_size * jax.random.uniform(shift_key, (2,), minval=-1, maxval=1)
    ratio = input_size / output_size
    row_step = ratio * jnp.exp(-log_zoom - log_aspect)
    col_step = ratio * jnp.exp(-log_zoom + log_aspect)
    offsets = jnp.arange(output_size) - 0.5 * (output_size - 1)
    centre = 0.5 * (input_size - 1)
    mirror = jnp.where(flip & jax.random.bernoulli(flip_key), -1.0, 1.0)
    return Sampling(
        reflect(centre + down + row_step * offsets, input_size),
        reflect(centre + across + mirror * col_step * offsets, input_size),
        row_step,
        col_step,
    )


def reflect(position: jax.Array, size: int) -> jax.Array:
    """Reflects positions outside the image at its border."""
    period = 2.0 * size
    folded = jnp.mod(position + 0.5, period)
    return jnp.clip(jnp.minimum(folded, period - folded) - 0.5, 0, size - 1)


def randomly_moved(
    key: jax.Array, image: jax.Array, *, flip: bool, scale: float, aspect: float, shift: float
) -> jax.Array:
    """An image `[S, S, C]`, resampled in its own size as `random_sampling` draws."""
    size = len(image)
    sampling = random_sampling(
        key, input_size=size, output_size=size, flip=flip, scale=scale, aspect=aspect, shift=shift
    )
    return resample_image(image, sampling)


def resample_image(image: jax.Array, sampling: Sampling) -> jax.Array:
    """`[H, W, C]` to `[S, S, C]` by linear interpolation, antialiased where the image shrinks."""
    rows = triangle_weights(sampling.rows, sampling.row_step, image.shape[0])
    cols = triangle_weights(sampling.cols, sampling.col_step, image.shape[1])
    return jnp.einsum('yh,hwc,xw->yxc', rows, image, cols)


def resample_labels(labels: jax.Array, sampling: Sampling) -> jax.Array:
    """`[H, W]` to `[S, S]` by nearest neighbours, so that labels are never mixed."""
    rows, cols = (jnp.round(x).astype(jnp.int32) for x in (sampling.rows, sampling.cols))
    return labels[rows[:, None], cols[None, :]]


def triangle_weights(positions: jax.Array, step: jax.Array, size: int) -> jax.Array:
    """Weights `[S, size]` of the input pixels around each position; every row sums to 1."""
    distance = jnp.abs(positions[:, None] - jnp.arange(size)[None, :])
    weights = jnp.maximum(0, 1 - distance / jnp.maximum(step, 1))
    return weights / jnp.sum(weights, axis=1, keepdims=True)


def random_color(
    key: jax.Array, image: jax.Array, *, brightness: float, contrast: float, saturation: float
) -> jax.Array:
    """Changes the colours of `[H, W, 3]` in `[0, 1]`; each strength is the largest relative change, 0 for none."""
    b, c, s = 1 + jnp.array([brightness, contrast, saturation]) * jax.random.uniform(key, (3,), minval=-1, maxval=1)
    grey = jnp.mean(image, axis=-1, keepdims=True)
    mean = jnp.mean(grey)  # A change of saturation keeps this mean.
    return jnp.clip(b * (mean + c * (grey + s * (image - grey) - mean)), 0, 1)


def cut_out(key: jax.Array, image: jax.Array, side: float) -> jax.Array:
    """Sets a random square of side `side * S` in `[S, S, C]` to 0.5 (cutout, DeVries & Taylor 2017)."""
    size = image.shape[0]
    centre = jax.random.uniform(key, (2, 1), maxval=size)
    inside = jnp.abs(jnp.arange(size)[None, :] - centre) < 0.5 * side * size
    return jnp.where((inside[0][:, None] & inside[1][None, :])[..., None], 0.5, image)


def random_noise(key: jax.Array, image: jax.Array, largest: float) -> jax.Array:
    """Adds Gaussian noise; its standard deviation is drawn from `[0, largest]` once for the image."""
    strength_key, noise_key = jax.random.split(key)
    strength = jax.random.uniform(strength_key, maxval=largest)
    return image + strength * jax.random.normal(noise_key, image.shape)
