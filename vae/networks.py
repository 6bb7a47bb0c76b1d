"""Encoders, their mirror images, and plain classifiers: image to feature map, latent to logits of an image."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from common.errors import UserError, check_choice
from common.layers.default import Mode, TransposedConv, conv, conv_norm_relu, max_pool


class SmallEncoder(nn.Module):
    """For MNIST: with width 16 and ten outputs on its pooled features, 7,578 parameters.

    Attributes:
        width: channels of the feature map.
    """

    width: int
    mode: Mode

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`[B, H, W, C]` to `[B, H/4, W/4, width]`."""
        for features in (self.width // 2, 3 * self.width // 4):
            x = conv_norm_relu(x, features, self.mode)
        x = max_pool(x)
        for _ in range(2):
            x = conv_norm_relu(x, self.width, self.mode)
        return conv_norm_relu(max_pool(x), self.width, self.mode)


class SmallDecoder(nn.Module):
    """`SmallEncoder` in reverse: transposed convolutions where it pools.

    Attributes:
        modulated: whether the latent also scales and shifts the channels at every size (`modulate`).
    """

    width: int
    channels: int
    size: int
    mode: Mode
    modulated: bool = False

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        """Latents `[B, Z]` to logits of images `[B, size, size, channels]`, size a multiple of 4."""
        x = to_map(z, self.size // 4, self.width, self.mode)
        code = to_code(z, self.mode) if self.modulated else None
        x = modulate(conv_norm_relu(x, self.width, self.mode), code)
        x = TransposedConv(self.width, self.mode.dtype)(x)
        for _ in range(2):
            x = modulate(conv_norm_relu(x, self.width, self.mode), code)
        x = TransposedConv(3 * self.width // 4, self.mode.dtype)(x)
        for features in (3 * self.width // 4, self.width // 2):
            x = modulate(conv_norm_relu(x, features, self.mode), code)
        return to_logits(x, self.channels)


class PlainNet(nn.Module):
    """Stacked convolutions (Simonyan & Zisserman 2014, arXiv:1409.1556): the judges' architecture."""

    width: int
    mode: Mode

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`[B, H, W, C]` to `[B, H/4, W/4, 4 width]`."""
        for stage, factor in enumerate((1, 2, 4)):
            x = max_pool(x) if stage else x
            for _ in range(2):
                x = conv_norm_relu(x, factor * self.width, self.mode)
        return x


class Residual(nn.Module):
    """Adds what two convolutions make of the input to it (the residual of ResNet-9)."""

    mode: Mode

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y = conv_norm_relu(x, x.shape[-1], self.mode)
        return x + conv_norm_relu(y, x.shape[-1], self.mode)


class ResNet9(nn.Module):
    """Kakao Brain's DAWNBench network (github.com/wbaek/torchskeleton), without its head.

    Attributes:
        width: channels of the first layer; 64 in the original.
    """

    width: int
    mode: Mode

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`[B, H, W, C]` to `[B, H/8, W/8, 8 width]`."""
        x = conv_norm_relu(x, self.width, self.mode)
        x = Residual(self.mode)(max_pool(conv_norm_relu(x, 2 * self.width, self.mode)))
        x = max_pool(conv_norm_relu(x, 4 * self.width, self.mode))
        return Residual(self.mode)(max_pool(conv_norm_relu(x, 8 * self.width, self.mode)))


class ResNet9Decoder(nn.Module):
    """`ResNet9` in reverse: transposed convolutions where it pools; attributes as `SmallDecoder`."""

    width: int
    channels: int
    size: int
    mode: Mode
    modulated: bool = False

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        """Latents `[B, Z]` to logits of images `[B, size, size, channels]`, size a multiple of 8."""
        x = to_map(z, self.size // 8, 8 * self.width, self.mode)
        code = to_code(z, self.mode) if self.modulated else None
        x = Residual(self.mode)(modulate(x, code))
        for factor in (4, 2):
            x = TransposedConv(factor * self.width, self.mode.dtype)(x)
            x = modulate(conv_norm_relu(x, factor * self.width, self.mode), code)
        x = TransposedConv(self.width, self.mode.dtype)(Residual(self.mode)(x))
        return to_logits(modulate(conv_norm_relu(x, self.width, self.mode), code), self.channels)


def check_shape(model, size: int) -> None:
    """Raises UserError unless images of this size halve as often as the encoder of a `model` section does it."""
    check_choice('model.encoder', model.encoder, ENCODERS)
    factor = 2 ** HALVINGS[model.encoder]
    if size % factor:
        raise UserError(
            f'images of {size} pixels do not halve {HALVINGS[model.encoder]} times for model.encoder='
            f'{model.encoder}; choose another one, or data.image_size as a multiple of {factor}'
        )
    if model.width < 2:
        raise UserError(f'model.width is {model.width}; it must be at least 2')


def to_map(z: jax.Array, side: int, features: int, mode: Mode) -> jax.Array:
    """Latents `[B, Z]` to the feature map `[B, side, side, features]` that a decoder starts from."""
    x = nn.Dense(side * side * features, dtype=mode.dtype)(z)
    return nn.relu(x.reshape(-1, side, side, features))


def to_code(z: jax.Array, mode: Mode) -> jax.Array:
    """Latents `[B, Z]` to the code `[B, 256]` that modulates a decoder."""
    return nn.relu(nn.Dense(CODE, dtype=mode.dtype)(z))


def modulate(x: jax.Array, code: jax.Array | None) -> jax.Array:
    """Scales and shifts the channels of a feature map `[B, h, w, C]` by a linear function of a code `[B, F]`.

    Feature-wise linear modulation (Perez et al. 2018, arXiv:1709.07871). It starts as the identity; without a code,
    it is.
    """
    if code is None:
        return x
    dense = nn.Dense(2 * x.shape[-1], dtype=x.dtype, kernel_init=nn.initializers.zeros)
    scale, shift = jnp.split(DAMPING * dense(code)[:, None, None], 2, axis=-1)
    return x * (1 + scale) + shift


def to_logits(x: jax.Array, channels: int) -> jax.Array:
    """Feature map to the logits of an image, in float32."""
    return nn.Conv(channels, (3, 3), conv_general_dilated_cls=lambda: conv)(x.astype(jnp.float32))


CODE = 256  # Size of the code that modulates a decoder.
DAMPING = 0.1  # Slows the modulation down; without it, steps of Muon at the usual rate were too large.
HALVINGS = {'small': 2, 'plain': 2, 'resnet9': 3}
ENCODERS: dict[str, Callable] = {'small': SmallEncoder, 'resnet9': ResNet9, 'plain': PlainNet}
DECODERS: dict[str, Callable] = {'small': SmallDecoder, 'resnet9': ResNet9Decoder}
