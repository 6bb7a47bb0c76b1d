"""Colours for any number of classes."""

import functools
import itertools

import numpy as np

FIRST = ((45, 90, 150), (230, 120, 40), (250, 240, 200))
LEVELS = (0, 43, 85, 128, 170, 213, 255)
BACKGROUND = 'background'  # The class that overlays leave as it is.
IGNORED = (128, 128, 128)


@functools.cache
def palette(count: int) -> tuple[str, ...]:
    """`count` colours as '#rrggbb', up to 254: each as far as possible from those before it.

    Distances are Euclidean with weights (2, 4, 3) for red, green and blue, which is close to what people see.
    """
    candidates = np.array([*itertools.product(LEVELS, repeat=3)], float)
    chosen = [np.array(color, float) for color in FIRST]
    weights = np.array([2.0, 4.0, 3.0])
    distance = np.full(len(candidates), np.inf)
    for color in (*chosen, np.array(IGNORED, float)):
        distance = np.minimum(distance, ((candidates - color) ** 2 @ weights))
    while len(chosen) < count:
        color = candidates[distance.argmax()]
        chosen.append(color)
        distance = np.minimum(distance, ((candidates - color) ** 2 @ weights))
    return tuple(f'#{bytes(color.astype(np.uint8)).hex()}' for color in chosen[:count])


def table(colors: tuple[str, ...]) -> np.ndarray:
    """Colours of all labels, uint8 `[256, 3]`: those of the classes, and grey for ignored pixels."""
    found = np.full((256, 3), IGNORED, np.uint8)
    found[: len(colors)] = [[*bytes.fromhex(color[1:])] for color in colors]
    return found
