"""Pictures of predicted masks."""

import numpy as np

from common.figures import figure_to_image, plt
from unet.metrics import CLASSES

COLORS = np.array([[230, 120, 40], [45, 90, 150], [250, 240, 200]], np.uint8)  # In the order of CLASSES.


def prediction_grid(images: np.ndarray, labels: np.ndarray, probabilities: np.ndarray,
                    index: np.ndarray) -> np.ndarray:
    """One row an example: input, truth, prediction, prediction over the input, and where it is wrong.

    Args:
        images: float `[B, H, W, 3]` in `[0, 1]`.
        labels: integers `[B, H, W]`.
        probabilities: `[B, H, W, C]`.
        index: `[B]`, each example's place in the test split.
    Returns:
        uint8 `[height, width, 3]`.
    """
    predictions = probabilities.argmax(-1)
    titles = ('image', 'truth', 'prediction', 'overlay', 'wrong pixels')
    fig, axes = plt.subplots(len(images), len(titles), squeeze=False, layout='constrained',
                             figsize=(1.7 * len(titles), 1.75 * len(images) + 0.5))
    for row, image, truth, prediction, i in zip(axes, images, labels, predictions, index, strict=True):
        wrong = truth != prediction
        panels = (image, COLORS[truth], COLORS[prediction], overlay(image, prediction),
                  np.where(wrong[..., None], [0.85, 0.1, 0.1], 0.35 * image + 0.65))
        for axis, panel in zip(row, panels, strict=True):
            axis.imshow(panel, interpolation='nearest')
            axis.set(xticks=[], yticks=[])
        row[0].set_ylabel(f'test {i}', fontsize=8)
        row[4].set_xlabel(f'{wrong.mean():.1%} wrong', fontsize=8)
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=9)
    patches = [plt.Rectangle((0, 0), 1, 1, color=color / 255) for color in COLORS]
    fig.legend(patches, CLASSES, loc='outside lower center', ncols=len(CLASSES), fontsize=8, frameon=False)
    return figure_to_image(fig)


def overlay(image: np.ndarray, labels: np.ndarray, strength: float = 0.5) -> np.ndarray:
    """The classes in colour over the image `[H, W, 3]`; background stays as it is."""
    colored = (1 - strength) * image + strength * COLORS[labels] / 255
    return np.where((labels == CLASSES.index('background'))[..., None], image, colored)
