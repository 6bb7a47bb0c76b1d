"""The task of the label-conditioned VAE."""

from collections.abc import Iterable
import dataclasses
import functools
import operator
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
import numpy as np
from PIL import Image

from common import augment
from common.checkpoint import restore
from common.data.images import standardize
from common.errors import UserError, check_choice
from common.keys import Keys
from common.layers.default import Mode
from common.parallel import AXIS, Devices
from common.task import Picture, Variables
from configs import vae_mnist
from vae import data, evaluation, figures, report
from vae import latents as latents_lib
from vae import swaps as swaps_lib
from vae.adversaries import Adversaries
from vae.classifier import CLASSIFIERS, ClassifierTask, classifier_tasks
from vae.losses import gaussian_log_likelihood, kl_divergence, label_nll
from vae.model import ConditionalVAE, build
from vae.networks import DECODERS


@dataclasses.dataclass(frozen=True)
class VAETask(data.LabelledTask):
    """Batches hold `image` uint8 `[B, S, S, C]` and `label` int32 `[B]`, the true one.

    The constants are the variables of the `frozen` classifier, of a `second` one where the configuration names one, and
    of the `judge`. They run in evaluation mode.
    """

    title = 'Label-conditioned VAE'
    headline = ('total', 'reconstruction', 'kl', 'swap_accuracy/judge')
    curves = ('total', 'reconstruction', 'kl', 'label_loss')
    figure_examples = 1000  # Real images for comparison; 64 of them are reconstructed and swapped.
    takes_labels = True
    per_example = ('judged',)

    @classmethod
    def defaults(cls) -> ConfigDict:
        return vae_mnist.get_config()

    def __post_init__(self):
        check_choice('model.encoder', self.config.model.encoder, DECODERS)
        data.check_images(self.config)
        augment.check_strengths('show', self.config.show)
        model = self.config.model
        if model.latent < 1 or model.decoder_width < 0 or model.decoder_width == 1:
            raise UserError('the model needs latent >= 1, and decoder_width >= 2 or 0 for that of the encoder')
        augment.check_strengths('adversaries', self.config.adversaries)
        for name in ('importance_samples', 'label_weight', 'swap_weight', 'coarse_weight', 'cycle_weight'):
            if self.config[name] < 0:
                raise UserError(f'{name} is {self.config[name]}; it must not be negative')
        needs_swaps = self.config.coarse_weight or self.config.cycle_weight or self.config.adversaries.swap
        if needs_swaps and not self.config.swap_weight:
            raise UserError(
                'coarse_weight, cycle_weight and adversaries.swap need the swaps of training; set swap_weight above 0'
            )
        for key in ('classifier_workdir', 'judge_workdir'):
            if not self.config[key]:
                raise UserError(f"{key} is '', where no trained run is; name the folder of one")
        if not 0 <= self.config.wrong_label_rate <= 1:
            raise UserError(f'wrong_label_rate is {self.config.wrong_label_rate}; choose it in [0, 1]')

    @functools.cached_property
    def classifiers(self) -> dict[str, ClassifierTask]:
        """The tasks of the frozen classifiers and of the judge. Raises UserError where they do not fit."""
        return classifier_tasks(self.config)

    @property
    def adversaries(self) -> Adversaries:
        return Adversaries(self.config.adversaries.latent, self.config.adversaries.swap, len(self.classes))

    def model(self, train: bool) -> ConditionalVAE:
        return build(self.config, self.channels, len(self.classes), Mode(train, jnp.dtype(self.config.dtype), AXIS))

    def init(self, key: jax.Array) -> Variables:
        size, channels = self.config.data.image_size, self.channels
        images, latents = jnp.zeros((1, size, size, channels)), jnp.zeros((1, self.config.model.latent))
        variables = self.model(train=False).init(key, images, jnp.zeros((1, 1), jnp.int32), latents)
        adversaries = self.adversaries.init(key, latents, functools.partial(self.empty_maps, images))
        return variables | {'params': variables['params'] | adversaries}

    def empty_maps(self, images: jax.Array) -> jax.Array:
        """Zeros in the shape of the frozen classifier's feature maps."""
        frozen = self.classifiers['frozen']
        variables = jax.eval_shape(frozen.init, jax.random.key(0))
        return jnp.zeros(jax.eval_shape(frozen.logits_and_maps, variables, images)[1].shape)

    def constants(self) -> dict[str, Any]:
        """The variables of the frozen classifiers and of the judge."""
        restored = {
            name: restore(task, pathlib.Path(self.config[CLASSIFIERS[name]]), Devices())[0]
            for name, task in self.classifiers.items()
        }
        return jax.tree.map(np.asarray, restored)  # For the caller's devices, which may be others.

    def given_labels(self, batch, keys: Keys) -> jax.Array:
        """The labels `[B]` that the model is given: some are wrong."""
        draw = functools.partial(jax.random.bernoulli, p=self.config.wrong_label_rate)
        wrong = jax.vmap(draw)(keys.per_example('is_wrong', batch['index']))
        return jnp.where(wrong, self.other_labels(batch, keys, 'wrong_label'), batch['label'])

    def other_labels(self, batch, keys: Keys, name: str) -> jax.Array:
        """For each image a label `[B]` that is not its own, uniformly."""
        count = len(self.classes)
        draw = functools.partial(jax.random.randint, shape=(), minval=1, maxval=count)
        return (batch['label'] + jax.vmap(draw)(keys.per_example(name, batch['index']))) % count

    def noise(self, batch, keys: Keys, name: str = 'latent') -> jax.Array:
        """Standard normal noise `[B, Z]`, an example each."""
        draw = functools.partial(jax.random.normal, shape=(self.config.model.latent,))
        return jax.vmap(draw)(keys.per_example(name, batch['index']))

    def loss(self, params, batch_stats, constants, batch, keys: Keys, stage=None):
        """The mean of `objective`; every image is also decoded with a second, always wrong label if `swap_weight`."""
        labels = {'given': self.given_labels(batch, keys)}
        if self.config.swap_weight:
            labels['swap'] = self.other_labels(batch, keys, 'swap')
        pixels = self.flipped(batch, keys)
        images = standardize(pixels, self.config.data)
        stacked = jnp.stack([*labels.values()])
        (posteriors, means, log_scale), updates = self.model(train=True).apply(
            {'params': params, 'batch_stats': batch_stats},
            images,
            stacked,
            self.noise(batch, keys),
            mutable=['batch_stats'],
        )
        nll, maps = (unstack(x, labels) for x in self.training_nll(constants, means, stacked, batch, keys))
        posterior, decoded = unstack(posteriors, labels)['given'], unstack(means, labels)
        terms = self.elbo_terms(images, posterior, decoded['given'], log_scale)
        # The target of a wrong label is not the original: then only the latent's size and the label count.
        reconstructed = (labels['given'] == batch['label']) | self.config.reconstruct_wrong
        terms['reconstruction'] = jnp.where(reconstructed, terms['reconstruction'], 0)
        terms['label_loss'] = self.config.label_weight * nll['given']
        if self.config.swap_weight:
            terms['swap_loss'] = self.config.swap_weight * nll['swap']
        mu = posterior.mu - params['embed_mu']['embedding'][labels['given']]
        terms |= self.adversaries.terms(params, mu=mu, maps=maps, labels=labels, true=batch['label'])
        if self.config.coarse_weight:
            terms['coarse_loss'] = self.config.coarse_weight * swaps_lib.coarse_difference(decoded['swap'], pixels)
        if self.config.cycle_weight:
            cycled = self.cycled({'params': params, 'batch_stats': batch_stats}, decoded['swap'], batch, keys)
            scale = jax.lax.stop_gradient(log_scale)  # That of the likelihood fits the reconstructions alone.
            terms['cycle_loss'] = -self.config.cycle_weight * self.log_likelihood(images, cycled, scale)
        total = objective(terms)
        sums = {name: jnp.sum(term) for name, term in (terms | {'total': total}).items()}
        counts = {'examples': jnp.int32(len(total)), 'compared': jnp.sum(reconstructed, dtype=jnp.int32)}
        return jnp.mean(total), (updates['batch_stats'], sums | counts)

    def training_nll(self, constants, images, labels, batch, keys: Keys) -> tuple[jax.Array, jax.Array]:
        """NLLs `[K, B]` of labels `[K, B]` by `frozen_nll`, for images `[K, B, S, S, C]`, shown transformed.

        Also the first classifier's feature maps of them, `[K, B, h, w, F]`.
        """
        shown = self.transformed(images, batch, keys).reshape(-1, *images.shape[2:])
        nll, maps = self.frozen_nll(constants, shown, labels.reshape(-1))
        return nll.reshape(labels.shape), maps.reshape(*labels.shape, *maps.shape[1:])

    def frozen_nll(self, constants, images, labels) -> tuple[jax.Array, jax.Array]:
        """The frozen classifier's NLL `[N]` of labels `[N]` for images `[N, S, S, C]`; of two classifiers, the larger.

        Also the first one's feature maps, `[N, h, w, F]`.
        """
        logits, maps = self.classifiers['frozen'].logits_and_maps(constants['frozen'], images)
        nll = label_nll(logits=logits, labels=labels)
        if 'second' in self.classifiers:
            logits = self.classifiers['second'].logits(constants['second'], images)
            nll = jnp.maximum(nll, label_nll(logits=logits, labels=labels))
        return nll, maps

    def cycled(self, variables, swaps, batch, keys: Keys) -> jax.Array:
        """Swaps `[B, S, S, C]` in `[0, 1]`, encoded and decoded under the true labels; statistics are not kept."""
        (_, means, _), _ = self.model(train=True).apply(
            variables,
            standardize(swaps, self.config.data),
            batch['label'][None],
            self.noise(batch, keys, 'cycle'),
            mutable=['batch_stats'],
        )
        return means[0]

    def elbo_terms(self, images, posterior, mean, log_scale) -> dict[str, jax.Array]:
        """The two terms of the evidence lower bound, `[B]` each."""
        return {
            'reconstruction': self.log_likelihood(images, mean, log_scale),
            'kl': kl_divergence(mu=posterior.mu, log_var=posterior.log_var),
        }

    def log_likelihood(self, images, mean, log_scale) -> jax.Array:
        """Log-likelihood `[B]` of standardised images under mean images in `(0, 1)`."""
        return gaussian_log_likelihood(images=images, mean=standardize(mean, self.config.data), log_scale=log_scale)

    def flipped(self, batch, keys: Keys) -> jax.Array:
        """The images as float32 in [0, 1], mirrored at random if `augment.flip`."""
        pixels = batch['image'] / jnp.float32(255)
        if not self.config.augment.flip:
            return pixels
        flip = jax.vmap(jax.random.bernoulli)(keys.per_example('flip', batch['index']))
        return jnp.where(flip[:, None, None, None], pixels[:, :, ::-1], pixels)

    def transformed(self, images, batch, keys: Keys) -> jax.Array:
        """Images `[K, B, S, S, C]`, moved and noised at random as `show` says.

        The frozen classifier is given these, so that adversarial texture does not lower the loss.
        """
        options = self.config.show
        if not (options.scale or options.shift or options.noise):
            return images

        def one(image, key):
            move_key, noise_key = jax.random.split(key)
            image = augment.randomly_moved(
                move_key, image, flip=False, scale=options.scale, aspect=options.scale, shift=options.shift
            )
            return image + options.noise * jax.random.normal(noise_key, image.shape)

        return jax.vmap(jax.vmap(one), in_axes=(0, None))(images, keys.per_example('show', batch['index']))

    def measures(self, split: str) -> str:
        """Only the loss on the training split; swaps, style and bounds on the others."""
        return 'loss' if split == 'train' else 'all'

    def eval_step(self, variables, constants, batch, keys: Keys, measures: str = 'all') -> dict[str, Any]:
        """Metric sums over the valid examples of a batch: right labels, then, for 'all', every label."""
        valid, pixels = batch['valid'], batch['image'] / 255.0
        images, apply = standardize(pixels, self.config.data), self.bound(variables)
        features = apply(images, method='features')
        posterior = apply(features, batch['label'], method='posterior')
        log_scale = apply(method='likelihood_log_scale')
        mean = apply(posterior.sample(self.noise(batch, keys)), method='decode')
        terms = self.elbo_terms(images, posterior, mean, log_scale)
        terms['label_loss'] = self.config.label_weight * self.frozen_nll(constants, mean, batch['label'])[0]
        terms['total'] = objective(terms)
        terms['mse'] = jnp.mean(jnp.square(mean - pixels), axis=(1, 2, 3))
        if self.config.importance_samples and measures == 'all':
            terms['iw_bound'] = self.importance_bound(apply, images, posterior, log_scale, batch, keys)
        sums = {name: jnp.sum(jnp.where(valid, term, 0)) for name, term in terms.items()}
        sums |= {'examples': jnp.sum(valid, dtype=jnp.int32)}
        if measures != 'all':
            return sums
        swaps, judged = evaluation.batch_sums(self.all_labels(variables, features), batch, self.classifiers, constants)
        return sums | {'swaps': swaps, 'judged': judged}

    def bound(self, variables):
        """The network's `apply` in evaluation mode, with these variables."""
        return functools.partial(self.model(train=False).apply, variables)

    def importance_bound(self, apply, images, posterior, log_scale, batch, keys: Keys) -> jax.Array:
        """log mean_k p(x, z_k) / q(z_k | x) over `importance_samples` samples (Burda et al. 2015): `[B]`."""

        def log_weight(k):
            noise = self.noise(batch, Keys(keys.root, k), 'importance')
            latents = posterior.sample(noise)
            likelihood = self.log_likelihood(images, apply(latents, method='decode'), log_scale)
            log_ratio = 0.5 * jnp.sum(noise**2 - latents**2 + posterior.log_var, axis=-1)
            return likelihood + log_ratio

        count = self.config.importance_samples
        weights = jax.lax.map(log_weight, jnp.arange(1, count + 1))
        return jax.nn.logsumexp(weights, axis=0) - jnp.log(count)

    def all_labels(self, variables, features) -> jax.Array:
        """Every image as every label, from the posterior's mean: `[classes, B, S, S, C]` in `[0, 1]`."""
        labels = jnp.broadcast_to(self.label_column, (len(self.classes), len(features)))
        latents = self.bound(variables)(features, labels, method='posterior').mu
        return self.bound(variables)(latents, method='decode')

    def swaps(self, variables, pixels: jax.Array) -> jax.Array:
        """Images `[B, S, S, C]` in `[0, 1]` as every label: `[classes, B, S, S, C]`."""
        features = self.bound(variables)(standardize(pixels, self.config.data), method='features')
        return self.all_labels(variables, features)

    def summarize(self, sums: dict[str, Any]) -> dict[str, float]:
        """Metrics from sums; those of training and of the training split have no swaps.

        The terms add up to `total`, but for `reconstruction` in training: that is the mean over the images that are
        compared with their reconstruction.
        """
        means = {
            name: float(value / sums['examples'])
            for name, value in sums.items()
            if name not in ('examples', 'compared', 'swaps', 'judged')
        }
        if 'compared' in sums:
            means['reconstruction'] = float(sums['reconstruction'] / max(sums['compared'], 1))
        metrics: dict[str, float] = {'loss': means['total']} | means
        if 'swaps' not in sums:
            return metrics
        dimensions = self.config.data.image_size**2 * self.channels
        nats = (means['kl'] - means['reconstruction']) / dimensions + float(np.mean(np.log(self.config.data.std)))
        metrics |= {
            'psnr': -10 * float(np.log10(means['mse'])),
            'bits_per_dim': (nats + float(np.log(255))) / float(np.log(2)),
        }
        return metrics | evaluation.metrics(sums['swaps'], sums['judged'], self.classes, self.channels)

    def figures(self, variables, examples, keys: Keys) -> dict[str, np.ndarray]:
        """Reconstructions, swaps and interpolations of 64 examples, samples, and the examples nearest to swaps."""
        pixels, labels = spread_examples(examples)
        drawn = jax.tree.map(np.asarray, self.compiled_pictures(variables, pixels, labels, keys.stream('samples')))
        real = [examples['image'][examples['label'] == label] for label in range(len(self.classes))]
        return figures.all_figures(pixels, labels, **drawn, real=real, names=self.classes)

    def compare(self, runs: dict[str, tuple], examples) -> list[Picture]:
        """The swap grid of each of several runs: name to (task, variables)."""
        (pixels, labels), pictures = spread_examples(examples), []
        for name, (task, variables) in runs.items():
            swaps = jax.jit(task.swaps)(variables, pixels[:10])
            grid = figures.swap_grid(pixels, labels, np.asarray(swaps), task.classes)
            pictures.append(
                Picture(
                    f'Swaps of {name}',
                    f'{name}: a row for each test image, and in it the image '
                    'as every label. A digit or object changes, its style should not.',
                    grid,
                )
            )
        return pictures

    @functools.cached_property
    def compiled_pictures(self):
        return jax.jit(self.pictures)

    def pictures(self, variables, pixels: jax.Array, labels: jax.Array, key: jax.Array) -> dict[str, jax.Array]:
        """What figures show of images `[N, S, S, C]` in `[0, 1]` with their true labels `[N]`."""
        apply = self.bound(variables)
        features = apply(standardize(pixels, self.config.data), method='features')
        return {
            'swaps': self.all_labels(variables, features),
            'interpolation': latents_lib.interpolation(apply, features, labels),
            'samples': latents_lib.samples(apply, features, len(self.classes), key),
        }

    def report(self, rows) -> list[str | Picture]:
        return report.sections(rows)

    @property
    def label_column(self) -> jax.Array:
        """All labels, `[classes, 1]`."""
        return jnp.arange(len(self.classes))[:, None]

    def predict(self, variables, images: jax.Array, labels=None) -> jax.Array:
        """Images uint8 `[B, S, S, C]`, each as the label int32 `[B]` says, to images `[B, S, S, C]` in `[0, 1]`."""
        apply = self.bound(variables)
        features = apply(standardize(images / 255.0, self.config.data), method='features')
        return apply(apply(features, labels, method='posterior').mu, method='decode')

    def present(self, picture: Image.Image, output: np.ndarray, labels=()) -> tuple[dict, dict]:
        """A picture as each label, `[L, S, S, C]`: one by one, and in a row behind the original."""
        names = [self.classes[label] for label in labels]
        images = dict(zip(names, map(figures.to_image, output), strict=True))
        return {'grid': figures.row_of(picture, images), **images}, {'labels': names}


def spread_examples(examples: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """64 of the examples, spread evenly: images `[64, S, S, C]` in `[0, 1]` and labels `[64]`."""
    count = len(examples['label'])
    rows = np.linspace(0, count - 1, min(64, count)).round().astype(int)
    return examples['image'][rows] / np.float32(255), examples['label'][rows]


def unstack(tree, names: Iterable[str]) -> dict[str, Any]:
    """The rows of stacked arrays, by name."""
    return {name: jax.tree.map(operator.itemgetter(row), tree) for row, name in enumerate(names)}


def objective(terms: dict[str, jax.Array]) -> jax.Array:
    """What training minimises, an example each: the negative evidence lower bound and all losses."""
    losses = (term for name, term in terms.items() if name != 'reconstruction')
    return functools.reduce(operator.add, losses, -terms['reconstruction'])
