"""The conditional VAE of vae/model.py, its networks, its frozen classifier and its objective in PyTorch."""

import math

import torch
from torch import nn
import torch.nn.functional as F

from benchmarks.torch_layers import ConvNormRelu, TransposedConv, in_float32, standardize

CLASSES = 10
MIN_LOG_SCALE = -6.0


def small_encoder(channels: int, width: int) -> nn.Sequential:
    half, most = width // 2, 3 * width // 4
    return nn.Sequential(
        ConvNormRelu(channels, half),
        ConvNormRelu(half, most),
        nn.MaxPool2d(2),
        ConvNormRelu(most, width),
        ConvNormRelu(width, width),
        nn.MaxPool2d(2),
        ConvNormRelu(width, width),
    )


def small_decoder(channels: int, width: int, size: int, latent: int) -> nn.Sequential:
    half, most = width // 2, 3 * width // 4
    return nn.Sequential(
        ToMap(latent, size // 4, width),
        ConvNormRelu(width, width),
        TransposedConv(width, width),
        ConvNormRelu(width, width),
        ConvNormRelu(width, width),
        TransposedConv(width, most),
        ConvNormRelu(most, most),
        ConvNormRelu(most, half),
        ToLogits(half, channels),
    )


def resnet9(channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        ConvNormRelu(channels, width),
        ConvNormRelu(width, 2 * width),
        nn.MaxPool2d(2),
        Residual(2 * width),
        ConvNormRelu(2 * width, 4 * width),
        nn.MaxPool2d(2),
        ConvNormRelu(4 * width, 8 * width),
        nn.MaxPool2d(2),
        Residual(8 * width),
    )


def resnet9_decoder(channels: int, width: int, size: int, latent: int) -> nn.Sequential:
    return nn.Sequential(
        ToMap(latent, size // 8, 8 * width),
        Residual(8 * width),
        TransposedConv(8 * width, 4 * width),
        ConvNormRelu(4 * width, 4 * width),
        TransposedConv(4 * width, 2 * width),
        ConvNormRelu(2 * width, 2 * width),
        Residual(2 * width),
        TransposedConv(2 * width, width),
        ConvNormRelu(width, width),
        ToLogits(width, channels),
    )


class Residual(nn.Module):
    """Residual block of two convolutions."""

    def __init__(self, features: int):
        super().__init__()
        self.layers = nn.Sequential(ConvNormRelu(features, features), ConvNormRelu(features, features))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.layers(x)


class ToMap(nn.Module):
    """Maps latents `[B, Z]` to a feature map `[B, features, side, side]`."""

    def __init__(self, latent: int, side: int, features: int):
        super().__init__()
        self.shape = (side, side, features)
        self.dense = nn.Linear(latent, math.prod(self.shape))

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return F.relu(self.dense(z).unflatten(1, self.shape).permute(0, 3, 1, 2))


class ToLogits(nn.Module):
    """Maps a feature map to the logits of an image, in float32."""

    def __init__(self, features: int, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(features, channels, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return in_float32(self.conv, x)


ENCODERS = {'small': small_encoder, 'resnet9': resnet9}
DECODERS = {'small': small_decoder, 'resnet9': resnet9_decoder}
SHRINK = {'small': 4, 'resnet9': 8}  # Side of an image divided by that of its feature map.
GROW = {'small': 1, 'resnet9': 8}  # Channels of the feature map divided by `width`.


class ConditionalVAE(nn.Module):
    """That of vae/model.py: images, labels and noise to mu, log-variance, mean image in (0, 1) and log-scale."""

    def __init__(self, config):
        super().__init__()
        model, size, channels = config.model, config.data.image_size, len(config.data.mean)
        self.encoder = ENCODERS[model.encoder](channels, model.width)
        features = GROW[model.encoder] * model.width * (size // SHRINK[model.encoder]) ** 2
        self.to_mu, self.to_log_var = (nn.Linear(features, model.latent) for _ in range(2))
        self.embed_mu, self.embed_log_var = (nn.Embedding(CLASSES, model.latent) for _ in range(2))
        width = model.decoder_width or model.width
        self.decoder = DECODERS[model.encoder](channels, width, size, model.latent)
        self.raw_log_scale = nn.Parameter(torch.zeros(()))

    def forward(self, images: torch.Tensor, labels: torch.Tensor, noise: torch.Tensor):
        features = self.encoder(images).permute(0, 2, 3, 1).flatten(1)  # In the order of JAX: channels last.
        mu = in_float32(self.to_mu, features) + self.embed_mu(labels)
        log_var = in_float32(self.to_log_var, features) + self.embed_log_var(labels)
        mean = self.decoder(mu + (0.5 * log_var).exp() * noise).sigmoid()
        return mu, log_var, mean, MIN_LOG_SCALE + F.softplus(self.raw_log_scale - MIN_LOG_SCALE)


class Classifier(nn.Module):
    """As vae/model.py's `Classifier`."""

    def __init__(self, config):
        super().__init__()
        model = config.model
        self.encoder = ENCODERS[model.encoder](len(config.data.mean), model.width)
        self.head = nn.Linear(GROW[model.encoder] * model.width, CLASSES)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return in_float32(self.head, self.encoder(images).float().mean((2, 3)))


class Objective(nn.Module):
    """Network, frozen classifier and loss: maps a batch to the scalar to minimise, and the mean image."""

    def __init__(self, work):
        super().__init__()
        if work.config.reconstruct_wrong or work.config.swap_weight or work.config.model.modulated:
            raise ValueError('PyTorch has no comparison of wrong labels, no swap loss and no modulated decoder here')
        self.config, own, read = work.config, work.config.data, work.classifier.data
        self.standardize = standardize(own.mean, own.std)
        self.standardize_mean = standardize(own.mean, own.std, white=1)
        self.show = standardize(read.mean, read.std, white=1)
        self.network = ConditionalVAE(work.config)
        self.classifier = Classifier(work.classifier).eval().requires_grad_(False)

    def train(self, mode: bool = True):
        """Sets the mode of the network; the classifier stays in evaluation mode."""
        super().train(mode)
        self.classifier.eval()
        return self

    def forward(self, image, label, given, noise) -> tuple[torch.Tensor, torch.Tensor]:
        """uint8 images `[B, C, H, W]`, true and given labels `[B]`, noise `[B, Z]`."""
        images = self.standardize(image)
        mu, log_var, mean, log_scale = self.network(images, given, noise)
        squares = ((images - self.standardize_mean(mean)) * (-log_scale).exp()).square().sum((1, 2, 3))
        pixels = images[0].numel()
        likelihood = -0.5 * squares - pixels * (log_scale + 0.5 * math.log(2 * math.pi))
        kl = 0.5 * (mu.square() + log_var.exp() - 1 - log_var).sum(1)
        nll = F.cross_entropy(self.classifier(self.show(mean)), given, reduction='none')
        total = -torch.where(given == label, likelihood, 0) + kl + self.config.label_weight * nll
        return total.mean(), mean

    def example_inputs(self, size: int) -> tuple[torch.Tensor, ...]:
        """Inputs of the right shapes and types."""
        return (
            torch.zeros(1, len(self.config.data.mean), size, size),
            torch.zeros(1, dtype=torch.long),
            torch.zeros(1, self.config.model.latent),
        )

    def draw(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The batch with `given` labels, some of them wrong, and `noise`."""
        label = batch['label']
        shift = torch.randint_like(label, 1, CLASSES)
        wrong = torch.rand(len(label), device=label.device) < self.config.wrong_label_rate
        noise = torch.randn(len(label), self.config.model.latent, device=label.device)
        return {**batch, 'given': torch.where(wrong, (label + shift) % CLASSES, label), 'noise': noise}
