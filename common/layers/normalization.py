"""Batch normalisation with its gradient in closed form."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

EPSILON = 1e-5


class BatchNorm(nn.Module):
    """As `nn.BatchNorm`, with the same variables and numbers (Ioffe & Szegedy 2015, arXiv:1502.03167).

    On a CPU the gradient that differentiation makes of that one slows networks of few channels; see docs/speed.md.
    Differentiated once, backwards; the statistics that it keeps have no gradient.

    Attributes:
        use_running_average: normalise by the running statistics, not by those of the batch.
        momentum: of the running statistics.
        dtype: of the result; statistics are float32.
        axis_name: the mapped axis over which the statistics of the batch are averaged, or None.
            Gradients are then to be taken inside the mapped function.
    """

    use_running_average: bool
    momentum: float
    dtype: jnp.dtype = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`[B, H, W, C]`, each channel to zero mean and unit variance, scaled and moved."""
        features = x.shape[-1]
        mean = self.variable('batch_stats', 'mean', jnp.zeros, features)
        var = self.variable('batch_stats', 'var', jnp.ones, features)
        scale = self.param('scale', nn.initializers.ones, (features,))
        bias = self.param('bias', nn.initializers.zeros, (features,))
        if self.use_running_average:
            return affine(x, mean.value, var.value, scale, bias).astype(self.dtype)
        axis_name = None if self.is_initializing() else self.axis_name
        y, batch_mean, batch_var = normalize(axis_name, x, scale, bias)
        if not self.is_initializing():
            mean.value = self.momentum * mean.value + (1 - self.momentum) * batch_mean
            var.value = self.momentum * var.value + (1 - self.momentum) * batch_var
        return y.astype(self.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def normalize(axis_name: str | None, x: jax.Array, scale: jax.Array, bias: jax.Array):
    """`x` normalised by its own mean and variance, float32, and these two `[C]`, which have no gradient."""
    x = x.astype(jnp.float32)
    mean, mean_square = average(axis_name, x), average(axis_name, jnp.square(x))
    var = jnp.maximum(0, mean_square - jnp.square(mean))
    return affine(x, mean, var, scale, bias), mean, var


def forward(axis_name, x, scale, bias):
    y, mean, var = normalize(axis_name, x, scale, bias)
    return (y, mean, var), (x, mean, var, scale)


def backward(axis_name, saved, gradients):
    """The chain rule through mean and variance, solved by hand: section 3 of the paper, collected."""
    x, mean, var, scale = saved
    gradient, _, _ = gradients
    images, factor = x.astype(jnp.float32), jax.lax.rsqrt(var + EPSILON)
    by_bias, product = jnp.sum(gradient, (0, 1, 2)), jnp.sum(gradient * images, (0, 1, 2))
    by_scale = (product - mean * by_bias) * factor
    count = x.size // x.shape[-1]
    mean_gradient, mean_product = across(axis_name, (by_bias / count, by_scale / count))
    slope = factor * mean_product
    by_x = wide(scale * factor) * (gradient - images * wide(slope) + wide(mean * slope - mean_gradient))
    return by_x.astype(x.dtype), by_scale, by_bias


normalize.defvjp(forward, backward)


def affine(x, mean, var, scale, bias) -> jax.Array:
    return (x - wide(mean)) * wide(jax.lax.rsqrt(var + EPSILON) * scale) + wide(bias)


def wide(values: jax.Array) -> jax.Array:
    """`[C]` to `[1, 1, 1, C]`."""
    return values[None, None, None, :]


def average(axis_name: str | None, x: jax.Array) -> jax.Array:
    """The mean `[C]` over all but channels, on all devices."""
    return across(axis_name, jnp.mean(x, (0, 1, 2)))


def across(axis_name: str | None, values):
    """The mean over the mapped axis, if there is one."""
    return jax.lax.pmean(values, axis_name) if axis_name else values
