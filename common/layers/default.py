"""Layers that several networks share.

Each computes one function on every device. A program lowered for a CPU gets the forms of common/layers/cpu.py, any
other platform those of Flax and `jax.lax`; parameters are the same. common/layers/tpu.py has some of these layers under
the same names, for images that are stored in blocks of pixels.
"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from common.layers import cpu

Images = jax.Array | tuple[jax.Array, ...]  # Several have their channels concatenated.
MOMENTUM = 0.9  # For running statistics; evaluation averages them further (optimizer.ema_decay).


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


def conv_norm_relu(x: Images, features: int, mode: Mode, stride: int = 1) -> jax.Array:
    """3x3 convolution, batch normalisation (Ioffe & Szegedy 2015, arXiv:1502.03167), ReLU, inside a compact module."""
    x = jnp.concatenate(x, axis=-1) if isinstance(x, tuple) else x
    x = nn.Conv(features, (3, 3), stride, use_bias=False, dtype=mode.dtype, conv_general_dilated_cls=lambda: conv)(x)
    normalised = nn.BatchNorm(
        use_running_average=not mode.train, momentum=MOMENTUM, dtype=mode.dtype, axis_name=mode.axis_name
    )(x)
    return nn.relu(normalised)


Dense = nn.Dense  # As common/layers/tpu.py has it for blocks.


class TransposedConv(nn.Module):
    """Doubles height and width: 2x2 transposed convolution with stride 2."""

    features: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        # Those of a dense layer that makes a 2x2 block of each pixel: a bias for each position in the block.
        kernel, bias = DenseParameters(4 * self.features, name='Dense_0')(x.shape[-1])
        arrays = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        return jax.lax.platform_dependent(*arrays, cpu=cpu.transposed_conv, default=plain_transposed_conv)


class DenseParameters(nn.Module):
    """The kernel `[C, F]` and bias `[F]` of `nn.Dense`, for a layer that computes something else with them."""

    features: int

    @nn.compact
    def __call__(self, inputs: int) -> tuple[jax.Array, jax.Array]:
        kernel = self.param('kernel', nn.initializers.lecun_normal(), (inputs, self.features))
        return kernel, self.param('bias', nn.initializers.zeros, (self.features,))


def plain_transposed_conv(x: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
    kernel = kernel.reshape(x.shape[-1], 2, 2, -1).transpose(1, 2, 0, 3)[::-1, ::-1]
    y = jax.lax.conv_transpose(x, kernel, (2, 2), 'VALID', dimension_numbers=cpu.NHWC)
    return y + jnp.tile(bias.reshape(1, 2, 2, -1), (1, *x.shape[1:3], 1))


def max_pool(x: jax.Array) -> jax.Array:
    """2x2 max pooling, `[B, H, W, C]` to `[B, H/2, W/2, C]`."""
    return jax.lax.platform_dependent(x, cpu=cpu.max_pool, default=lambda x: nn.max_pool(x, (2, 2), (2, 2)))


class Upsample(nn.Module):
    """Doubles height and width: 1x1 convolution, then bilinear interpolation.

    The projection gives both ways up the same channels, so that they differ in interpolation alone; it commutes with
    the interpolation and costs a quarter before it.
    """

    features: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return bilinear_upsample(nn.Dense(self.features, dtype=self.dtype)(x))


def bilinear_upsample(x: jax.Array) -> jax.Array:
    """Bilinear interpolation, `[B, H, W, C]` to `[B, 2H, 2W, C]`, with half-pixel centres."""
    b, h, w, c = x.shape
    return jax.lax.platform_dependent(
        x, cpu=cpu.bilinear_upsample, default=lambda x: jax.image.resize(x, (b, 2 * h, 2 * w, c), 'bilinear')
    )


def conv(images: jax.Array, kernel: jax.Array, window_strides, padding, **options) -> jax.Array:
    """`jax.lax.conv_general_dilated` as `nn.Conv` calls it, for its `conv_general_dilated_cls`.

    With the forms for CPU it is differentiable once, in reverse mode only.
    """

    def plain(images, kernel):
        return jax.lax.conv_general_dilated(images, kernel, window_strides, padding, **options)

    if tuple(window_strides) == (1, 1) and padding == 'SAME' and options == PLAIN and cpu.suits_conv(images, kernel):
        return jax.lax.platform_dependent(images, kernel, cpu=cpu.conv, default=plain)
    return plain(images, kernel)


PLAIN = {
    'lhs_dilation': (1, 1),
    'rhs_dilation': (1, 1),
    'feature_group_count': 1,
    'precision': None,
    'dimension_numbers': jax.lax.conv_dimension_numbers((1,) * 4, (1,) * 4, cpu.NHWC),
}
