"""Pictures of predicted masks, and a plot of effects."""

from typing import NamedTuple

from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
import numpy as np
from PIL import Image

from common.report.figures import figure_to_image, subplots
from unet.effects import Effect
from unet.masks import IGNORED
from unet.palette import BACKGROUND

WRONG = (0.85, 0.1, 0.1)
MARKERS = {'main effect': ('C0', 'o'), 'interaction': ('C1', 's'), 'simple contrast': ('C2', 'D')}
MOST_IN_LEGEND = 12  # With more classes, only those that the pictures show.


class ClassStyle(NamedTuple):
    """The names of the classes, and the colours of all labels, uint8 `[256, 3]`."""

    names: tuple[str, ...]
    colors: np.ndarray

    @property
    def background(self) -> int:
        """The class that overlays leave as it is; -1 for none."""
        return self.names.index(BACKGROUND) if BACKGROUND in self.names else -1


def prediction_grid(
    images: np.ndarray, labels: np.ndarray, probabilities: np.ndarray, index: np.ndarray, style: ClassStyle
) -> np.ndarray:
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
    wrong = is_wrong(predictions, labels)
    columns = {
        'image': images,
        'truth': style.colors[labels],
        'prediction': style.colors[predictions],
        'overlay': np.stack([overlay(*pair, style) for pair in zip(images, predictions, strict=True)]),
        'wrong pixels': np.where((wrong == 1)[..., None], WRONG, 0.35 * images + 0.65),
    }
    return grid(columns, index, {'wrong pixels': wrong}, style, np.union1d(labels, predictions))


def is_wrong(predictions: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """1 where a prediction is wrong, 0 where it is right, NaN where the pixel is ignored."""
    return np.where(labels == IGNORED, np.nan, predictions != labels)


def comparison_grid(
    images: np.ndarray, labels: np.ndarray, predictions: dict[str, np.ndarray], index: np.ndarray, style: ClassStyle
) -> np.ndarray:
    """One row an example: input, truth, and the prediction `[B, H, W]` of each run. Returns uint8 RGB."""
    columns = {'image': images, 'truth': style.colors[labels]} | {n: style.colors[p] for n, p in predictions.items()}
    shown = np.unique(np.stack([labels, *predictions.values()]))
    return grid(columns, index, {name: is_wrong(p, labels) for name, p in predictions.items()}, style, shown)


def grid(
    columns: dict[str, np.ndarray],
    index: np.ndarray,
    wrong: dict[str, np.ndarray],
    style: ClassStyle,
    shown: np.ndarray,
) -> np.ndarray:
    """Draws `[B, H, W, 3]` pictures by title; under those in `wrong`, the share of wrong pixels (see `is_wrong`).

    The legend has all classes, or of many those whose labels are in `shown`.
    """
    rows = len(index)
    fig, axes = subplots(rows, len(columns), (1.7 * len(columns), 1.75 * rows + 0.5))
    for column, (title, pictures) in zip(axes.T, columns.items(), strict=True):
        column[0].set_title(title, fontsize=8)
        for row, axis in enumerate(column):
            axis.imshow(pictures[row], interpolation='nearest')
            axis.set(xticks=[], yticks=[])
            if title in wrong:
                counted = wrong[title][row][~np.isnan(wrong[title][row])]
                axis.set_xlabel(f'{counted.mean():.1%} wrong' if counted.size else 'ignored', fontsize=8)
    for axis, i in zip(axes[:, 0], index, strict=True):
        axis.set_ylabel(f'test {i}', fontsize=8)
    classes = range(len(style.names)) if len(style.names) <= MOST_IN_LEGEND else shown[shown < len(style.names)]
    patches = [Rectangle((0, 0), 1, 1, color=style.colors[number] / 255) for number in classes]
    fig.legend(
        patches,
        [style.names[number] for number in classes],
        loc='outside lower center',
        ncols=min(len(patches), 6),
        fontsize=8,
        frameon=False,
    )
    return figure_to_image(fig)


def overlay(image: np.ndarray, labels: np.ndarray, style: ClassStyle, strength: float = 0.5) -> np.ndarray:
    """The classes in colour over the image `[H, W, 3]`; a class 'background' stays as it is."""
    colored = (1 - strength) * image + strength * style.colors[labels] / 255
    return np.where((labels == style.background)[..., None], image, colored)


def full_size_mask(probabilities: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """`[S, S, C]`, resized to `size` (width, height), as the most probable class: uint8 `[height, width]`."""
    mask, largest = np.zeros(size[::-1], np.uint8), np.zeros(size[::-1], np.float32)
    for number, channel in enumerate(np.moveaxis(probabilities, -1, 0)):  # One by one: an argmax would hold all.
        resized = np.asarray(Image.fromarray(channel).resize(size, Image.Resampling.BILINEAR))
        mask[resized > largest] = number
        np.maximum(largest, resized, out=largest)
    return mask


def indexed(mask: np.ndarray, style: ClassStyle) -> Image.Image:
    """A mask as an image whose values are the classes, shown in their colours."""
    image = Image.fromarray(mask)
    image.putpalette(style.colors[: len(style.names)].tobytes())
    return image


def photo_overlay(picture: Image.Image, mask: np.ndarray, style: ClassStyle) -> Image.Image:
    """As `overlay`, for an RGB picture of any size and its mask, in as little memory as that can take."""
    colored = Image.blend(picture, indexed(mask, style).convert('RGB'), 0.5)
    return Image.composite(picture, colored, Image.fromarray(mask == style.background))


def forest(effects: dict[tuple[str, str], Effect], measures: list[str]) -> np.ndarray:
    """A panel for each measure, and in it the estimate of each contrast with its 95 % interval.

    Args:
        effects: by kind (of MARKERS) and name, in percentage points.
    Returns:
        uint8 `[height, width, 3]`.
    """
    markers = {kind: MARKERS[kind] for kind, _ in effects}
    fig, (axes,) = subplots(1, len(measures), (3 * len(measures) + 2.5, 0.32 * len(effects) + 2), sharey=True)
    for column, (axis, measure) in enumerate(zip(axes, measures, strict=True)):
        for row, ((kind, _), effect) in enumerate(effects.items()):
            (color, marker), (low, high) = markers[kind], effect.interval()
            axis.plot([low[column], high[column]], [row, row], color=color, linewidth=1.8)
            axis.plot(effect.difference[column], row, marker, color=color)
        axis.axvline(0, color='black', linewidth=0.8)
        axis.grid(axis='x', alpha=0.3)
        axis.set(title=measure, xlabel='percentage points')
    axes[0].set(
        yticks=range(len(effects)),
        yticklabels=[name for _, name in effects],
        ylim=(len(effects) - 0.5, -0.5),
        ylabel='contrast',
    )
    fig.suptitle('Effects of the design choices, with 95 % intervals')
    handles = [Line2D([], [], color=color, marker=marker) for color, marker in markers.values()]
    fig.legend(handles, markers, loc='outside lower center', ncols=len(markers), fontsize=8, frameon=False)
    return figure_to_image(fig)
