"""Layers that several networks share. Those that are slow on some device in their obvious form compute the
same function in another."""

import functools
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

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
    narrows = stride == 1 and features < x.shape[-1]
    x = nn.Conv(features, (kernel, kernel), stride, use_bias=False, dtype=mode.dtype,
                conv_general_dilated_cls=(lambda: narrowing_conv) if narrows else None)(x)
    return nn.BatchNorm(use_running_average=not mode.train, momentum=MOMENTUM, dtype=mode.dtype,
                        axis_name=mode.axis_name)(x)


def conv_norm_relu(x: jax.Array, features: int, mode: Mode, kernel: int = 3, stride: int = 1) -> jax.Array:
    """Convolution, batch normalisation, ReLU, inside a compact module."""
    return nn.relu(conv_norm(x, features, mode, kernel, stride))


def narrowing_conv(lhs: jax.Array, rhs: jax.Array, window_strides=(1, 1), padding='SAME', **options) -> jax.Array:
    """As `jax.lax.conv_general_dilated`, for images and a square kernel of odd side at stride 1, padding 'SAME'.

    XLA:CPU takes up to twice as long for the kernel's gradient, the images' correlation with the gradient of the
    output, where that has fewer channels. Correlated the other way round, the same numbers come out mirrored.
    Raises ValueError for other strides, padding and kernels.
    """
    margin, odd = divmod(rhs.shape[0], 2)
    if tuple(window_strides) != (1, 1) or padding != 'SAME' or rhs.shape[0] != rhs.shape[1] or not odd:
        raise ValueError(f'not for strides {window_strides}, padding {padding} and a kernel of shape {rhs.shape}')

    def conv(images, kernel):
        return jax.lax.conv_general_dilated(images, kernel, window_strides, padding, **options)

    def usual(images, kernel, gradient):
        return jax.vjp(functools.partial(conv, images), kernel)[1](gradient)[0]

    def swapped(images, kernel, gradient):
        mirrored = jax.lax.conv_general_dilated(gradient, images, (1, 1), ((margin, margin),) * 2,
                                                dimension_numbers=('CHWN', 'IHWO', 'NHWC'))
        return mirrored[:, ::-1, ::-1].transpose(1, 2, 3, 0)

    def backward(saved, gradient):
        images, kernel = saved
        return (jax.vjp(lambda x: conv(x, kernel), images)[1](gradient)[0],
                jax.lax.platform_dependent(images, kernel, gradient, cpu=swapped, default=usual))

    differentiable = jax.custom_vjp(conv)
    differentiable.defvjp(lambda images, kernel: (conv(images, kernel), (images, kernel)), backward)
    return differentiable(lhs, rhs)


class TransposedConv(nn.Module):
    """Doubles height and width: 2x2 transposed convolution with stride 2.

    Its windows do not overlap, so it is a matrix product a pixel followed by a rearrangement: the same
    function as `nn.ConvTranspose`, which XLA computes on an input dilated with zeros.
    """

    features: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return depth_to_space(nn.Dense(4 * self.features, dtype=self.dtype)(x))


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
