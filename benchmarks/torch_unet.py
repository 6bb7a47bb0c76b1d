"""The U-Net of unet/model.py and its losses in PyTorch."""

from collections.abc import Sequence

import torch
from torch import nn
import torch.nn.functional as F

from benchmarks.torch_layers import ConvNormRelu, TransposedConv, in_float32, standardize

CLASSES = 3


def conv_block(inputs: int, features: int) -> nn.Sequential:
    return nn.Sequential(ConvNormRelu(inputs, features), ConvNormRelu(features, features))


def way_down(kind: str, features: int) -> nn.Module:
    return nn.MaxPool2d(2) if kind == 'max_pool' else ConvNormRelu(features, features, stride=2)


def way_up(kind: str, inputs: int, features: int) -> nn.Module:
    if kind == 'transposed_conv':
        return TransposedConv(inputs, features)
    return nn.Sequential(nn.Conv2d(inputs, features, 1), nn.Upsample(scale_factor=2, mode='bilinear'))


class UNet(nn.Module):
    """`UNet` of unet/model.py: `[B, 3, H, W]` to float32 logits `[B, classes, H, W]`."""

    def __init__(self, channels: Sequence[int], down: str, up: str):
        super().__init__()
        *levels, bottom = channels
        self.encoder, self.down = nn.ModuleList(), nn.ModuleList()
        self.decoder, self.up = nn.ModuleList(), nn.ModuleList()
        width = 3
        for features in levels:
            self.encoder.append(conv_block(width, features))
            self.down.append(way_down(down, features))
            width = features
        self.bottom, width = conv_block(width, bottom), bottom
        for level, features in reversed([*enumerate(levels)]):
            self.up.append(way_up(up, width, features))
            width = levels[max(level - 1, 0)]
            self.decoder.append(conv_block(2 * features, width))
        self.head = nn.Conv2d(width, CLASSES, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skips = []
        for block, down in zip(self.encoder, self.down, strict=True):
            skips.append(block(x))
            x = down(skips[-1])
        x = self.bottom(x)
        for up, block in zip(self.up, self.decoder, strict=True):
            x = block(torch.cat([skips.pop(), up(x)], dim=1))
        return in_float32(self.head, x)


def dice(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """`dice` of unet/losses.py, averaged over the batch."""
    targets = F.one_hot(labels, CLASSES).movedim(-1, 1).to(logits.dtype)
    probabilities = logits.softmax(1)
    overlap, size = (probabilities * targets).sum((2, 3)), targets.sum((2, 3))
    coefficient = 2 * overlap / (probabilities.sum((2, 3)) + size)
    present = (size > 0).to(logits.dtype)
    return (1 - (coefficient * present).sum(1) / present.sum(1)).mean()


class Objective(nn.Module):
    """Network and loss: maps a batch to the scalar to minimise, and the logits."""

    def __init__(self, work):
        super().__init__()
        config = work.config
        channels = [round(config.model.width * m) for m in config.model.multipliers]
        self.network = UNet(channels, config.model.down, config.model.up)
        self.standardize = standardize([0.45] * 3, [0.27] * 3)
        self.loss = {'cross_entropy': F.cross_entropy, 'dice': dice}[config.loss]

    def forward(self, image: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """uint8 images `[B, 3, H, W]` and labels `[B, H, W]`."""
        logits = self.network(self.standardize(image))
        return self.loss(logits, labels.long()), logits

    def example_inputs(self, size: int) -> tuple[torch.Tensor, ...]:
        """Inputs of the right shapes and types."""
        return (torch.zeros(1, 3, size, size),)

    def draw(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The batch itself: nothing is drawn at random."""
        return batch
