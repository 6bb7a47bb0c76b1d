"""The label-conditioned VAE: a label's embedding is added to mu and to log-variance."""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from common.layers.default import Mode
from vae.losses import floored
from vae.networks import DECODERS, ENCODERS


class Posterior(NamedTuple):
    """A diagonal Gaussian over latents.

    Attributes:
        mu: `[..., Z]`. log_var: `[..., Z]`.
    """

    mu: jax.Array
    log_var: jax.Array

    def sample(self, noise: jax.Array) -> jax.Array:
        """The latent `[..., Z]` at standard normal noise `[..., Z]`."""
        return self.mu + jnp.exp(0.5 * self.log_var) * noise


class ConditionalVAE(nn.Module):
    """Encoder and decoder are arguments; the label acts only through the latent.

    Attributes:
        encoder: images to a feature map. decoder: latents to logits of images.
        latent: size of the latent.
        classes: number of labels.
    """

    encoder: nn.Module
    decoder: nn.Module
    latent: int
    classes: int

    def setup(self):
        self.to_mu, self.to_log_var = nn.Dense(self.latent), nn.Dense(self.latent)
        self.embed_mu = nn.Embed(self.classes, self.latent)
        self.embed_log_var = nn.Embed(self.classes, self.latent)
        self.raw_log_scale = self.param('raw_log_scale', nn.initializers.zeros, ())

    def __call__(self, images: jax.Array, labels: jax.Array, noise: jax.Array):
        """Standardised images `[B, H, W, C]`, given labels `[K, B]` and noise `[B, Z]`.

        Returns:
            The posterior, the mean images `[K, B, H, W, C]` in `(0, 1)`, and the scalar log-scale of the likelihood.
        """
        posterior = self.posterior(self.features(images), labels)
        return posterior, self.decode(posterior.sample(noise[None])), self.likelihood_log_scale()

    def features(self, images: jax.Array) -> jax.Array:
        """The encoder's features `[B, F]`, which do not depend on the label."""
        x = self.encoder(images)
        return x.reshape(x.shape[0], -1).astype(jnp.float32)

    def posterior(self, features: jax.Array, labels: jax.Array) -> Posterior:
        """The posterior `[..., B, Z]` of images with features `[B, F]`, given labels `[..., B]`."""
        shape = *labels.shape, self.latent
        return Posterior(
            jnp.broadcast_to(self.to_mu(features), shape) + self.embed_mu(labels),
            jnp.broadcast_to(self.to_log_var(features), shape) + self.embed_log_var(labels),
        )

    def decode(self, latents: jax.Array) -> jax.Array:
        """Latents `[..., Z]` to mean images `[..., H, W, C]` in `(0, 1)`: displayed without clipping."""
        images = jax.nn.sigmoid(self.decoder(latents.reshape(-1, latents.shape[-1])))
        return images.reshape(*latents.shape[:-1], *images.shape[1:])

    def likelihood_log_scale(self) -> jax.Array:
        return floored(self.raw_log_scale)


def build(config, channels: int, classes: int, mode: Mode) -> ConditionalVAE:
    """The VAE of a configuration, for images of `channels` channels and `classes` labels."""
    model = config.model
    encoder = ENCODERS[model.encoder](model.width, mode)
    width, size = model.decoder_width or model.width, config.data.image_size
    decoder = DECODERS[model.encoder](width, channels, size, mode, modulated=model.modulated)
    return ConditionalVAE(encoder, decoder, model.latent, classes)


class Classifier(nn.Module):
    """An encoder with a linear head on its pooled features."""

    encoder: nn.Module
    classes: int

    def __call__(self, images: jax.Array) -> jax.Array:
        """Standardised images `[B, H, W, C]` to logits `[B, classes]`."""
        return self.logits_and_maps(images)[0]

    @nn.compact
    def logits_and_maps(self, images: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Standardised images `[B, H, W, C]` to logits `[B, classes]`, and feature maps `[B, h, w, F]`."""
        maps = self.encoder(images).astype(jnp.float32)
        return nn.Dense(self.classes)(jnp.mean(maps, axis=(1, 2))), maps
