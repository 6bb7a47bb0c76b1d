"""Layers whose obvious form is slow on some device: each computes the same function as the plain one."""

import jax
import jax.numpy as jnp


def max_pool(x: jax.Array) -> jax.Array:
    """2x2 max pooling, `[B, H, W, C]` to `[B, H/2, W/2, C]`.

    The maximum of strided slices: the gradient of `nn.max_pool` is a slow select-and-scatter.
    """
    x = jnp.maximum(x[:, ::2], x[:, 1::2])
    return jnp.maximum(x[:, :, ::2], x[:, :, 1::2])


def depth_to_space(x: jax.Array) -> jax.Array:
    """`[B, H, W, 4C]` to `[B, 2H, 2W, C]`: each pixel's channels become a 2x2 block."""
    b, h, w, c = x.shape
    x = x.reshape(b, h, w, 2, 2, c // 4)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(b, 2 * h, 2 * w, c // 4)


def bilinear_upsample(x: jax.Array) -> jax.Array:
    """Bilinear interpolation, `[B, H, W, C]` to `[B, 2H, 2W, C]`, pixel centres aligned.

    As `jax.image.resize(..., 'bilinear')`, by weighted sums of neighbours along each axis.
    """
    for axis in (1, 2):
        size = x.shape[axis]
        before = jax.lax.slice_in_dim(x, 0, size - 1, axis=axis)
        after = jax.lax.slice_in_dim(x, 1, size, axis=axis)
        first = jax.lax.slice_in_dim(x, 0, 1, axis=axis)
        last = jax.lax.slice_in_dim(x, size - 1, size, axis=axis)
        even = jnp.concatenate([first, 0.25 * before + 0.75 * after], axis=axis)
        odd = jnp.concatenate([0.75 * before + 0.25 * after, last], axis=axis)
        shape = x.shape[:axis] + (2 * size,) + x.shape[axis + 1:]
        x = jnp.stack([even, odd], axis=axis + 1).reshape(shape)
    return x
