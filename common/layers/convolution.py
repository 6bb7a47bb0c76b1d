"""The convolution of images with square kernels: where XLA:CPU is slow at it, in another form."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

FEW, SOME = 4, 16  # Channels up to which the other forms pay off.
LAYOUT = jax.lax.conv_dimension_numbers((1,) * 4, (1,) * 4, ('NHWC', 'HWIO', 'NHWC'))
PLAIN = {'lhs_dilation': (1, 1), 'rhs_dilation': (1, 1), 'feature_group_count': 1, 'dimension_numbers': LAYOUT}


def conv(lhs: jax.Array, rhs: jax.Array, window_strides=(1, 1), padding='SAME', **options) -> jax.Array:
    """Images `[B, H, W, C]` and a kernel `[K, K, C, D]`, K odd, to `[B, H, W, D]`: stride 1, padding 'SAME'.

    The arguments are those with which `nn.Conv` calls `jax.lax.conv_general_dilated`, in whose place it stands there.

    On a CPU, a convolution of few channels, and the gradient by its images, which is a convolution too, are computed
    as `form_for` says; the gradient by a kernel that narrows is a correlation the other way round. The same numbers
    up to rounding; docs/speed.md says what that gains. Differentiated backwards only (`jax.grad`, `jax.vjp`).

    Raises:
        ValueError: for other strides, padding, kernels and options.
    """
    side = len(rhs)
    if tuple(window_strides) != (1, 1) or padding != 'SAME' or rhs.shape[1] != side or not side % 2 or any(
            value != PLAIN.get(name) for name, value in options.items()):
        raise ValueError(f'not for strides {window_strides}, padding {padding}, kernel {rhs.shape} and {options}')
    return same_size(lhs, rhs)


@jax.custom_vjp
def same_size(images: jax.Array, kernel: jax.Array) -> jax.Array:
    return on_cpu(form_for(images, *kernel.shape[1:]), usual, images, kernel)


def forward(images, kernel):
    return same_size(images, kernel), (images, kernel)


def backward(saved, gradient):
    images, kernel = saved
    side, inputs, outputs = kernel.shape[1:]
    back = form_for(images, side, outputs, inputs)
    by_images = back and (lambda images, kernel, gradient: back(gradient, turned(kernel)))
    by_kernel = narrowing_gradient if outputs < inputs else None
    return (on_cpu(by_images, lambda *arrays: usual_gradients(*arrays)[0], *saved, gradient),
            on_cpu(by_kernel, lambda *arrays: usual_gradients(*arrays)[1], *saved, gradient))


same_size.defvjp(forward, backward)


def form_for(images: jax.Array, side: int, inputs: int, outputs: int) -> Callable[..., jax.Array] | None:
    """The form in which a CPU is quickest at a convolution between so many channels; None for the usual one."""
    if outputs <= FEW:
        return to_few
    if inputs == 1:
        return from_one
    return in_pairs if max(inputs, outputs) <= SOME and side > 1 and images.shape[2] % 2 == 0 else None


def on_cpu(form, otherwise, *arrays: jax.Array) -> jax.Array:
    """`form` of the arrays on a CPU if there is one, else `otherwise` of them."""
    return jax.lax.platform_dependent(*arrays, cpu=form, default=otherwise) if form else otherwise(*arrays)


def usual(images: jax.Array, kernel: jax.Array) -> jax.Array:
    return jax.lax.conv_general_dilated(images, kernel, (1, 1), 'SAME', dimension_numbers=LAYOUT)


def usual_gradients(images: jax.Array, kernel: jax.Array, gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    return jax.vjp(usual, images, kernel)[1](gradient)


def turned(kernel: jax.Array) -> jax.Array:
    """The kernel of the way back: by half a turn, with inputs and outputs exchanged."""
    return kernel[::-1, ::-1].swapaxes(2, 3)


def from_one(images: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolution of `[B, H, W, 1]`: the patch around each pixel as its channels, times the kernel."""
    patches = jnp.concatenate(list(shifted(images, len(kernel)).values()), axis=-1)
    return patches @ kernel.reshape(-1, kernel.shape[-1]).astype(images.dtype)


def to_few(images: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolution to few channels: what each pixel gives to each of its neighbours, moved there and summed."""
    given = jnp.einsum('bhwc,ijcd->bhwijd', images, kernel, preferred_element_type=jnp.float32)
    parts = shifted(given, len(kernel))
    return sum(part[:, :, :, i, j] for (i, j), part in parts.items()).astype(images.dtype)


def in_pairs(images: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolution of images of even width: each two neighbours' outputs as channels, with a kernel one wider."""
    both = [jnp.pad(kernel, ((0, 0), (left, 1 - left), (0, 0), (0, 0))) for left in (0, 1)]
    margin = len(kernel) // 2
    pairs = jax.lax.conv_general_dilated(images, jnp.concatenate(both, axis=-1), (1, 2), ((margin, margin),) * 2,
                                         dimension_numbers=LAYOUT)
    return pairs.reshape(*images.shape[:3], kernel.shape[-1])


def narrowing_gradient(images: jax.Array, kernel: jax.Array, gradient: jax.Array) -> jax.Array:
    """The gradient by a kernel with fewer outputs than inputs.

    It is the correlation of the images with the gradient of the output; correlated the other way round, the same
    numbers come out mirrored.
    """
    margin = len(kernel) // 2
    mirrored = jax.lax.conv_general_dilated(gradient, images, (1, 1), ((margin, margin),) * 2,
                                            dimension_numbers=('CHWN', 'IHWO', 'NHWC'))
    return mirrored[:, ::-1, ::-1].transpose(1, 2, 3, 0)


def shifted(maps: jax.Array, side: int) -> dict[tuple[int, int], jax.Array]:
    """`[B, H, W, ...]` as seen by each tap of a kernel of odd side, zeros beyond the border."""
    _, height, width, *rest = maps.shape
    margin = side // 2
    padded = jnp.pad(maps, ((0, 0), (margin, margin), (margin, margin), *((0, 0) for _ in rest)))
    return {(i, j): padded[:, i:i + height, j:j + width] for i in range(side) for j in range(side)}
