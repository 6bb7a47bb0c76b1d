"""The convolution of images with square kernels: where XLA:CPU is slow at it, in another form."""

import jax
import jax.numpy as jnp

FEW = 4  # Channels.
LAYOUT = jax.lax.conv_dimension_numbers((1,) * 4, (1,) * 4, ('NHWC', 'HWIO', 'NHWC'))
PLAIN = {'lhs_dilation': (1, 1), 'rhs_dilation': (1, 1), 'feature_group_count': 1, 'dimension_numbers': LAYOUT}


def conv(lhs: jax.Array, rhs: jax.Array, window_strides=(1, 1), padding='SAME', **options) -> jax.Array:
    """Images `[B, H, W, C]` and a kernel `[K, K, C, D]`, K odd, to `[B, H, W, D]`: stride 1, padding 'SAME'.

    The arguments are those with which `nn.Conv` calls `jax.lax.conv_general_dilated`, in whose place it stands.

    On a CPU, a convolution from one channel is computed as a product of patches, one to few channels as a sum of
    products, and so is the gradient of one from few channels by its images; the gradient by a kernel that narrows is
    a correlation the other way round. The same numbers up to rounding; docs/speed.md says what that gains.

    Raises:
        ValueError: for other strides, padding, kernels and options.
    """
    side, _, inputs, outputs = rhs.shape
    if tuple(window_strides) != (1, 1) or padding != 'SAME' or rhs.shape[1] != side or not side % 2 or any(
            value != PLAIN.get(name) for name, value in options.items()):
        raise ValueError(f'not for strides {window_strides}, padding {padding}, kernel {rhs.shape} and {options}')

    def usual(images, kernel):
        return jax.lax.conv_general_dilated(images, kernel, (1, 1), 'SAME', dimension_numbers=LAYOUT)

    def forward(images, kernel):
        form = to_few if outputs <= FEW else from_one
        return on_cpu(outputs <= FEW or inputs == 1, form, usual, images, kernel)

    def backward(saved, gradient):
        def usual_gradient(argument):
            return lambda images, kernel, gradient: jax.vjp(usual, images, kernel)[1](gradient)[argument]

        return (on_cpu(inputs <= FEW, gradient_to_few, usual_gradient(0), *saved, gradient),
                on_cpu(outputs < inputs, narrowing_gradient, usual_gradient(1), *saved, gradient))

    differentiable = jax.custom_vjp(forward)
    differentiable.defvjp(lambda images, kernel: (forward(images, kernel), (images, kernel)), backward)
    return differentiable(lhs, rhs)


def on_cpu(useful: bool, form, usual, *arrays: jax.Array) -> jax.Array:
    """`form` of the arrays on a CPU if it is of use there, else what is usual."""
    return jax.lax.platform_dependent(*arrays, cpu=form, default=usual) if useful else usual(*arrays)


def from_one(images: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolution of `[B, H, W, 1]`: the patch around each pixel as its channels, times the kernel."""
    patches = jnp.concatenate(list(shifted(images, len(kernel)).values()), axis=-1)
    return patches @ kernel.reshape(-1, kernel.shape[-1]).astype(images.dtype)


def to_few(images: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolution to few channels: what each pixel gives to each of its neighbours, moved there and summed."""
    given = jnp.einsum('bhwc,ijcd->bhwijd', images, kernel, preferred_element_type=jnp.float32)
    parts = shifted(given, len(kernel))
    return sum(part[:, :, :, i, j] for (i, j), part in parts.items()).astype(images.dtype)


def gradient_to_few(images: jax.Array, kernel: jax.Array, gradient: jax.Array) -> jax.Array:
    """The gradient by the images, which have few channels: a convolution with the mirrored kernel."""
    return to_few(gradient, kernel[::-1, ::-1].swapaxes(2, 3)).astype(images.dtype)


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
