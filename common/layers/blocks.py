"""Layers that several networks share. Those that are slow on some device in their obvious form compute the
same function in another."""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from common.layers.convolution import conv
from common.layers.normalization import BatchNorm

MOMENTUM = 0.9  # Of the running statistics; evaluation averages them further (optimizer.ema_decay).


class Mode(NamedTuple):
    """How a network runs.

    Attributes:
        train: normalise by the statistics of the batch, and update the running ones.
        dtype: of the computation; parameters are float32.
        axis_name: the mapped axis over which batch statistics are synchronised, or None.
    """

    train: bool
    dtype: jnp.dtype = jnp.float32
    axis_name: str | None = None


def conv_norm(x: jax.Array, features: int, mode: Mode, kernel: int = 3, stride: int = 1) -> jax.Array:
    """Convolution and batch normalisation (Ioffe & Szegedy 2015), inside a compact module."""
    x = nn.Conv(features, (kernel, kernel), stride, use_bias=False, dtype=mode.dtype,
                conv_general_dilated_cls=(lambda: conv) if stride == 1 else None)(x)
    return BatchNorm(use_running_average=not mode.train, momentum=MOMENTUM, dtype=mode.dtype,
                     axis_name=mode.axis_name)(x)


def conv_norm_relu(x: jax.Array, features: int, mode: Mode, kernel: int = 3, stride: int = 1) -> jax.Array:
    """Convolution, batch normalisation, ReLU, inside a compact module."""
    return nn.relu(conv_norm(x, features, mode, kernel, stride))


class TransposedConv(nn.Module):
    """Doubles height and width: 2x2 transposed convolution with stride 2.

    Its windows do not overlap, so it is a matrix product a pixel followed by a rearrangement: the same
    function as `nn.ConvTranspose`, which XLA computes on an input dilated with zeros.
    """

    features: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return depth_to_space(nn.Dense(4 * self.features, dtype=self.dtype, dot_general=product)(x))


def product(x: jax.Array, kernel: jax.Array, dimension_numbers=None, precision=None) -> jax.Array:
    """`[..., C]` times `[C, D]`; the arguments are those with which `nn.Dense` calls `jax.lax.dot_general`.

    The kernel's gradient that JAX makes is the output's gradient times `x`, for which XLA:CPU rearranges the former
    once more than for the gradient by `x`. This is `x` times the output's gradient, which is there already.

    Raises:
        ValueError: another product or precision is asked for.
    """
    if dimension_numbers not in (None, (((x.ndim - 1,), (0,)), ((), ()))) or precision is not None:
        raise ValueError(f'not for dimensions {dimension_numbers} and precision {precision}')
    return matrix_product(x, kernel)


@jax.custom_vjp
def matrix_product(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return x @ kernel


matrix_product.defvjp(
    lambda x, kernel: (x @ kernel, (x, kernel)),
    lambda saved, gradient: (gradient @ saved[1].T, jnp.einsum('...c,...d->cd', saved[0], gradient)))


def depth_to_space(x: jax.Array) -> jax.Array:
    """`[B, H, W, 4C]` to `[B, 2H, 2W, C]`: each pixel's channels become a 2x2 block."""
    b, h, w, c = x.shape
    x = x.reshape(b, h, w, 2, 2, c // 4)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(b, 2 * h, 2 * w, c // 4)


def max_pool(x: jax.Array) -> jax.Array:
    """2x2 max pooling, `[B, H, W, C]` to `[B, H/2, W/2, C]`.

    The maximum of strided slices: the gradient of `nn.max_pool` is a slow select-and-scatter.
    """
    x = jnp.maximum(x[:, ::2], x[:, 1::2])
    return jnp.maximum(x[:, :, ::2], x[:, :, 1::2])


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
