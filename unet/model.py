"""U-Net (Ronneberger et al. 2015, arXiv:1505.04597) with exchangeable ways down and up."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from common.errors import UserError, check_choice
from common.layers.blocks import Mode, TransposedConv, bilinear_upsample, conv_norm_relu, max_pool

DOWN = ('max_pool', 'strided_conv')
UP = ('transposed_conv', 'upsample')


class ConvBlock(nn.Module):
    """Twice: 3x3 convolution, batch normalisation, ReLU.

    Batch normalisation precedes the activation, as Ioffe & Szegedy (2015) proposed; the reference normalises after it.
    """

    features: int
    mode: Mode

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return conv_norm_relu(conv_norm_relu(x, self.features, self.mode), self.features, self.mode)


class StridedConv(nn.Module):
    """Halves height and width: 3x3 convolution with stride 2, batch normalisation, ReLU."""

    mode: Mode

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return conv_norm_relu(x, x.shape[-1], self.mode, stride=2)


class Upsample(nn.Module):
    """Doubles height and width: 1x1 convolution, then bilinear interpolation.

    The projection gives both ways up the same channels, so that they differ in interpolation alone; it
    commutes with the interpolation and costs a quarter before it.
    """

    features: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return bilinear_upsample(nn.Dense(self.features, dtype=self.dtype)(x))


class UNet(nn.Module):
    """Encoder and decoder with a skip connection at every resolution.

    Attributes:
        channels: of each level, from full resolution to the bottom.
        classes: channels of the output.
        down: 'max_pool' or 'strided_conv'.
        up: 'transposed_conv' or 'upsample'.
        dtype: of the computation; parameters and logits are float32.
        axis_name: the mapped axis over which batch statistics are synchronised, or None.
    """

    channels: Sequence[int]
    classes: int
    down: str = 'max_pool'
    up: str = 'transposed_conv'
    dtype: jnp.dtype = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        """Images `[B, H, W, 3]` to logits `[B, H, W, classes]`; see `check_size` for H and W."""
        check_choice('model.down', self.down, DOWN)
        check_choice('model.up', self.up, UP)
        check_size(images.shape[1:3], len(self.channels))
        mode = Mode(train, self.dtype, self.axis_name)
        *levels, bottom = self.channels
        x, skips = images.astype(self.dtype), []
        for features in levels:
            x = ConvBlock(features, mode)(x)
            skips.append(x)
            x = max_pool(x) if self.down == 'max_pool' else StridedConv(mode)(x)
        x = ConvBlock(bottom, mode)(x)
        way_up = TransposedConv if self.up == 'transposed_conv' else Upsample
        for level in reversed(range(len(levels))):
            x = way_up(levels[level], self.dtype)(x)
            # As in the reference, the output of each level has the width of the level above.
            x = ConvBlock(levels[max(level - 1, 0)], mode)(jnp.concatenate([skips[level], x], axis=-1))
        # Small initial logits: training starts at a cross-entropy of about log(classes).
        head = nn.Dense(self.classes, kernel_init=nn.initializers.variance_scaling(0.01, 'fan_in', 'truncated_normal'))
        return head(x.astype(jnp.float32))


def check_size(size: Sequence[int], levels: int) -> None:
    """Raises UserError unless every halving of `size` is exact."""
    factor = 2 ** (levels - 1)
    if any(side < factor or side % factor for side in size):
        raise UserError(
            f'image size {size[0]}x{size[1]} does not halve {levels - 1} times; '
            f'set data.image_size to a multiple of {factor}'
        )
