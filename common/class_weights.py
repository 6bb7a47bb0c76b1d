"""Weights of classes in a loss, as configurations have them: '1,1,3', 'balanced', or '' for 1 each."""

from collections.abc import Sequence

import numpy as np

from common.errors import UserError

BALANCED = 'balanced'


def class_weights(text: str) -> tuple[float, ...]:
    """The numbers in `text`; () for none. Raises ValueError."""
    return tuple(float(number) for number in text.split(',')) if text else ()


def check_class_weights(text: str, classes: int) -> None:
    """Raises UserError unless `text` has a positive number for each of the classes (0: not known yet)."""
    if text == BALANCED:
        return
    try:
        weights = class_weights(text)
    except ValueError:
        weights = (-1.0,)
    if weights and (not all(0 < weight < float('inf') for weight in weights) or classes and len(weights) != classes):
        raise UserError(
            f"class_weights is {text!r}; give 'balanced', or a positive number for each "
            f"{f'of the {classes} classes' if classes else 'class'}, such as '1,1,3'"
        )


def balanced_weights(counts: np.ndarray, classes: Sequence[str]) -> str:
    """Weights in inverse proportion to the training examples or pixels of each class, 1 in the mean over these.

    Raises:
        UserError: a class has none.
    """
    for name, count in zip(classes, counts, strict=True):
        if not count:
            raise UserError(f'class_weights cannot be balanced: the training data have nothing of class {name!r}')
    return ','.join(f'{weight:.6g}' for weight in counts.sum() / (len(counts) * counts))
