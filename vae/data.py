"""What an example of a labelled data set is: an image and a label. Classifiers and VAEs share it."""

from collections import Counter
from collections.abc import Sequence
import dataclasses
import functools
from typing import Any

from ml_collections import ConfigDict
import numpy as np
from PIL import Image

from common.config import filled
from common.data import images, source
from common.data.images import check_standardization
from common.data.source import DataSet, Fault
from common.errors import UserError
from common.task import Task
from vae import folders, synthetic
from vae.networks import check_shape

DRAWN = {'synthetic_digits': synthetic.digits(), 'synthetic_objects': synthetic.objects()}


@dataclasses.dataclass(frozen=True)
class LabelledTask(Task):
    """What classifiers and VAEs have in common: batches of `image` uint8 `[B, S, S, C]` and `label` int32 `[B]`."""

    def load(self, split: str) -> dict[str, np.ndarray]:
        return load(self.config.data, split)

    def data_set(self) -> DataSet:
        return find(self.config.data)

    def contents(self, example) -> Counter[str]:
        return Counter({str(example['label']): 1})

    @functools.cached_property
    def meaning(self) -> dict[str, str]:
        """The class of each of the data set's labels, written as a number."""
        numbers = class_numbers(self.classes, self.data_set())
        return {str(label): self.classes[number] for label, number in enumerate(numbers)}

    def tiles(self, example) -> dict[str, np.ndarray]:
        return {self.meaning.get(str(example['label']), '?'): as_color(example['image'])}

    def open_values(self) -> dict[str, Any]:
        return open_values(self.config)


def find(config: Any) -> DataSet:
    """The data set of a `data` section. Raises UserError where it cannot be had."""
    channels = (len(config.mean),) if config.mean else (1, 3)
    return source.find(config, {'image': channels, 'label': ()}, DRAWN, folders.find)


def load(config: Any, split: str) -> dict[str, np.ndarray]:
    """All examples of a split: `image` uint8 `[N, S, S, C]` and `label` int32 `[N]`; `config` is `data`."""
    data_set = find(config)
    return source.load(data_set.split(split, config.validation_examples), decoder(config, data_set), config, split)


def decoder(config: Any, data_set: DataSet) -> functools.partial:
    """What turns an example of the data set into arrays. Raises UserError where it has other labels."""
    numbers = class_numbers(tuple(config.classes), data_set)
    return functools.partial(decode_example, size=config.image_size, channels=len(config.mean), numbers=numbers)


def decode_example(
    example: dict[str, Any], *, size: int, channels: int, numbers: Sequence[int]
) -> dict[str, np.ndarray]:
    """An example to `image` uint8 `[size, size, channels]` and `label` int32.

    Args:
        numbers: the class of each of the data set's labels.
    Raises:
        Fault: the label is none of these.
    """
    if not 0 <= example['label'] < len(numbers):
        raise Fault(f'its label is {example["label"]}, not 0 to {len(numbers) - 1}')
    image = example['image']
    if channels == 1 and image.shape[-1] == 3:
        image = np.asarray(Image.fromarray(image).convert('L'))[..., None]
    image = np.broadcast_to(image, (*image.shape[:2], channels))
    return {'image': images.resize_image(image, size), 'label': np.asarray(numbers[example['label']], np.int32)}


def class_numbers(classes: tuple[str, ...], data_set: DataSet) -> tuple[int, ...]:
    """For each label of a data set the number of its class: by name, or where no name is the same, by number.

    Raises:
        UserError: there is a label that is no class.
    """
    labels = data_set.labels
    if not labels or len(labels) == len(classes) and not set(labels) & set(classes) and not is_folder(data_set):
        return tuple(range(len(classes)))
    unknown = [label for label in labels if label not in classes]
    if unknown:
        raise UserError(
            f'{data_set.title} has {len(labels)} labels, of which {", ".join(unknown[:5])}'
            f'{", …" if len(unknown) > 5 else ""} are not in data.classes ({", ".join(classes[:5])}'
            f'{", …" if len(classes) > 5 else ""}); with data.classes=() they are taken from the data'
        )
    return tuple(classes.index(label) for label in labels)


def as_color(image: np.ndarray) -> np.ndarray:
    """uint8 `[H, W, 1]` or `[H, W, 3]` to `[H, W, 3]`."""
    return np.broadcast_to(image, (*image.shape[:2], 3)).copy()


def is_folder(data_set: DataSet) -> bool:
    return any(isinstance(part.examples, folders.Labelled) for part in data_set.parts.values())


def open_values(config: ConfigDict) -> dict[str, Any]:
    """Classes, and mean and standard deviation of the training images, where a configuration leaves them to the data.

    Raises:
        UserError: the data cannot be read, or do not tell.
    """
    found = dict[str, Any]()
    if not (len(config.data.classes) and len(config.data.mean) and len(config.data.std)):
        data_set = find(config.data)
        if not len(config.data.classes):
            if len(data_set.labels) < 2:
                raise UserError(
                    f'{data_set.title} names {len(data_set.labels)} labels; two or more are needed, or name '
                    'them in data.classes'
                )
            found['data.classes'] = list(data_set.labels)
        if not (len(config.data.mean) and len(config.data.std)):
            channels = len(config.data.mean) or len(config.data.std) or data_set.channels
            known = filled(config, found | {'data.mean': [0.0] * channels})
            moments = zip(('mean', 'std'), mean_and_deviation(load(known.data, 'train')['image']), strict=True)
            found |= {f'data.{name}': value for name, value in moments if not len(config.data[name])}
    return found


def mean_and_deviation(pixels: np.ndarray) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel of uint8 images `[N, H, W, C]`, in units of 255.

    Raises:
        UserError: a channel is the same everywhere.
    """
    values, moments = np.arange(256) / 255, []
    for channel in range(pixels.shape[-1]):
        counts = np.bincount(pixels[..., channel].ravel(), minlength=256)
        mean = counts @ values / counts.sum()
        moments.append((mean, np.sqrt(counts @ np.square(values - mean) / counts.sum())))
    means, deviations = ([round(float(value), 4) for value in column] for column in zip(*moments, strict=True))
    if min(deviations) <= 0:
        raise UserError('the training images are all of one colour; give data.mean and data.std if that is right')
    return means, deviations


def check_images(config: ConfigDict) -> None:
    """Raises UserError where the images do not fit the network, or `data.mean` and `data.std` do not fit them."""
    check_shape(config.model, config.data.image_size)
    for key in ('mean', 'std'):
        if len(config.data[key]) not in (0, 1, 3):
            raise UserError(
                f'data.{key} has {len(config.data[key])} values; give one for grey images, three for colour'
            )
    if len(config.data.mean) and len(config.data.std):
        check_standardization(config.data)
    names = tuple(config.data.classes)
    if len(names) == 1:
        raise UserError('data.classes has one name; it needs two or more')
    if len(set(names)) < len(names):
        raise UserError(f'data.classes names {max(names, key=names.count)} more than once')
