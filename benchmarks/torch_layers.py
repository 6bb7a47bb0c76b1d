"""Layers that the PyTorch networks share, and the copy of our weights. Images are `[B, C, H, W]`."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn


class ConvNormRelu(nn.Sequential):
    """3x3 convolution, batch normalisation, ReLU."""

    def __init__(self, inputs: int, features: int, stride: int = 1):
        # With stride 2, JAX's 'SAME' pads only below and to the right; `nn.Conv2d` pads all sides alike.
        pad = [nn.ZeroPad2d((0, 1, 0, 1))] if stride == 2 else []
        conv = nn.Conv2d(inputs, features, 3, stride, padding=0 if pad else 1, bias=False)
        norm = nn.BatchNorm2d(features)
        norm.num_batches_tracked = None  # An unused counter, which the moving average would include.
        super().__init__(*pad, conv, norm, nn.ReLU(inplace=True))


class TransposedConv(nn.Sequential):
    """2x2 transposed convolution with stride 2, and a bias for each position in the block, as ours.

    A 1x1 convolution and `PixelShuffle`: on a CPU faster than `nn.ConvTranspose2d`, forward and backward, in both
    layouts.
    """

    def __init__(self, inputs: int, features: int):
        super().__init__(BlockConv(inputs, 4 * features, 1), nn.PixelShuffle(2))


class BlockConv(nn.Conv2d):
    """The convolution before `PixelShuffle`: the four positions of a feature are neighbouring channels."""


def in_float32(layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """The layer's output, computed in float32 even inside autocast."""
    with torch.autocast(x.device.type, enabled=False):
        return layer(x.float())


class Affine(nn.Module):
    """Multiplies each channel of `[B, C, H, W]` by a factor and adds an offset, in float32."""

    def __init__(self, factor: Sequence[float], offset: Sequence[float]):
        super().__init__()
        self.register_buffer('factor', torch.tensor(factor)[:, None, None])
        self.register_buffer('offset', torch.tensor(offset)[:, None, None])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.factor + self.offset


def standardize(mean: Sequence[float], std: Sequence[float], white: float = 255) -> Affine:
    """Standardises pixels in [0, `white`] by each channel's `mean` and `std`, which are for pixels in [0, 1]."""
    return Affine([1 / (white * s) for s in std], [-m / s for m, s in zip(mean, std, strict=True)])


def load(network: nn.Module, layers: list[dict[str, np.ndarray]], others: dict[str, np.ndarray], inputs: tuple) -> None:
    """Copies our weights and statistics into a network; layers are matched by the order in which they run.

    Args:
        layers: our arrays of each layer by name, in the layout of Flax.
        others: our parameters outside layers.
        inputs: example inputs of the network.
    Raises:
        ValueError: layers, shapes or numbers of parameters do not match.
    """
    targets = [(network, others)]
    targets += [
        (layer, converted(layer, values)) for layer, values in zip(in_order(network, inputs), layers, strict=True)
    ]
    count = 0
    for layer, values in targets:
        for name, value in values.items():
            target = getattr(layer, name).data
            if target.shape != value.shape:
                raise ValueError(f'{name} of {layer} is {tuple(target.shape)} in PyTorch and {value.shape} in JAX')
            target.copy_(torch.tensor(value))
            count += value.size * isinstance(getattr(layer, name), nn.Parameter)
    if count != sum(p.numel() for p in network.parameters()):
        raise ValueError(f'{sum(p.numel() for p in network.parameters())} parameters in PyTorch, {count} in JAX')


def in_order(network: nn.Module, inputs: tuple) -> list[nn.Module]:
    """The layers below the root with parameters of their own, in the order in which they run."""
    ran, mode = [], network.training
    handles = [
        layer.register_forward_hook(lambda layer, *_: ran.append(layer))
        for layer in network.modules()
        if layer is not network and [*layer.parameters(recurse=False)]
    ]
    with torch.no_grad():
        network.eval()(*inputs)
    network.train(mode)
    for handle in handles:
        handle.remove()
    return ran


def converted(layer: nn.Module, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Our arrays with PyTorch's names and layout."""
    if isinstance(layer, nn.BatchNorm2d):
        names = {'scale': 'weight', 'bias': 'bias', 'mean': 'running_mean', 'var': 'running_var'}
        return {names[name]: value for name, value in values.items()}
    if isinstance(layer, nn.Embedding):
        return {'weight': values['embedding']}
    weight = values['kernel']
    if isinstance(layer, nn.Linear):
        weight = weight.T
    elif weight.ndim == 2:  # A 1x1 convolution is a dense layer at every pixel.
        weight = weight.T[:, :, None, None]
    else:
        weight = weight.transpose(3, 2, 0, 1)
    values = {'weight': weight} | {name: value for name, value in values.items() if name == 'bias'}
    if isinstance(layer, BlockConv):  # [4, F, ...] to [F, 4, ...].
        values = {
            name: value.reshape(4, -1, *value.shape[1:]).swapaxes(0, 1).reshape(value.shape)
            for name, value in values.items()
        }
    return values
