"""The label-conditioned VAE's task: what is particular to it, for the loop in common/train.py."""

import dataclasses
import functools
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
import numpy as np
from PIL import Image

from common import augment, data
from common import config as config_lib
from common.errors import UserError, check_choice
from common.evaluate import restore
from common.keys import Keys
from common.layers.blocks import Mode
from common.parallel import AXIS, Devices
from common.report.page import Picture
from vae import figures, report, style
from vae.classifier import CLASSES, LABELS, ClassifierTask, check_images, decode_example, standardize
from vae.losses import gaussian_log_likelihood, kl_divergence, label_nll
from vae.model import ConditionalVAE, Posterior, build
from vae.networks import DECODERS

READERS = {'frozen': 'classifier', 'judge': 'judge'}  # Name in the metrics: name among the constants.


@dataclasses.dataclass(frozen=True)
class VAETask:
    """Implements the seam of common/train.py; every method but `load` and `constants` is a pure function.

    Batches are dictionaries: `image` uint8 `[B, S, S, C]`, `label` int32 `[B]` (the true one), `index` and
    `valid` `[B]`; where labels are to be swapped also `partner`, another image, to compare styles with by chance.
    The constants hold the variables of the frozen classifier and of the judge, both in evaluation mode.
    """

    config: ConfigDict
    title = 'Label-conditioned VAE'
    classes, takes_labels = LABELS, True  # Of `predict`.
    colors = {}  # The images of `present` have no colours for classes.
    curves = ('total', 'reconstruction', 'kl', 'label_loss')
    figure_examples = 64

    def __post_init__(self):
        check_choice('model.encoder', self.config.model.encoder, DECODERS)
        check_images(self.config)
        augment.check_strengths('show', self.config.show)
        model = self.config.model
        if model.latent < 1 or model.decoder_width < 0 or model.decoder_width == 1:
            raise UserError('the model needs latent >= 1, and decoder_width >= 2 or 0 for that of the encoder')
        for name in ('importance_samples', 'label_weight', 'swap_weight'):
            if self.config[name] < 0:
                raise UserError(f'{name} is {self.config[name]}; it must not be negative')
        if not 0 <= self.config.wrong_label_rate <= 1:
            raise UserError(f'wrong_label_rate is {self.config.wrong_label_rate}; choose it in [0, 1]')

    @functools.cached_property
    def readers(self) -> dict[str, ClassifierTask]:
        """The tasks of the frozen classifier and of the judge, by their names among the constants."""
        tasks = {name: classifier_task(self.config, f'{name}_workdir') for name in READERS.values()}
        if not config_lib.differences(*(task.config for task in tasks.values())):
            raise UserError('judge_workdir: the judge is the frozen classifier once more; name one of another '
                            'architecture or seed')
        return tasks

    def model(self, train: bool) -> ConditionalVAE:
        return build(self.config, self.channels, Mode(train, jnp.dtype(self.config.dtype), AXIS))

    def load(self, split: str) -> dict[str, np.ndarray]:
        """All examples of a split; but for training, each with another one's image as `partner`."""
        arrays = data.load(self.config.data, split, decode_example, {'image': (self.channels,), 'label': ()})
        return arrays if split == 'train' else arrays | {'partner': np.roll(arrays['image'], 1, axis=0)}

    def init(self, key: jax.Array) -> dict[str, Any]:
        """The variables that training starts from."""
        size, channels = self.config.data.image_size, self.channels
        return self.model(train=False).init(key, jnp.zeros((1, size, size, channels)), jnp.zeros((1, 1), jnp.int32),
                                            jnp.zeros((1, self.config.model.latent)))

    def constants(self) -> dict[str, Any]:
        """The variables of the frozen classifier and of the judge, which training reads and leaves alone."""
        restored = {name: restore(task, pathlib.Path(self.config[f'{name}_workdir']), Devices())[0]
                    for name, task in self.readers.items()}
        return jax.tree.map(np.asarray, restored)  # For the caller's devices, which may be others.

    def stage(self, progress: float) -> None:
        """Training has one stage."""

    def given_labels(self, batch, keys: Keys) -> jax.Array:
        """The labels `[B]` that the model is told: some are wrong."""
        draw = functools.partial(jax.random.bernoulli, p=self.config.wrong_label_rate)
        wrong = jax.vmap(draw)(keys.per_example('is_wrong', batch['index']))
        return jnp.where(wrong, self.other_labels(batch, keys, 'wrong_label'), batch['label'])

    def other_labels(self, batch, keys: Keys, name: str) -> jax.Array:
        """For each image one of the nine labels `[B]` that are not its own."""
        draw = functools.partial(jax.random.randint, shape=(), minval=1, maxval=CLASSES)
        return (batch['label'] + jax.vmap(draw)(keys.per_example(name, batch['index']))) % CLASSES

    def noise(self, batch, keys: Keys, name: str = 'latent') -> jax.Array:
        """Standard normal noise `[B, Z]`, an example each."""
        draw = functools.partial(jax.random.normal, shape=(self.config.model.latent,))
        return jax.vmap(draw)(keys.per_example(name, batch['index']))

    def loss(self, params, batch_stats, constants, batch, keys: Keys, stage: None):
        """The mean of -reconstruction + KL + label loss + swap loss; the new statistics; the metric sums."""
        given = self.given_labels(batch, keys)
        labels = jnp.stack([given, self.other_labels(batch, keys, 'swap')] if self.config.swap_weight else [given])
        images = standardize(self.flipped(batch, keys) / 255.0, self.config.data)
        (posterior, mean, log_scale), updates = self.model(train=True).apply(
            {'params': params, 'batch_stats': batch_stats}, images, labels, self.noise(batch, keys),
            mutable=['batch_stats'])
        terms = self.terms(images, Posterior(posterior.mu[0], posterior.log_var[0]), mean[0], log_scale)
        # What a wrong label asks for is not the original: then only the latent's size and the label count.
        reconstructed = (given == batch['label']) | self.config.reconstruct_wrong
        terms['reconstruction'] = jnp.where(reconstructed, terms['reconstruction'], 0)
        shown = self.transformed(mean, batch, keys)
        logits = self.readers['classifier'].logits(constants['classifier'], shown.reshape(-1, *images.shape[1:]))
        nll = label_nll(logits=logits, labels=labels.reshape(-1)).reshape(labels.shape)
        terms['label_loss'] = self.config.label_weight * nll[0]
        total = -terms['reconstruction'] + terms['kl'] + terms['label_loss']
        if self.config.swap_weight:
            terms['swap_loss'] = self.config.swap_weight * nll[1]
            total += terms['swap_loss']
        sums = {name: jnp.sum(term) for name, term in (terms | {'total': total}).items()}
        return jnp.mean(total), (updates['batch_stats'], sums | {'examples': jnp.int32(len(given))})

    def terms(self, images, posterior, mean, log_scale) -> dict[str, jax.Array]:
        """The two terms of the evidence lower bound, `[B]` each."""
        return {'reconstruction': self.log_likelihood(images, mean, log_scale),
                'kl': kl_divergence(mu=posterior.mu, log_var=posterior.log_var)}

    def log_likelihood(self, images, mean, log_scale) -> jax.Array:
        """Of standardised images under mean images in `(0, 1)`: `[B]`."""
        return gaussian_log_likelihood(images=images, mean=standardize(mean, self.config.data), log_scale=log_scale)

    def flipped(self, batch, keys: Keys) -> jax.Array:
        """The images, some mirrored where `augment.flip` says so."""
        if not self.config.augment.flip:
            return batch['image'].astype(jnp.float32)
        flip = jax.vmap(jax.random.bernoulli)(keys.per_example('flip', batch['index']))
        return jnp.where(flip[:, None, None, None], batch['image'][:, :, ::-1], batch['image']).astype(jnp.float32)

    def transformed(self, images, batch, keys: Keys) -> jax.Array:
        """What the frozen classifier is shown `[K, B, S, S, C]`: moved and noised, lest texture please it."""
        options, size = self.config.show, self.config.data.image_size
        if not (options.scale or options.shift or options.noise):
            return images

        def one(image, key):
            move_key, noise_key = jax.random.split(key)
            sampling = augment.random_sampling(move_key, input_size=size, output_size=size, flip=False,
                                               scale=options.scale, aspect=options.scale, shift=options.shift)
            image = augment.resample_image(image, sampling)
            return image + options.noise * jax.random.normal(noise_key, image.shape)

        return jax.vmap(jax.vmap(one), in_axes=(0, None))(images, keys.per_example('show', batch['index']))

    def eval_step(self, variables, constants, batch, keys: Keys) -> dict[str, Any]:
        """Metric sums over the valid examples of a batch: right labels, then all ten."""
        valid, pixels = batch['valid'], batch['image'] / 255.0
        images, apply = standardize(pixels, self.config.data), self.bound(variables)
        features = apply(images, method='features')
        posterior = apply(features, batch['label'], method='posterior')
        log_scale = apply(method='likelihood_log_scale')
        mean = apply(posterior.sample(self.noise(batch, keys)), method='decode')
        terms = self.terms(images, posterior, mean, log_scale)
        logits = self.readers['classifier'].logits(constants['classifier'], mean)
        terms['label_loss'] = self.config.label_weight * label_nll(logits=logits, labels=batch['label'])
        terms['total'] = -terms['reconstruction'] + terms['kl'] + terms['label_loss']
        terms['mse'] = jnp.mean(jnp.square(mean - pixels), axis=(1, 2, 3))
        if self.config.importance_samples and 'partner' in batch:
            terms['iw_bound'] = self.importance_bound(apply, images, posterior, log_scale, batch, keys)
        sums = {name: jnp.sum(jnp.where(valid, term, 0)) for name, term in terms.items()}
        count = jnp.sum(valid, dtype=jnp.int32)
        swaps = self.swap_sums(variables, constants, features, batch) if 'partner' in batch else {}
        return sums | {'examples': count} | swaps

    def bound(self, variables):
        return functools.partial(self.model(train=False).apply, variables)

    def importance_bound(self, apply, images, posterior, log_scale, batch, keys: Keys) -> jax.Array:
        """log mean_k p(x, z_k) / q(z_k | x) over `importance_samples` samples (Burda et al. 2015): `[B]`."""
        def log_weight(k):
            noise = self.noise(batch, Keys(keys.root, k), 'importance')
            latents = posterior.sample(noise)
            likelihood = self.log_likelihood(images, apply(latents, method='decode'), log_scale)
            log_ratio = 0.5 * jnp.sum(noise ** 2 - latents ** 2 + posterior.log_var, axis=-1)
            return likelihood + log_ratio
        count = self.config.importance_samples
        weights = jax.lax.map(log_weight, jnp.arange(1, count + 1))
        return jax.nn.logsumexp(weights, axis=0) - jnp.log(count)

    def all_labels(self, variables, features) -> jax.Array:
        """Every image as every label, from the posterior's mean: `[10, B, S, S, C]` in `[0, 1]`."""
        labels = jnp.broadcast_to(jnp.arange(CLASSES)[:, None], (CLASSES, len(features)))
        latents = self.bound(variables)(features, labels, method='posterior').mu
        return self.bound(variables)(latents, method='decode')

    def swaps(self, variables, pixels: jax.Array) -> jax.Array:
        """Images `[B, S, S, C]` in `[0, 1]` as every label: `[10, B, S, S, C]`."""
        features = self.bound(variables)(standardize(pixels, self.config.data), method='features')
        return self.all_labels(variables, features)

    def swap_sums(self, variables, constants, features, batch) -> dict[str, Any]:
        """Sums over all ten labels of each image: what the two classifiers read, and what stays of the style."""
        images = self.all_labels(variables, features)
        given, true = jnp.arange(CLASSES)[:, None], batch['label'][None, :]
        valid = batch['valid'][None, :]
        wrong, right = (given != true) & valid, (given == true) & valid
        sums = {'swaps': jnp.sum(wrong, axis=1, dtype=jnp.int32)}
        for metric, name in READERS.items():
            logits = self.readers[name].logits(constants[name], images.reshape(-1, *images.shape[2:]))
            read = jnp.argmax(logits, axis=-1).reshape(CLASSES, -1)
            sums[f'read_given/{metric}'] = jnp.sum(wrong & (read == given), axis=1, dtype=jnp.int32)
            sums[f'read_original/{metric}'] = jnp.sum(wrong & (read == true), dtype=jnp.int32)
            sums[f'right/{metric}'] = jnp.sum(right & (read == given), dtype=jnp.int32)
        after = jax.vmap(style.measures)(images)
        for pairs, original in (('kept', 'image'), ('shuffled', 'partner')):
            before = jnp.broadcast_to(style.measures(batch[original] / 255.0)[None], after.shape)
            sums[f'style_{pairs}'] = style.moments(before, after, wrong.astype(jnp.float32))
        return sums

    def summarize(self, sums: dict[str, Any]) -> dict[str, float]:
        """Metrics from sums over any number of batches; those of training have no swaps.

        The terms add up to the total. In training, an image that is not compared with its reconstruction counts as 0.
        """
        means = {name: float(sums[name] / sums['examples']) for name in
                 ('total', 'reconstruction', 'kl', 'label_loss', 'swap_loss', 'mse', 'iw_bound') if name in sums}
        metrics = {'loss': means['total'], **means}
        if 'swaps' not in sums:
            return metrics
        dimensions = self.config.data.image_size ** 2 * self.channels
        nats = (means['kl'] - means['reconstruction']) / dimensions + float(np.mean(np.log(self.config.data.std)))
        metrics |= {'psnr': -10 * float(np.log10(means['mse'])),
                    'bits_per_dim': (nats + float(np.log(255))) / float(np.log(2))}
        swaps = sums['swaps'].sum()
        for name in READERS:
            metrics |= {f'right_label_accuracy/{name}': float(sums[f'right/{name}'] / sums['examples']),
                        f'swap_accuracy/{name}': float(sums[f'read_given/{name}'].sum() / swaps),
                        f'original_label_rate/{name}': float(sums[f'read_original/{name}'] / swaps)}
        by_label = sums['read_given/judge'] / sums['swaps']
        metrics |= {f'swap_accuracy/judge/{label}': float(x) for label, x in enumerate(by_label)}
        for pairs in ('kept', 'shuffled'):
            values = style.correlations(sums[f'style_{pairs}'])
            metrics |= {f'style/{name}/{pairs}': float(x) for name, x in zip(
                style.names(self.channels), values, strict=True)}
        return metrics

    def figures(self, variables, examples, keys: Keys) -> dict[str, np.ndarray]:
        """Reconstructions, swaps, and interpolations of the examples, and samples of every label."""
        pixels, labels = examples['image'] / np.float32(255), examples['label']
        drawn = jax.tree.map(np.asarray, self.compiled_pictures(variables, pixels, labels, keys.stream('samples')))
        return figures.all_figures(pixels, labels, **drawn)

    def compare(self, runs: dict[str, tuple], examples) -> list[Picture]:
        """The swap grid of each of several runs: name to (task, variables)."""
        pixels, labels, pictures = examples['image'] / np.float32(255), examples['label'], []
        for name, (task, variables) in runs.items():
            swaps = jax.jit(task.swaps)(variables, pixels[:10])
            grid = figures.swap_grid(pixels, labels, np.asarray(swaps))
            pictures.append(Picture(f'Swaps of {name}', f'{name}: a row for each test image, and in it the image '
                                    'as every label. A digit or object changes, its style should not.', grid))
        return pictures

    @functools.cached_property
    def compiled_pictures(self):
        return jax.jit(self.pictures)

    def pictures(self, variables, pixels: jax.Array, labels: jax.Array, key: jax.Array) -> dict[str, jax.Array]:
        """What figures show of images `[N, S, S, C]` in `[0, 1]` with their true labels `[N]`."""
        features = self.bound(variables)(standardize(pixels, self.config.data), method='features')
        return {'swaps': self.all_labels(variables, features),
                'interpolation': self.interpolation(variables, features, labels),
                'samples': self.samples(variables, features, key)}

    def report(self, rows) -> list[str]:
        """What a report says of runs of this task alone, as Markdown (see common/runs.py for `rows`)."""
        return report.sections(rows)

    def interpolation(self, variables, features, labels, steps: int = 9) -> jax.Array:
        """From each example's latent to the next one's, under their own labels: `[pairs, steps, S, S, C]`."""
        mu = self.bound(variables)(features, labels, method='posterior').mu
        weights = jnp.linspace(0, 1, steps)[None, :, None]
        latents = (1 - weights) * mu[:-1, None][:6] + weights * mu[1:, None][:6]
        return self.bound(variables)(latents, method='decode')

    def samples(self, variables, features, key: jax.Array, count: int = 10) -> jax.Array:
        """New images of each label: `[10, count, S, S, C]`.

        The decoder's prior knows no label; so latents are drawn from the Gaussian with the mean and covariance of
        the examples' posteriors under that label.
        """
        def one(label):
            posterior = self.bound(variables)(features, jnp.full(len(features), label), method='posterior')
            covariance = (jnp.cov(posterior.mu, rowvar=False, ddof=0)
                          + jnp.diag(jnp.mean(jnp.exp(posterior.log_var), axis=0)))
            return jax.random.multivariate_normal(key, jnp.mean(posterior.mu, axis=0), covariance, (count,))
        return self.bound(variables)(jnp.stack([one(label) for label in range(CLASSES)]), method='decode')

    @property
    def channels(self) -> int:
        return len(self.config.data.mean)

    def predict(self, variables, images: jax.Array, labels: jax.Array) -> jax.Array:
        """Images uint8 `[B, S, S, C]` as what their labels int32 `[B]` say: `[B, S, S, C]` in `[0, 1]`."""
        apply = self.bound(variables)
        features = apply(standardize(images / 255.0, self.config.data), method='features')
        return apply(apply(features, labels, method='posterior').mu, method='decode')

    def present(self, picture: Image.Image, outputs: np.ndarray, labels) -> tuple[dict, dict]:
        """A picture as each label, `[L, S, S, C]`: one by one, and in a row behind the original."""
        names = [LABELS[label] for label in labels]
        images = dict(zip(names, map(figures.to_image, outputs), strict=True))
        return {'grid': figures.row_of(picture, images), **images}, {'labels': names}


def classifier_task(config: ConfigDict, key: str) -> ClassifierTask:
    """The task of the classifier whose work directory `config` names under `key`. Raises UserError without one."""
    workdir = config_lib.named_run(config, key)
    stored = config_lib.load(workdir)
    if stored.get('task') != 'classifier':
        raise UserError(f'{key}: the run in {workdir} is no classifier; name one that configs/classifier_*.py trained')
    if stored.data.name != config.data.name:
        raise UserError(f'{key}: the classifier in {workdir} was trained on {stored.data.name}, not on '
                        f'{config.data.name}; name another one')
    if stored.data.image_size != config.data.image_size or len(stored.data.mean) != len(config.data.mean):
        raise UserError(f'{key}: the classifier in {workdir} was trained on images of another shape; name another one')
    return ClassifierTask(stored)
