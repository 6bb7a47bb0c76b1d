"""The segmentation task."""

from collections import Counter
import dataclasses
import functools
import re
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
import numpy as np
from PIL import Image

from common import augment
from common.class_weights import BALANCED, balanced_weights, check_class_weights, class_weights
from common.config import filled
from common.data.images import check_standardization, resize_image, standardize
from common.data.source import DataSet
from common.errors import UserError, check_choice
from common.keys import Keys
from common.layers import tpu
from common.parallel import AXIS
from common.task import Picture, Task, Variables
from configs import unet_mp_tr_ce
from unet import data, figures, masks, report
from unet.losses import LOSSES
from unet.metrics import confusion_matrix, summarize
from unet.model import DOWN, UP, UNet, check_size
from unet.palette import BACKGROUND, table


@dataclasses.dataclass(frozen=True)
class SegmentationTask(Task):
    """Batches hold `image` uint8 `[B, S, S, 3]` and `labels` uint8 `[B, S, S]`."""

    title = 'U-Net'
    headline = curves = ('loss', 'pixel_accuracy', 'mean_iou')

    @classmethod
    def defaults(cls) -> ConfigDict:
        return unet_mp_tr_ce.get_config()

    def __post_init__(self):
        config = self.config
        check_choice('loss', config.loss, LOSSES)
        check_choice('model.down', config.model.down, DOWN)
        check_choice('model.up', config.model.up, UP)
        if config.log_every_steps * config.batch_size * config.data.image_size**2 >= 2**31:
            raise UserError(
                'log_every_steps x batch_size x image_size² is more than pixels can be counted on the '
                'device; lower one of them'
            )
        if len(config.model.multipliers) < 2 or min(self.widths) < 1:
            raise UserError(
                f'the model has {self.widths} channels; it needs two levels or more, of at least 1 each: '
                'set model.width and model.multipliers'
            )
        augment.check_strengths('augment', config.augment)
        check_classes(config)
        check_standardization(config.data)
        if self.channels != 3:
            raise UserError(f'data.mean has {self.channels} values; a U-Net takes colour images: give three')
        for size in {config.data.image_size, config.augment.start_size or config.data.image_size}:
            check_size((size, size), len(config.model.multipliers))
        if config.augment.start_size > config.data.image_size:
            raise UserError(
                f'augment.start_size {config.augment.start_size} is above data.image_size '
                f'{config.data.image_size}; set it to 0 to train at one size'
            )
        if config.augment.start_size and config.augment.grow_fraction >= 1:
            raise UserError(
                f'augment.grow_fraction is {config.augment.grow_fraction}: no image would have full size; '
                'choose it below 1'
            )

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each level."""
        return tuple(round(self.config.model.width * m) for m in self.config.model.multipliers)

    @property
    def model(self) -> UNet:
        model, dtype = self.config.model, jnp.dtype(self.config.dtype)
        in_blocks = tpu.suits(self.widths[0])
        return UNet(self.widths, len(self.classes), model.down, model.up, dtype, AXIS, in_blocks)

    @property
    def loss_name(self) -> str:
        return self.config.loss

    @property
    def weights(self) -> tuple[float, ...]:
        """The weights of the classes in the loss; () for 1 each."""
        return class_weights(self.config.class_weights)

    @property
    def ignores(self) -> bool:
        """Whether there are pixels that count in no loss and no metric."""
        return len(self.config.data.ignore_values) > 0

    @functools.cached_property
    def style(self) -> figures.ClassStyle:
        return figures.ClassStyle(self.classes, table(tuple(self.config.data.colors)))

    @property
    def colors(self) -> dict[str, str]:
        return {
            name: 'transparent' if name == BACKGROUND else color
            for name, color in zip(self.classes, self.config.data.colors, strict=True)
        }

    def load(self, split: str) -> dict[str, np.ndarray]:
        return data.load(self.config.data, split)

    def data_set(self) -> DataSet:
        return data.find(self.config.data)

    def contents(self, example) -> Counter[str]:
        data.check_size(example)
        counts = masks.count(masks.codes(example['segmentation_mask']))
        return Counter({masks.name_of(code): count for code, count in counts.items()})

    @property
    def meaning(self) -> dict[str, str]:
        values = [masks.name_of(masks.code_of(value)) for value in self.config.data.mask_values]
        ignored = [masks.name_of(masks.code_of(value)) for value in self.config.data.ignore_values]
        return dict(zip(values, self.classes, strict=True)) | dict.fromkeys(ignored, '')

    def tiles(self, example) -> dict[str, np.ndarray]:
        size = self.config.data.image_size
        arrays = data.decode_example(example, **data.decoder(self.config.data).keywords)
        return {'image': resize_image(example['image'], size), 'mask': self.style.colors[arrays['labels']]}

    def open_values(self) -> dict[str, Any]:
        values: dict[str, Any] = {
            f'data.{key}': list(value) for key, value in data.open_values(self.config.data).items()
        }
        if self.config.class_weights == BALANCED:
            known = dataclasses.replace(self, config=filled(self.config, values))
            counts = np.bincount(known.load('train')['labels'].ravel(), minlength=256)[: len(known.classes)]
            values['class_weights'] = balanced_weights(counts, known.classes)
        return values

    def init(self, key: jax.Array) -> Variables:
        size = 2 ** (len(self.config.model.multipliers) - 1)
        return self.model.init(key, jnp.zeros((1, size, size, 3)), train=False)

    def stage(self, progress: float) -> int:
        """The image size at which to train.

        Sizes grow linearly from `augment.start_size`, in steps of twice the factor by which the network downsamples.
        Early training learns coarse structure, and an image of half the side costs a quarter of the time.
        """
        final, start = self.config.data.image_size, self.config.augment.start_size
        if not start or start == final or progress >= self.config.augment.grow_fraction:
            return final
        step = 2 ** (len(self.config.model.multipliers) - 1) * 2
        sizes = np.arange(start, final, step)
        return int(sizes[int(progress / self.config.augment.grow_fraction * len(sizes))])

    def loss(self, params, batch_stats, constants, batch, keys: Keys, stage: int):
        """Mean loss over the augmented batch; returns it with the new statistics and the metric sums."""
        images, labels = self.augment(batch, keys, stage)
        logits, updates = self.model.apply(
            {'params': params, 'batch_stats': batch_stats}, images, train=True, mutable=['batch_stats']
        )
        losses = self.losses(logits, labels)
        sums = metric_sums(losses, logits, labels, jnp.ones_like(losses, dtype=bool))
        return jnp.mean(losses), (updates['batch_stats'], sums)

    def losses(self, logits: jax.Array, labels: jax.Array) -> jax.Array:
        """The loss of each image, `[B]`."""
        return LOSSES[self.config.loss](logits=logits, labels=labels, weights=self.weights, ignores=self.ignores)

    def augment(self, batch, keys: Keys, size: int) -> tuple[jax.Array, jax.Array]:
        """Augmented images `[B, size, size, 3]`, standardised, and labels `[B, size, size]`."""
        options = self.config.augment

        def one(image, labels, geometry_key, color_key):
            sampling = augment.random_sampling(
                geometry_key,
                input_size=image.shape[0],
                output_size=size,
                flip=options.flip,
                scale=options.scale,
                aspect=options.aspect,
                shift=options.shift,
            )
            image = augment.resample_image(image / 255.0, sampling)
            image = augment.random_color(
                color_key,
                image,
                brightness=options.brightness,
                contrast=options.contrast,
                saturation=options.saturation,
            )
            return standardize(image, self.config.data), augment.resample_labels(labels, sampling)

        return jax.vmap(one)(
            batch['image'],
            batch['labels'],
            keys.per_example('geometry', batch['index']),
            keys.per_example('color', batch['index']),
        )

    def logits(self, variables, images: jax.Array) -> Any:
        """Images in `[0, 1]`, `[B, H, W, 3]`, to logits `[B, H, W, classes]`, in evaluation mode.

        With `average_mirrored` they are the logarithm of the mean probabilities of an image and its mirror image.
        """
        logits = self.single_logits(variables, images)
        if not self.config.average_mirrored:
            return logits
        mirrored = self.single_logits(variables, images[:, :, ::-1])[:, :, ::-1]
        return jnp.logaddexp(jax.nn.log_softmax(logits), jax.nn.log_softmax(mirrored)) - jnp.log(2)

    def single_logits(self, variables, images: jax.Array) -> Any:
        """As `logits`, from the images alone."""
        return self.model.apply(variables, standardize(images, self.config.data), train=False)

    @functools.cached_property
    def compiled_logits(self):
        return jax.jit(self.logits)

    def eval_step(self, variables, constants, batch, keys: Keys, measures=None) -> dict[str, Any]:
        """Metric sums over the valid examples of a batch; with `average_mirrored` also of the single predictions."""
        images, labels, valid = batch['image'] / 255.0, batch['labels'], batch['valid']
        logits = self.logits(variables, images)
        sums: dict[str, Any] = metric_sums(self.losses(logits, labels), logits, labels, valid)
        if self.config.average_mirrored:
            single = self.single_logits(variables, images)
            sums['single'] = metric_sums(self.losses(single, labels), single, labels, valid)
        return sums

    def summarize(self, sums: dict[str, Any]) -> dict[str, float]:
        """Metrics from sums; where predictions are averaged, single/ are those of the images alone."""
        metrics = {'loss': float(sums['loss'] / sums['examples']), **summarize(sums['confusion'], self.classes)}
        if 'single' in sums:
            metrics |= {f'single/{name}': value for name, value in self.summarize(sums['single']).items()}
        return metrics

    def figures(self, variables, examples, keys: Keys) -> dict[str, np.ndarray]:
        """Pictures of the predictions for a batch of test examples."""
        images = examples['image'] / np.float32(255)
        probabilities = jax.nn.softmax(self.compiled_logits(variables, images))
        return {
            'predictions': figures.prediction_grid(
                images, examples['labels'], np.asarray(probabilities), examples['index'], self.style
            )
        }

    def compare(self, runs: dict[str, tuple], examples) -> list[Picture]:
        """One picture of the same examples, segmented by several runs: name to (task, variables)."""
        images = examples['image'] / np.float32(255)
        predictions = {
            name: np.asarray(task.compiled_logits(variables, images)).argmax(-1)
            for name, (task, variables) in runs.items()
        }
        grid = figures.comparison_grid(images, examples['labels'], predictions, examples['index'], self.style)
        return [
            Picture(
                'Predictions',
                'The same test images, their true masks, and what the first run of each '
                'configuration predicts; below, the share of pixels that are wrong.',
                grid,
            )
        ]

    def report(self, rows) -> list[str | Picture]:
        return report.sections(rows)

    def predict(self, variables, images: jax.Array, labels=None) -> jax.Array:
        """Images uint8 `[B, S, S, 3]` to probabilities `[B, S, S, classes]`."""
        return jax.nn.softmax(self.logits(variables, images / 255.0))

    def present(self, picture: Image.Image, output: np.ndarray, labels=()) -> tuple[dict, dict]:
        """The mask and an overlay of a picture, at its own size, and the share of each class in it."""
        mask = figures.full_size_mask(output, picture.size)
        shares = np.bincount(mask.ravel(), minlength=len(self.classes)) / mask.size
        images = {
            'mask': figures.indexed(mask, self.style),
            'overlay': figures.photo_overlay(picture, mask, self.style),
        }
        return images, {
            'width': picture.width,
            'height': picture.height,
            'shares': dict(zip(self.classes, shares.round(6).tolist(), strict=True)),
        }


def metric_sums(losses, logits, labels, valid) -> dict[str, jax.Array]:
    return {
        'loss': jnp.sum(jnp.where(valid, losses, 0)),
        'examples': jnp.sum(valid, dtype=jnp.int32),
        'confusion': confusion_matrix(
            labels=labels, predictions=jnp.argmax(logits, -1), valid=valid, classes=logits.shape[-1]
        ),
    }


def check_classes(config) -> None:
    """Raises UserError where classes, their values, colours and weights do not fit each other."""
    data_config, names = config.data, tuple(config.data.classes)
    check_class_weights(config.class_weights, len(names))
    if config.class_weights and config.loss != 'cross_entropy':
        raise UserError('class_weights are for cross-entropy; leave them out, or set loss to cross_entropy')
    if names and not 2 <= len(names) <= masks.MOST_CLASSES or len(set(names)) < len(names):
        raise UserError(f'data.classes has {len(names)} names; it needs 2 to {masks.MOST_CLASSES} different ones')
    for key in ('mask_values', 'colors'):
        if names and data_config[key] and len(data_config[key]) != len(names):
            raise UserError(f'data.{key} has {len(data_config[key])} entries for {len(names)} classes')
    values = [masks.code_of(value) for value in (*data_config.mask_values, *data_config.ignore_values)]
    if len(set(values)) < len(values):
        raise UserError('data.mask_values and data.ignore_values name a value twice')
    if not all(re.fullmatch('#[0-9a-f]{6}', color) for color in data_config.colors):
        raise UserError(f'data.colors are written as #e67828, not {", ".join(data_config.colors)}')
