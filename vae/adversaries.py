"""Networks that are trained against the VAE, and the terms of both sides: a step trains both, each on its own terms."""

from collections.abc import Callable
import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vae.losses import label_nll

HIDDEN = 256


class LatentAdversary(nn.Module):
    """Predicts the label from the image's part of mu (Fader networks, Lample et al. 2017, arXiv:1706.00409)."""

    classes: int

    @nn.compact
    def __call__(self, mu: jax.Array) -> jax.Array:
        """`[B, Z]` to logits `[B, classes]`."""
        x = mu
        for _ in range(2):
            x = nn.leaky_relu(nn.Dense(HIDDEN)(x), 0.2)
        return nn.Dense(self.classes)(x)

    def terms(self, params, mu: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The adversary's loss, which trains no encoder, and the encoder's, which trains no adversary: `[B]` each.

        The adversary's is its NLL of the true label y, the encoder's -log(1 - p(y)) (equation 3 there).
        """
        nll = label_nll(logits=self.apply({'params': params}, jax.lax.stop_gradient(mu)), labels=labels)
        logits = jax.nn.log_softmax(self.apply({'params': jax.lax.stop_gradient(params)}, mu))
        others = jnp.where(jax.nn.one_hot(labels, self.classes, dtype=bool), -jnp.inf, logits)
        return nll, -jax.nn.logsumexp(others, axis=-1)


class SwapDiscriminator(nn.Module):
    """Tells swaps to a label from reconstructions of images that have it, in a frozen classifier's feature maps.

    Reconstructions take the place of real images, which it would know by their sharpness. The label enters by
    projection (Miyato & Koyama 2018, arXiv:1802.05637).
    """

    classes: int

    @nn.compact
    def __call__(self, maps: jax.Array, labels: jax.Array) -> jax.Array:
        """Feature maps `[B, h, w, F]` and labels `[B]` to logits `[B]` of a reconstruction."""
        x = nn.leaky_relu(nn.Dense(HIDDEN)(maps), 0.2)
        x = jnp.mean(nn.leaky_relu(nn.Dense(HIDDEN)(x), 0.2), axis=(1, 2))
        return nn.Dense(1)(x)[:, 0] + jnp.sum(nn.Embed(self.classes, HIDDEN)(labels) * x, axis=-1)

    def terms(self, params, reconstructions, swaps, labels, given, right) -> tuple[jax.Array, jax.Array]:
        """The discriminator's loss, which trains no decoder, and the decoder's, which trains no discriminator: `[B]`.

        The first is the binary cross-entropy of both kinds, the second the non-saturating -log D of the swaps
        (Goodfellow et al. 2014, arXiv:1406.2661).

        Args:
            reconstructions, swaps: feature maps `[B, h, w, F]`.
            labels, given: what the reconstructions are of, and what the swaps are to be, `[B]`.
            right: which reconstructions are under their true labels, `[B]`; the others do not count.
        """
        maps, all_labels = jnp.concatenate([reconstructions, swaps]), jnp.concatenate([labels, given])
        real, fake = jnp.split(self.apply({'params': params}, jax.lax.stop_gradient(maps), all_labels), 2)
        fooled = self.apply({'params': jax.lax.stop_gradient(params)}, swaps, given)
        return jnp.where(right, jax.nn.softplus(-real), 0) + jax.nn.softplus(fake), jax.nn.softplus(-fooled)


@dataclasses.dataclass(frozen=True)
class Adversaries:
    """Those that a configuration has: an adversary whose weight is 0 has neither parameters nor terms.

    Attributes:
        latent, swap: weights of the VAE's losses against a `LatentAdversary` and a `SwapDiscriminator`.
        classes: number of labels.
    """

    latent: float
    swap: float
    classes: int

    def init(self, key: jax.Array, mu: jax.Array, make_maps: Callable[[], jax.Array]) -> dict[str, Any]:
        """Parameters by adversary, for arguments in the shapes of mu `[B, Z]` and of feature maps `[B, h, w, F]`."""
        params = {}
        if self.latent:
            params['latent_adversary'] = LatentAdversary(self.classes).init(jax.random.fold_in(key, 1), mu)['params']
        if self.swap:
            maps = make_maps()
            params['discriminator'] = SwapDiscriminator(self.classes).init(
                jax.random.fold_in(key, 2), maps, jnp.zeros(len(maps), jnp.int32)
            )['params']
        return params

    def terms(self, params, *, mu, maps, labels, true) -> dict[str, jax.Array]:
        """The losses `[B]` of the adversaries, and of the VAE against them.

        Args:
            params: from `init`. mu: without the label's embedding, `[B, Z]`. true: labels `[B]`.
            maps, labels: feature maps `[B, h, w, F]` of the images under the labels `given` and `swap`, and the labels.
        """
        terms: dict[str, jax.Array] = {}
        if self.latent:
            nll, denial = LatentAdversary(self.classes).terms(params['latent_adversary'], mu, true)
            terms |= {'adversary_loss': nll, 'denial_loss': self.latent * denial}
        if self.swap:
            nll, fooled = SwapDiscriminator(self.classes).terms(
                params['discriminator'],
                maps['given'],
                maps['swap'],
                labels['given'],
                labels['swap'],
                labels['given'] == true,
            )
            terms |= {'discriminator_loss': nll, 'realism_loss': self.swap * fooled}
        return terms
