"""Classifiers of the VAE's images: the frozen one in its loss, and the judge that training never sees."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
import numpy as np
from PIL import Image

from common import augment, data
from common.errors import UserError
from common.keys import Keys
from common.layers.blocks import Mode
from common.parallel import AXIS
from common.report.page import Picture
from vae import figures, synthetic  # noqa: F401  (importing synthetic registers it with TFDS)
from vae.losses import label_nll
from vae.model import Classifier
from vae.networks import ENCODERS, check_shape

CLASSES = 10
LABELS = tuple(map(str, range(CLASSES)))


@dataclasses.dataclass(frozen=True)
class ClassifierTask:
    """Implements the seam of common/train.py; every method but `load` is a pure function.

    Batches are dictionaries: `image` uint8 `[B, S, S, C]`, `label` int32 `[B]`, `index` and `valid` `[B]`.
    """

    config: ConfigDict
    title = 'Classifier'
    classes, takes_labels = LABELS, False  # Of `predict`.
    colors = {}  # The images of `present` have no colours for classes.
    curves = ('loss', 'accuracy')
    figure_examples = 64

    def __post_init__(self):
        check_images(self.config)
        if not 0 <= self.config.label_smoothing <= 1:
            raise UserError(f'label_smoothing is {self.config.label_smoothing}; choose it in [0, 1]')
        augment.check_strengths('augment', self.config.augment)

    def model(self, train: bool) -> Classifier:
        model = self.config.model
        mode = Mode(train, jnp.dtype(self.config.dtype), AXIS)
        return Classifier(ENCODERS[model.encoder](model.width, mode), CLASSES)

    def load(self, split: str) -> dict[str, np.ndarray]:
        """All examples of a split."""
        return data.load(self.config.data, split, decode_example, {'image': (self.channels,), 'label': ()})

    def init(self, key: jax.Array) -> dict[str, Any]:
        """The variables that training starts from."""
        size, channels = self.config.data.image_size, self.channels
        return self.model(train=False).init(key, jnp.zeros((1, size, size, channels)))

    def constants(self) -> dict:
        """Arrays that training reads and leaves alone: none."""
        return {}

    def stage(self, progress: float) -> None:
        """Training has one stage."""

    def loss(self, params, batch_stats, constants, batch, keys: Keys, stage: None):
        """Mean loss over the augmented batch, with smoothed labels; the new statistics; the metric sums."""
        images = self.augment(batch, keys)
        logits, updates = self.model(train=True).apply({'params': params, 'batch_stats': batch_stats},
                                                       standardize(images, self.config.data),
                                                       mutable=['batch_stats'])
        nll = label_nll(logits=logits, labels=batch['label'])
        even = -jnp.mean(jax.nn.log_softmax(logits), axis=-1)
        losses = nll + self.config.label_smoothing * (even - nll)
        sums = metric_sums(losses, logits, batch['label'], jnp.ones_like(losses, dtype=bool))
        return jnp.mean(losses), (updates['batch_stats'], sums)

    def augment(self, batch, keys: Keys) -> jax.Array:
        """Augmented images `[B, S, S, C]`, in `[0, 1]` but for the noise."""
        options, size = self.config.augment, self.config.data.image_size

        def one(image, key, cut_key, noise_key):
            sampling = augment.random_sampling(key, input_size=size, output_size=size, flip=options.flip,
                                               scale=options.scale, aspect=options.aspect, shift=options.shift)
            image = augment.resample_image(image / 255.0, sampling)
            image = augment.cut_out(cut_key, image, options.cut_out) if options.cut_out else image
            return augment.random_noise(noise_key, image, options.noise) if options.noise else image

        drawn = (keys.per_example(name, batch['index']) for name in ('geometry', 'cut_out', 'noise'))
        return jax.vmap(one)(batch['image'], *drawn)

    def logits(self, variables, images: jax.Array) -> jax.Array:
        """Images `[B, S, S, C]` in `[0, 1]` to logits `[B, 10]`, in evaluation mode."""
        return self.model(train=False).apply(variables, standardize(images, self.config.data))

    @functools.cached_property
    def compiled_logits(self):
        return jax.jit(self.logits)

    def eval_step(self, variables, constants, batch, keys: Keys) -> dict[str, jax.Array]:
        """Metric sums over the valid examples of a batch."""
        logits = self.logits(variables, batch['image'] / 255.0)
        return metric_sums(label_nll(logits=logits, labels=batch['label']), logits, batch['label'],
                           batch['valid'])

    def summarize(self, sums: dict[str, np.ndarray]) -> dict[str, float]:
        """Metrics from sums over any number of batches."""
        return {'loss': float(sums['loss'] / sums['examples']),
                'accuracy': float(sums['correct'] / sums['examples'])}

    def figures(self, variables, examples, keys: Keys) -> dict[str, np.ndarray]:
        """The examples with what is read in them."""
        images = examples['image'] / np.float32(255)
        probabilities = np.asarray(jax.nn.softmax(self.compiled_logits(variables, images)))
        return {'predictions': figures.labelled_grid(images, examples['label'], probabilities)}

    def compare(self, runs: dict[str, tuple], examples) -> list[Picture]:
        """No picture: the numbers say it."""
        return []

    def report(self, rows) -> list[str]:
        """Nothing that is not said of every task."""
        return []

    @property
    def channels(self) -> int:
        return len(self.config.data.mean)

    def predict(self, variables, images: jax.Array) -> jax.Array:
        """Images uint8 `[B, S, S, C]` to probabilities `[B, 10]` of the labels."""
        return jax.nn.softmax(self.logits(variables, images / 255.0))

    def present(self, picture: Image.Image, probabilities: np.ndarray, labels=()) -> tuple[dict, dict]:
        """No image; the label that is read in a picture, and the probability of each."""
        return {}, {'label': LABELS[probabilities.argmax()],
                    'probabilities': dict(zip(LABELS, probabilities.round(6).tolist(), strict=True))}


def decode_example(example: dict[str, Any], size: int) -> dict[str, np.ndarray]:
    """One TFDS example to `image` uint8 `[size, size, C]` and `label` int32. Raises UserError for odd labels."""
    if not 0 <= example['label'] < CLASSES:
        raise UserError(f'{data.name_of(example)} has label {example["label"]}, not 0 to {CLASSES - 1}; '
                        'mend or remove that example and prepare the data set again')
    return {'image': data.resize_image(example['image'], size), 'label': np.int32(example['label'])}


def check_images(config) -> None:
    """Raises UserError where the images do not fit the network, or `mean` and `std` are not those of any."""
    check_shape(config.model, config.data.image_size)
    if not len(config.data.mean) == len(config.data.std) > 0 or min(config.data.std) <= 0:
        raise UserError('data.mean and data.std need a value for each channel, those of std above 0')


def standardize(images: jax.Array, config) -> jax.Array:
    """`[..., C]` in `[0, 1]` to zero mean and unit variance, by `config.mean` and `config.std`."""
    return (images - channelwise(images, config.mean)) / channelwise(images, config.std)


def channelwise(images: jax.Array, values) -> jax.Array:
    return jnp.asarray(values, images.dtype).reshape((1,) * (images.ndim - 1) + (-1,))


def metric_sums(losses, logits, labels, valid) -> dict[str, jax.Array]:
    return {'loss': jnp.sum(jnp.where(valid, losses, 0)), 'examples': jnp.sum(valid, dtype=jnp.int32),
            'correct': jnp.sum(valid & (jnp.argmax(logits, -1) == labels), dtype=jnp.int32)}
