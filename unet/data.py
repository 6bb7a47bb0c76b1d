"""What an example of a segmentation data set is: an image and a mask, squashed to the configured size."""

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
import functools
import os
import pathlib
from typing import Any

import numpy as np

from common.data import images, source
from common.data.source import DataSet, Fault, Source
from common.errors import UserError
from unet import folders, masks, synthetic
from unet.palette import palette

FEATURES = {'image': (3,), 'segmentation_mask': (1,)}  # What a TFDS data set must have, and the channels.
PETS = 'oxford_iiit_pet'
DRAWN = {'synthetic_pets': synthetic.pets()}
MAY_BE_OPEN = ('classes', 'mask_values', 'ignore_values', 'colors')


def find(config: Any) -> DataSet:
    """The data set of a `data` section. Raises UserError where it cannot be had."""
    if config.name == PETS and config.manual_dir:
        unpacked = folders.unpacked_pets(pathlib.Path(config.manual_dir).expanduser())
        if unpacked:
            return unpacked
    return source.find(config, FEATURES, DRAWN, folders.find)


def load(config: Any, split: str) -> dict[str, np.ndarray]:
    """All examples of a split: `image` uint8 `[N, S, S, 3]` and `labels` uint8 `[N, S, S]`; `config` is `data`."""
    return source.load(find(config).split(split, config.validation_examples), decoder(config), config, split)


def decoder(config: Any) -> functools.partial:
    """What turns an example of the data set into arrays."""
    return functools.partial(
        decode_example, size=config.image_size, values=tuple(config.mask_values), ignored=tuple(config.ignore_values)
    )


def decode_example(
    example: dict[str, Any], *, size: int, values: Sequence[str], ignored: Sequence[str]
) -> dict[str, np.ndarray]:
    """An example to `image` uint8 `[size, size, 3]` and `labels` uint8 `[size, size]`.

    Labels are the numbers of classes, or `masks.IGNORED`. Raises Fault for a mask that does not fit.
    """
    check_size(example)
    image, mask = example['image'], example['segmentation_mask']
    labels = masks.to_labels(masks.codes(mask), values, ignored)
    return {'image': images.resize_image(image, size), 'labels': images.resize_labels(labels, size)}


def check_size(example: dict[str, Any]) -> None:
    """Raises Fault where the mask has another size than its image."""
    (height, width), (mask_height, mask_width) = example['image'].shape[:2], example['segmentation_mask'].shape[:2]
    if (height, width) != (mask_height, mask_width):
        raise Fault(f'its mask is {mask_width}x{mask_height} pixels, the picture {width}x{height}')


def open_values(config: Any) -> dict[str, tuple[str, ...]]:
    """Classes, their values in the masks and their colours, where a `data` section leaves them to the data.

    A folder's classes.json is asked first, then the masks.

    Raises:
        UserError: the masks cannot be read, or do not fit what is given.
    """
    if not any(len(config[key]) == 0 for key in ('classes', 'mask_values', 'colors')):
        return {}
    known = folders.describe(pathlib.Path(config.dir).expanduser()) if config.name == 'folder' else folders.Described()
    names, colors = tuple(config.classes) or known.names, tuple(config.colors) or known.colors
    ignored = tuple(config.ignore_values) or known.ignored
    values = tuple(config.mask_values) or known.values
    if values and not config.mask_values and not ignored and '255' not in values and values[0].isdecimal():
        ignored = ('255',)
    if not values:
        found = masks_of(find(config))
        values, ignored = masks.classes_in(found, ignored)
        if names:
            values = values_of_named(names, colors, values)
    names = names or masks.class_names(values)
    if len(names) != len(values):
        raise UserError(
            f'{len(names)} classes are named ({", ".join(names[:5])}, …), and the masks hold '
            f'{len(values)} values ({", ".join(values[:8])}); name as many'
        )
    if not colors:
        colored = all(value.startswith('#') or value in ('0', '255') for value in values) and values[-1][0] == '#'
        colors = tuple(map(as_color, values)) if colored else palette(len(values))
    return dict(zip(MAY_BE_OPEN, (names, values, ignored, colors), strict=True))


def values_of_named(names: Sequence[str], colors: Sequence[str], found: Sequence[str]) -> tuple[str, ...]:
    """The values of named classes in masks that hold `found`: their colours, else their places, else in order."""
    known = tuple(masks.name_of(masks.code_of(color)) for color in colors)
    if set(found) <= set(known):
        return known
    places = tuple(map(str, range(len(names))))
    return places if set(found) <= set(places) else tuple(found)


def as_color(value: str) -> str:
    """A value of a mask as a colour."""
    return value if value.startswith('#') else f'#{int(value):02x}{int(value):02x}{int(value):02x}'


def masks_of(data_set: DataSet) -> Counter[int]:
    """The pixels of each code in all masks of a data set. Raises UserError where one cannot be read."""
    total = Counter[int]()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for part in data_set.parts.values():
            for counts in pool.map(functools.partial(mask_of, part), range(len(part))):
                total.update(counts)
    if not total:
        raise UserError(f'{data_set.title} holds no picture with a mask')
    return total


def mask_of(part: Source, index: int) -> Counter[int]:
    """The pixels of each code in one mask. Raises UserError where it cannot be read."""
    try:
        examples = part.examples
        mask = examples.mask(index) if isinstance(examples, folders.Pairs) else part.read(index)['segmentation_mask']
    except Fault as fault:
        raise UserError(
            f'{part.which(index)}: {fault}; mend or remove it; --mode=data lists all that is wrong'
        ) from fault
    return masks.count(masks.codes(mask))
