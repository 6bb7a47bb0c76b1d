"""U-Net (Ronneberger et al. 2015, arXiv:1505.04597) with exchangeable ways down and up.

The parts take their layers from `layers`: the module common.layers.default, or common.layers.tpu for blocks of pixels.
"""

from collections.abc import Sequence
from types import ModuleType

import flax.linen as nn
import jax
import jax.numpy as jnp

from common.errors import UserError, check_choice
from common.layers import default, tpu
from common.layers.default import Images, Mode

DOWN = ('max_pool', 'strided_conv')
UP = ('transposed_conv', 'upsample')


class ConvBlock(nn.Module):
    """Twice: 3x3 convolution, batch normalisation, ReLU. Takes an array, or several to concatenate.

    Batch normalisation precedes the activation, as Ioffe & Szegedy (2015) proposed; the reference normalises after it.
    """

    features: int
    mode: Mode
    layers: ModuleType

    @nn.compact
    def __call__(self, x: Images) -> jax.Array:
        x = self.layers.conv_norm_relu(x, self.features, self.mode)
        return self.layers.conv_norm_relu(x, self.features, self.mode)


class StridedConv(nn.Module):
    """Halves height and width: 3x3 convolution with stride 2, batch normalisation, ReLU."""

    features: int
    mode: Mode
    layers: ModuleType

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return self.layers.conv_norm_relu(x, self.features, self.mode, stride=2)


class UNet(nn.Module):
    """Encoder and decoder with a skip connection at every resolution.

    Attributes:
        channels: of each level, from full resolution to the bottom.
        classes: channels of the output.
        down: 'max_pool' or 'strided_conv'.
        up: 'transposed_conv' or 'upsample'.
        dtype: of the computation; parameters and logits are float32.
        axis_name: the mapped axis over which batch statistics are synchronised, or None.
        in_blocks: store the images of full resolution in blocks (common/layers/tpu.py), and what strided convolutions
            of up to 128 channels read; the function is the same.
    """

    channels: Sequence[int]
    classes: int
    down: str = 'max_pool'
    up: str = 'transposed_conv'
    dtype: jnp.dtype = jnp.float32
    axis_name: str | None = None
    in_blocks: bool = False

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        """Images `[B, H, W, 3]` to logits `[B, H, W, classes]`; see `check_size` for H and W."""
        check_choice('model.down', self.down, DOWN)
        check_choice('model.up', self.up, UP)
        check_size(images.shape[1:3], len(self.channels))
        mode = Mode(train, self.dtype, self.axis_name)
        *levels, bottom = self.channels
        layers = [tpu if self.in_blocks else default, *[default] * len(levels)]
        x, skips = images.astype(self.dtype), []
        x = tpu.to_blocks(x) if self.in_blocks else x
        for level, features in enumerate(levels):
            x = ConvBlock(features, mode, layers[level])(x)
            skips.append(x)
            if self.down == 'max_pool':
                x = layers[level].max_pool(x)
            elif self.in_blocks and level and features <= tpu.LANES:  # libtpu crashes on these images for a v6e.
                x = StridedConv(features, mode, tpu)(tpu.to_blocks(x))
            else:
                x = StridedConv(features, mode, layers[level])(x)
        x = ConvBlock(bottom, mode, default)(x)
        for level in reversed(range(len(levels))):
            up = layers[level].TransposedConv if self.up == 'transposed_conv' else layers[level].Upsample
            x = up(levels[level], self.dtype)(x)
            # As in the reference, the output of each level has the width of the level above.
            x = ConvBlock(levels[max(level - 1, 0)], mode, layers[level])((skips[level], x))
        # Small initial logits: training starts at a cross-entropy of about log(classes).
        initializer = nn.initializers.variance_scaling(0.01, 'fan_in', 'truncated_normal')
        logits = layers[0].Dense(self.classes, kernel_init=initializer)(x.astype(jnp.float32))
        return tpu.from_blocks(logits) if self.in_blocks else logits


def check_size(size: Sequence[int], levels: int) -> None:
    """Raises UserError unless every halving of `size` is exact."""
    factor = 2 ** (levels - 1)
    if any(side < factor or side % factor for side in size):
        raise UserError(
            f'image size {size[0]}x{size[1]} does not halve {levels - 1} times; '
            f'set data.image_size to a multiple of {factor}'
        )
