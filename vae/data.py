"""What an example of a labelled data set is: an image and a label. Classifiers and VAEs share it."""

from typing import Any

import numpy as np

from common import data
from common.errors import UserError
from vae import synthetic  # noqa: F401  (importing it registers it with TFDS)
from vae.networks import check_shape

CLASSES = 10


def load(config, split: str) -> dict[str, np.ndarray]:
    """All examples of a split: `image` uint8 `[N, S, S, C]` and `label` int32 `[N]`; `config` is `data`."""
    return data.load(config, split, decode_example, {'image': (len(config.mean),), 'label': ()})


def decode_example(example: dict[str, Any], size: int) -> dict[str, np.ndarray]:
    """One TFDS example to `image` uint8 `[size, size, C]` and `label` int32. Raises UserError for unknown labels."""
    if not 0 <= example['label'] < CLASSES:
        raise UserError(f'{data.name_of(example)} has label {example["label"]}, not 0 to {CLASSES - 1}; '
                        'mend or remove that example and prepare the data set again')
    return {'image': data.resize_image(example['image'], size), 'label': np.int32(example['label'])}


def check_images(config) -> None:
    """Raises UserError where the images do not fit the network, or `data.mean` and `data.std` do not fit them."""
    check_shape(config.model, config.data.image_size)
    data.check_standardization(config.data)
