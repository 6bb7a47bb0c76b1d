"""The only place of forms for TPUs: layers of common/layers/default.py for images that are stored in blocks of pixels.

A TPU stores channels in groups of 128, so that an image with 32 channels takes as much memory and time as one with 128.
In blocks, `[B, H, W, C]` becomes `[B, H/2, W/2, 4 C]`: each position holds the channels of 2x2 pixels, row by row. The
layers compute the same functions with the same parameters, whose names follow from the classes' names.
"""

import functools

import flax.linen as nn
import jax
from jax import default_backend
import jax.numpy as jnp
import numpy as np

from common.layers.cpu import NHWC
from common.layers.default import MOMENTUM, DenseParameters, Images, Mode

LANES = 128


def suits(channels: int) -> bool:
    """Whether images with this number of channels are better stored in blocks."""
    return default_backend() == 'tpu' and channels < LANES


def to_blocks(x: jax.Array) -> jax.Array:
    """`[B, H, W, C]` to `[B, H/2, W/2, 4 C]`."""
    b, h, w, c = x.shape
    return x.reshape(b, h // 2, 2, w // 2, 2, c).transpose(0, 1, 3, 2, 4, 5).reshape(b, h // 2, w // 2, 4 * c)


def from_blocks(x: jax.Array) -> jax.Array:
    """`[B, H/2, W/2, 4 C]` to `[B, H, W, C]`."""
    b, h, w, c = x.shape
    return x.reshape(b, h, w, 2, 2, c // 4).transpose(0, 1, 3, 2, 4, 5).reshape(b, 2 * h, 2 * w, c // 4)


def conv_norm_relu(x: Images, features: int, mode: Mode, stride: int = 1) -> jax.Array:
    """3x3 convolution, batch normalisation, ReLU, inside a compact module. With stride 2 the result is no blocks."""
    parts = x if isinstance(x, tuple) else (x,)
    x = Conv(features, stride, mode.dtype)(*parts)
    return nn.relu(BatchNorm(features, mode)(x))


class Conv(nn.Module):
    """3x3 convolution with padding 'SAME' of images whose channels are concatenated."""

    features: int
    stride: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, *parts: jax.Array) -> jax.Array:
        ends = np.cumsum([part.shape[-1] // 4 for part in parts])
        kernel = self.param('kernel', nn.initializers.lecun_normal(), (3, 3, int(ends[-1]), self.features))
        kernels = jnp.split(kernel.astype(self.dtype), ends[:-1], axis=2)
        margin = (1, 1) if self.stride == 1 else (0, 1)
        return jax.lax.conv_general_dilated(
            jnp.concatenate(parts, axis=-1).astype(self.dtype),
            jnp.concatenate([in_blocks(kernel, self.stride) for kernel in kernels], axis=2),
            (1, 1),
            (margin, margin),
            dimension_numbers=NHWC,
        )


def in_blocks(kernel: jax.Array, stride: int) -> jax.Array:
    """The kernel `[3, 3, C, D]` for blocks: `[3, 3, 4 C, 4 D]`, or with stride 2 `[2, 2, 4 C, D]`."""
    joins = jnp.asarray(joined_pixels(stride), kernel.dtype)
    side, _, outputs, _ = joins.shape
    kernel = jnp.einsum('ipaw,jqbv,wvcd->ijpqcabd', joins, joins, kernel)
    return kernel.reshape(side, side, -1, outputs**2 * kernel.shape[-1])


def joined_pixels(stride: int) -> np.ndarray:
    """Along one axis, which weight of a kernel of side 3 joins which pixels: 1 where it does, else 0.

    Returns:
        `[input blocks, pixels of each, output pixels, weights]`. With stride 1 the input is the block before, the same
        and the next; with stride 2 it is the same and the next, and there is one output pixel.
    """
    block, pixel, output, weight = np.ogrid[: 3 if stride == 1 else 2, :2, : 2 if stride == 1 else 1, :3]
    start = output + 1 if stride == 1 else 0
    return (2 * block + pixel - start == weight).astype(np.float32)


class BatchNorm(nn.Module):
    """`nn.BatchNorm` of images with these `features`, in blocks or not."""

    features: int
    mode: Mode
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        scale = self.param('scale', nn.initializers.ones, (self.features,))
        bias = self.param('bias', nn.initializers.zeros, (self.features,))
        running_mean = self.variable('batch_stats', 'mean', jnp.zeros, (self.features,))
        running_var = self.variable('batch_stats', 'var', jnp.ones, (self.features,))
        mean, var = running_mean.value, running_var.value
        x = x.astype(jnp.float32)
        if self.mode.train:
            mean, square = (self.mean(value) for value in (x, jnp.square(x)))
            var = jnp.maximum(square - jnp.square(mean), 0)
            if not self.is_initializing():
                running_mean.value = MOMENTUM * running_mean.value + (1 - MOMENTUM) * mean
                running_var.value = MOMENTUM * running_var.value + (1 - MOMENTUM) * var
        factor = scale * jax.lax.rsqrt(var + self.epsilon)
        count = x.shape[-1] // self.features
        factor, shift = (jnp.tile(value, count)[None, None, None] for value in (factor, bias - mean * factor))
        return (x * factor + shift).astype(self.mode.dtype)

    def mean(self, x: jax.Array) -> jax.Array:
        """The mean of each channel over all pixels of all devices."""
        mean = x.mean(axis=(0, 1, 2)).reshape(-1, self.features).mean(axis=0)
        return jax.lax.pmean(mean, self.mode.axis_name) if self.mode.axis_name else mean


@jax.custom_vjp
def max_pool(x: jax.Array) -> jax.Array:
    """2x2 max pooling of blocks, to an image `[B, H/2, W/2, C]`. Pixels that are equally large share the gradient."""
    a, b, c, d = jnp.split(x, 4, axis=-1)
    return jnp.maximum(jnp.maximum(a, b), jnp.maximum(c, d))


def max_pool_forward(x: jax.Array):
    y = max_pool(x)
    return y, (x, y)


def max_pool_backward(saved, gradient: jax.Array):
    """Copies channels to the pixels of a block by exact products with 0 and 1, which are cheaper than joined slices."""
    x, y = saved
    copies = jnp.tile(jnp.eye(y.shape[-1], dtype=x.dtype), 4)
    product = functools.partial(jnp.dot, precision='highest')
    is_largest = (x == product(y, copies)).astype(x.dtype)
    count = product(is_largest, copies.T)
    return (is_largest * product(gradient / count, copies),)


max_pool.defvjp(max_pool_forward, max_pool_backward)


class TransposedConv(nn.Module):
    """2x2 transposed convolution with stride 2, `[B, H/2, W/2, C]` to blocks."""

    features: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return nn.Dense(4 * self.features, dtype=self.dtype)(x)


class Upsample(nn.Module):
    """1x1 convolution, then bilinear interpolation, `[B, H/2, W/2, C]` to blocks.

    Both are linear, so they are one 3x3 convolution: the weights of neighbours times the kernel of the 1x1 convolution.
    """

    features: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel, bias = DenseParameters(self.features, name='Dense_0')(x.shape[-1])
        # Along one axis, for the two pixels of a block: weights of the input before, at, and after the block.
        weights = jnp.array([[0.25, 0.75, 0], [0, 0.75, 0.25]])
        kernel = jnp.einsum('ai,bj,cd->ijcabd', weights, weights, kernel).reshape(3, 3, x.shape[-1], -1)
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, jnp.tile(bias, 4), dtype=self.dtype)
        y = jax.lax.conv_general_dilated(repeat_edges(x), kernel, (1, 1), 'VALID', dimension_numbers=NHWC)
        return y + bias[None, None, None]


def repeat_edges(x: jax.Array) -> jax.Array:
    """`[B, H, W, C]` with each edge doubled: `[B, H + 2, W + 2, C]`."""
    for axis in (1, 2):
        first, last = (jax.lax.slice_in_dim(x, start, start + 1, axis=axis) for start in (0, x.shape[axis] - 1))
        x = jnp.concatenate([first, x, last], axis=axis)
    return x


class Dense(nn.Module):
    """`nn.Dense` for each pixel of blocks."""

    features: int
    kernel_init: nn.initializers.Initializer

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.param('kernel', self.kernel_init, (x.shape[-1] // 4, self.features))
        bias = self.param('bias', nn.initializers.zeros, (self.features,))
        return x @ jnp.kron(jnp.eye(4), kernel) + jnp.tile(bias, 4)[None, None, None]
