"""The only place of programs that are quicker on a CPU than those of `jax.lax` and Flax for the same function.

docs/speed.md says what each one gains. common/layers/default.py chooses them when the program is lowered for a CPU.
"""

from collections.abc import Callable
import functools

import jax
import jax.numpy as jnp

NHWC = ('NHWC', 'HWIO', 'NHWC')


def max_pool(x: jax.Array) -> jax.Array:
    """2x2 maximum, `[B, H, W, C]` to `[B, H/2, W/2, C]`: its gradient needs no select-and-scatter."""
    x = jnp.maximum(x[:, ::2], x[:, 1::2])
    return jnp.maximum(x[:, :, ::2], x[:, :, 1::2])


def bilinear_upsample(x: jax.Array) -> jax.Array:
    """`jax.image.resize` to twice the height and width, as weighted sums of neighbours along each axis."""
    for axis in (1, 2):
        size = x.shape[axis]
        part = functools.partial(jax.lax.slice_in_dim, x, axis=axis)
        before, after = part(0, size - 1), part(1, size)
        even = jnp.concatenate([part(0, 1), 0.25 * before + 0.75 * after], axis=axis)
        odd = jnp.concatenate([0.75 * before + 0.25 * after, part(size - 1, size)], axis=axis)
        x = jnp.stack([even, odd], axis=axis + 1).reshape(*x.shape[:axis], 2 * size, *x.shape[axis + 1 :])
    return x


def transposed_conv(x: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
    """`[B, H, W, C]` times `[C, 4 F]`, each pixel's 4 F channels laid out as a 2x2 block: `[B, 2H, 2W, F]`.

    XLA computes `jax.lax.conv_transpose` on an input that is dilated with zeros.
    """
    b, h, w, _ = x.shape
    features = len(bias) // 4
    blocks = (x @ kernel + bias[None, None, None]).reshape(b, h, w, 2, 2, features)
    return blocks.transpose(0, 1, 3, 2, 4, 5).reshape(b, 2 * h, 2 * w, features)


def suits_conv(images: jax.Array, kernel: jax.Array) -> bool:
    """Whether `conv` is faster than `jax.lax` at these images `[B, H, W, C]` and kernel `[K, K, C, D]`."""
    square = kernel.shape[0] == kernel.shape[1] and len(kernel) % 2 == 1
    return square and (form_of(images, *kernel.shape[1:]) is not plain_conv or narrows(kernel))


def form_of(images: jax.Array, side: int, inputs: int, outputs: int) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """The fastest form of a convolution of images of this width between so many channels."""
    if outputs == 1:
        return to_one
    if inputs == 1:
        return from_one
    return in_pairs if max(inputs, outputs) <= 16 and side > 1 and images.shape[2] % 2 == 0 else plain_conv


def narrows(kernel: jax.Array) -> bool:
    return kernel.shape[3] < kernel.shape[2]


@jax.custom_vjp
def conv(images: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolution with stride 1, padding 'SAME' and a square kernel of odd side, to `[B, H, W, D]`."""
    return form_of(images, *kernel.shape[1:])(images, kernel)


def conv_gradients(arrays, gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    """By the images, with the kernel rotated by 180 degrees and its channels swapped, and by the kernel."""
    images, kernel = arrays
    by_images, by_kernel = jax.vjp(plain_conv, images, kernel)[1](gradient)
    form = form_of(images, len(kernel), kernel.shape[3], kernel.shape[2])
    if form is not plain_conv:
        by_images = form(gradient, kernel[::-1, ::-1].swapaxes(2, 3))
    return by_images, narrowing_gradient(images, kernel, gradient) if narrows(kernel) else by_kernel


conv.defvjp(lambda *arrays: (conv(*arrays), arrays), conv_gradients)


def plain_conv(images: jax.Array, kernel: jax.Array) -> jax.Array:
    return jax.lax.conv_general_dilated(images, kernel, (1, 1), 'SAME', dimension_numbers=NHWC)


def from_one(images: jax.Array, kernel: jax.Array) -> jax.Array:
    """Multiplies the patch around each pixel of images with one channel by the kernel."""
    patches = jnp.concatenate([*shifted(images, len(kernel)).values()], axis=-1)
    return patches @ kernel.reshape(-1, kernel.shape[-1])


def to_one(images: jax.Array, kernel: jax.Array) -> jax.Array:
    """Multiplies each pixel by the whole kernel of one output channel, and sums what falls on each output pixel."""
    products = jnp.einsum('bhwc,ijcd->bhwijd', images, kernel, preferred_element_type=jnp.float32)
    parts = [part[:, :, :, i, j] for (i, j), part in shifted(products, len(kernel)).items()]
    return functools.reduce(jnp.add, parts).astype(images.dtype)


def shifted(images: jax.Array, side: int) -> dict[tuple[int, int], jax.Array]:
    """Images `[B, H, W, ...]`, padded with zeros, as each position of a kernel of this odd side meets them."""
    height, width = images.shape[1:3]
    margin = side // 2
    padded = jnp.pad(images, [(margin, margin) if axis in (1, 2) else (0, 0) for axis in range(images.ndim)])
    return {(i, j): padded[:, i : i + height, j : j + width] for i in range(side) for j in range(side)}


def in_pairs(images: jax.Array, kernel: jax.Array) -> jax.Array:
    """Computes two neighbouring pixels at a time: twice the channels, a stride of 2, a kernel wider by one pixel."""
    both = [jnp.pad(kernel, ((0, 0), (left, 1 - left), (0, 0), (0, 0))) for left in (0, 1)]
    margin = len(kernel) // 2
    pairs = jax.lax.conv_general_dilated(
        images, jnp.concatenate(both, axis=-1), (1, 2), ((margin, margin),) * 2, dimension_numbers=NHWC
    )
    return pairs.reshape(*images.shape[:3], kernel.shape[-1])


def narrowing_gradient(images: jax.Array, kernel: jax.Array, gradient: jax.Array) -> jax.Array:
    """The gradient by a kernel with fewer outputs than inputs.

    It correlates the images with the output's gradient. The correlation of the output's gradient with the images is
    the same, mirrored, and quicker.
    """
    margin = len(kernel) // 2
    mirrored = jax.lax.conv_general_dilated(
        gradient, images, (1, 1), ((margin, margin),) * 2, dimension_numbers=('CHWN', 'IHWO', 'NHWC')
    )
    return mirrored[:, ::-1, ::-1].transpose(1, 2, 3, 0)
