"""Classifiers of the VAE's images: the frozen one in its loss, and the judge that training never sees."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
import numpy as np
from PIL import Image

from common import augment
from common import workdir as workdir_lib
from common.class_weights import BALANCED, balanced_weights, check_class_weights, class_weights
from common.config import checked, differences, filled
from common.data.images import standardize
from common.errors import UserError
from common.keys import Keys
from common.layers.default import Mode
from common.parallel import AXIS
from common.task import Variables
from configs import classifier_mnist
from vae import attack, data, figures
from vae.losses import label_nll
from vae.model import Classifier
from vae.networks import ENCODERS

CLASSIFIERS = {  # Name in metrics and constants: config key.
    'frozen': 'classifier_workdir',
    'second': 'second_workdir',
    'judge': 'judge_workdir',
}


@dataclasses.dataclass(frozen=True)
class ClassifierTask(data.LabelledTask):
    """Predicts the labels of images."""

    title = 'Classifier'
    headline = curves = ('loss', 'accuracy')
    figure_examples = 64

    @classmethod
    def defaults(cls) -> ConfigDict:
        return classifier_mnist.get_config()

    def __post_init__(self):
        data.check_images(self.config)
        if not 0 <= self.config.label_smoothing <= 1:
            raise UserError(f'label_smoothing is {self.config.label_smoothing}; choose it in [0, 1]')
        check_class_weights(self.config.class_weights, len(self.classes))
        augment.check_strengths('augment', self.config.augment)

    def model(self, train: bool) -> Classifier:
        model = self.config.model
        mode = Mode(train, jnp.dtype(self.config.dtype), AXIS)
        return Classifier(ENCODERS[model.encoder](model.width, mode), len(self.classes))

    def open_values(self) -> dict[str, Any]:
        values = super().open_values()
        if self.config.class_weights == BALANCED:
            known = dataclasses.replace(self, config=filled(self.config, values))
            counts = np.bincount(known.load('train')['label'], minlength=len(known.classes))
            values['class_weights'] = balanced_weights(counts, known.classes)
        return values

    def weighted(self, losses: jax.Array, labels: jax.Array) -> jax.Array:
        """Losses `[B]` times the weights of the labels `[B]`."""
        weights = class_weights(self.config.class_weights)
        return losses * jnp.asarray(weights, losses.dtype)[labels] if weights else losses

    def init(self, key: jax.Array) -> Variables:
        size, channels = self.config.data.image_size, self.channels
        return self.model(train=False).init(key, jnp.zeros((1, size, size, channels)))

    def loss(self, params, batch_stats, constants, batch, keys: Keys, stage=None):
        """Mean loss over the augmented batch, with smoothed labels; the new statistics; the metric sums."""
        variables = {'params': params, 'batch_stats': batch_stats}
        images = self.augment(batch, keys)
        if self.config.augment.attack:
            images = self.attacked(variables, images, batch, keys)
        logits, updates = self.model(train=True).apply(
            variables, standardize(images, self.config.data), mutable=['batch_stats']
        )
        nll = label_nll(logits=logits, labels=batch['label'])
        even = -jnp.mean(jax.nn.log_softmax(logits), axis=-1)
        losses = self.weighted(nll + self.config.label_smoothing * (even - nll), batch['label'])
        sums = metric_sums(losses, logits, batch['label'], jnp.ones_like(losses, dtype=bool))
        return jnp.mean(losses), (updates['batch_stats'], sums)

    def augment(self, batch, keys: Keys) -> jax.Array:
        """Augmented images `[B, S, S, C]`, in `[0, 1]` but for the noise."""
        options = self.config.augment
        geometry = {name: options[name] for name in ('flip', 'scale', 'aspect', 'shift')}

        def one(image, key, cut_key, noise_key):
            image = augment.randomly_moved(key, image / 255.0, **geometry)
            image = augment.cut_out(cut_key, image, options.cut_out) if options.cut_out else image
            return augment.random_noise(noise_key, image, options.noise) if options.noise else image

        drawn = (keys.per_example(name, batch['index']) for name in ('geometry', 'cut_out', 'noise'))
        return jax.vmap(one)(batch['image'], *drawn)

    def attacked(self, variables, images, batch, keys: Keys) -> jax.Array:
        """Images `[B, S, S, C]`, changed within the radius `augment.attack` so that the NLL of their labels rises."""
        draw = functools.partial(jax.random.normal, shape=images.shape[1:])
        directions = jax.vmap(draw)(keys.per_example('attack', batch['index']))

        def nll(images):
            return label_nll(logits=self.logits(variables, images), labels=batch['label'])

        return attack.attacked(nll, images, directions, self.config.augment.attack)

    def logits(self, variables, images: jax.Array) -> Any:
        """Images `[B, S, S, C]` in `[0, 1]` to logits `[B, classes]`, in evaluation mode."""
        return self.model(train=False).apply(variables, standardize(images, self.config.data))

    def logits_and_maps(self, variables, images: jax.Array) -> Any:
        """As `logits`, and the feature maps `[B, h, w, F]`, of which the linear head is given the mean."""
        return self.model(train=False).apply(variables, standardize(images, self.config.data), method='logits_and_maps')

    @functools.cached_property
    def compiled_logits(self):
        return jax.jit(self.logits)

    def eval_step(self, variables, constants, batch, keys: Keys, measures=None) -> dict[str, jax.Array]:
        """Metric sums over the valid examples of a batch."""
        logits = self.logits(variables, batch['image'] / 255.0)
        losses = self.weighted(label_nll(logits=logits, labels=batch['label']), batch['label'])
        return metric_sums(losses, logits, batch['label'], batch['valid'])

    def summarize(self, sums: dict[str, np.ndarray]) -> dict[str, float]:
        return {'loss': float(sums['loss'] / sums['examples']), 'accuracy': float(sums['correct'] / sums['examples'])}

    def figures(self, variables, examples, keys: Keys) -> dict[str, np.ndarray]:
        """The examples with the predicted labels."""
        images = examples['image'] / np.float32(255)
        probabilities = np.asarray(jax.nn.softmax(self.compiled_logits(variables, images)))
        return {'predictions': figures.labelled_grid(images, examples['label'], probabilities, self.classes)}

    def predict(self, variables, images: jax.Array, labels=None) -> jax.Array:
        """Images uint8 `[B, S, S, C]` to probabilities `[B, classes]` of the labels."""
        return jax.nn.softmax(self.logits(variables, images / 255.0))

    def present(self, picture: Image.Image, output: np.ndarray, labels=()) -> tuple[dict, dict]:
        """No image; the predicted label, and the probability of each."""
        return {}, {
            'label': self.classes[output.argmax()],
            'probabilities': dict(zip(self.classes, output.round(6).tolist(), strict=True)),
        }


def classifier_task(config: ConfigDict, key: str) -> ClassifierTask:
    """The task of the classifier whose work directory `config` names under `key`. Raises UserError without one."""
    workdir = workdir_lib.named_run(config, key)
    stored = workdir_lib.load_config(workdir)
    if stored.get('task') != 'classifier':
        raise UserError(f'{key}: the run in {workdir} is no classifier; name one trained with configs/classifier_*.py')
    if list(stored.data.classes) != list(config.data.classes):
        theirs, ours = (', '.join(names[:5]) for names in (stored.data.classes, config.data.classes))
        raise UserError(
            f'{key}: the classifier in {workdir} predicts other classes ({theirs}, …) than the VAE has '
            f'({ours}, …); name another one'
        )
    if stored.data.image_size != config.data.image_size or len(stored.data.mean) != len(config.data.mean):
        raise UserError(f'{key}: the classifier in {workdir} was trained on images of another shape; name another one')
    return ClassifierTask(checked(stored, ClassifierTask.defaults()))


def classifier_tasks(config: ConfigDict) -> dict[str, ClassifierTask]:
    """The tasks of the classifiers that a VAE's configuration names. Raises UserError where they do not fit."""
    named = {name: key for name, key in CLASSIFIERS.items() if name != 'second' or config[key]}
    tasks = {name: classifier_task(config, key) for name, key in named.items()}
    for name, key in named.items():
        if name != 'judge' and same_start(tasks[name].config, tasks['judge'].config):
            raise UserError(
                f'judge_workdir: it has the architecture and the seed of the run of {key}; name another one'
            )
    if 'second' in tasks and not differences(tasks['second'].config, tasks['frozen'].config):
        raise UserError('second_workdir: it is the same run as that of classifier_workdir; name another one')
    return tasks


def same_start(config: ConfigDict, other: ConfigDict) -> bool:
    """Whether two classifiers begin with the same weights."""
    return config.seed == other.seed and config.model == other.model


def metric_sums(losses, logits, labels, valid) -> dict[str, jax.Array]:
    """Sums of the losses `[B]`, of examples and of right predictions, over the valid examples."""
    return {
        'loss': jnp.sum(jnp.where(valid, losses, 0)),
        'examples': jnp.sum(valid, dtype=jnp.int32),
        'correct': jnp.sum(valid & (jnp.argmax(logits, -1) == labels), dtype=jnp.int32),
    }
