"""What an example of a segmentation data set is: an image and a mask, squashed to the configured size."""

from typing import Any

import numpy as np

from common import data
from common.errors import UserError
from unet import synthetic  # noqa: F401  (importing it registers it with TFDS)

FEATURES = {'image': (3,), 'segmentation_mask': (1,)}  # What a data set must have, and the channels.


def load(config, split: str) -> dict[str, np.ndarray]:
    """All examples of a split: `image` uint8 `[N, S, S, 3]` and `labels` uint8 `[N, S, S]`; `config` is `data`."""
    return data.load(config, split, decode_example, FEATURES)


def decode_example(example: dict[str, Any], size: int) -> dict[str, np.ndarray]:
    """One TFDS example to `image` uint8 `[size, size, 3]` and `labels` uint8 `[size, size]`.

    The trimap's {1, 2, 3} become {0 pet, 1 background, 2 border}. Raises UserError for other values.
    """
    trimap = example['segmentation_mask'][..., 0]
    if trimap.min() < 1 or trimap.max() > 3:
        raise UserError(f'the mask of {data.name_of(example)} has values {np.unique(trimap)[:8]}, not only '
                        '1, 2 and 3; mend or remove that example and prepare the data set again')
    return {'image': data.resize_image(example['image'], size),
            'labels': data.resize_labels(trimap, size) - np.uint8(1)}
