"""Pictures of predicted masks, and a plot of effects."""

from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
import numpy as np
from PIL import Image

from common.report.figures import figure_to_image, subplots
from unet.effects import Effect
from unet.metrics import CLASSES

COLORS = np.array([[230, 120, 40], [45, 90, 150], [250, 240, 200]], np.uint8)  # In the order of CLASSES.
OVERLAY_COLORS = {name: 'transparent' if name == 'background' else f'#{bytes(color).hex()}'
                  for name, color in zip(CLASSES, COLORS, strict=True)}  # CSS colours, by class.
WRONG = (0.85, 0.1, 0.1)
MARKERS = {'main effect': ('C0', 'o'), 'interaction': ('C1', 's'), 'simple contrast': ('C2', 'D')}


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
    wrong = predictions != labels
    columns = {
        'image': images,
        'truth': COLORS[labels],
        'prediction': COLORS[predictions],
        'overlay': np.stack([overlay(*pair) for pair in zip(images, predictions, strict=True)]),
        'wrong pixels': np.where(wrong[..., None], WRONG, 0.35 * images + 0.65),
    }
    return grid(columns, index, {'wrong pixels': wrong})


def comparison_grid(images: np.ndarray, labels: np.ndarray, predictions: dict[str, np.ndarray],
                    index: np.ndarray) -> np.ndarray:
    """One row an example: input, truth, and the prediction `[B, H, W]` of each run. Returns uint8 RGB."""
    columns = {'image': images, 'truth': COLORS[labels]} | {n: COLORS[p] for n, p in predictions.items()}
    return grid(columns, index, {name: p != labels for name, p in predictions.items()})


def grid(columns: dict[str, np.ndarray], index: np.ndarray, wrong: dict[str, np.ndarray]) -> np.ndarray:
    """Draws `[B, H, W, 3]` pictures by title; under those in `wrong`, the share of wrong pixels."""
    rows = len(index)
    fig, axes = subplots(rows, len(columns), (1.7 * len(columns), 1.75 * rows + 0.5))
    for column, (title, pictures) in zip(axes.T, columns.items(), strict=True):
        column[0].set_title(title, fontsize=8)
        for row, axis in enumerate(column):
            axis.imshow(pictures[row], interpolation='nearest')
            axis.set(xticks=[], yticks=[])
            if title in wrong:
                axis.set_xlabel(f'{wrong[title][row].mean():.1%} wrong', fontsize=8)
    for axis, i in zip(axes[:, 0], index, strict=True):
        axis.set_ylabel(f'test {i}', fontsize=8)
    patches = [Rectangle((0, 0), 1, 1, color=color / 255) for color in COLORS]
    fig.legend(patches, CLASSES, loc='outside lower center', ncols=len(CLASSES), fontsize=8, frameon=False)
    return figure_to_image(fig)


def overlay(image: np.ndarray, labels: np.ndarray, strength: float = 0.5) -> np.ndarray:
    """The classes in colour over the image `[H, W, 3]`; background stays as it is."""
    colored = (1 - strength) * image + strength * COLORS[labels] / 255
    return np.where((labels == CLASSES.index('background'))[..., None], image, colored)


def full_size_mask(probabilities: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """`[S, S, C]`, resized to `size` (width, height), as the most probable class: uint8 `[height, width]`."""
    mask, largest = np.zeros(size[::-1], np.uint8), np.zeros(size[::-1], np.float32)
    for number, channel in enumerate(np.moveaxis(probabilities, -1, 0)):  # One by one: an argmax would hold all.
        resized = np.asarray(Image.fromarray(channel).resize(size, Image.Resampling.BILINEAR))
        mask[resized > largest] = number
        np.maximum(largest, resized, out=largest)
    return mask


def indexed(mask: np.ndarray) -> Image.Image:
    """A mask as an image whose values are the classes, shown in their colours."""
    image = Image.fromarray(mask)
    image.putpalette(COLORS.tobytes())
    return image


def photo_overlay(picture: Image.Image, mask: np.ndarray) -> Image.Image:
    """As `overlay`, for an RGB picture of any size and its mask, in as little memory as that can take."""
    colored = Image.blend(picture, indexed(mask).convert('RGB'), 0.5)
    return Image.composite(picture, colored, Image.fromarray(mask == CLASSES.index('background')))


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
    axes[0].set(yticks=range(len(effects)), yticklabels=[name for _, name in effects], ylim=(len(effects) - 0.5, -0.5),
                ylabel='contrast')
    fig.suptitle('Effects of the design choices, with 95 % intervals')
    handles = [Line2D([], [], color=color, marker=marker) for color, marker in markers.values()]
    fig.legend(handles, markers, loc='outside lower center', ncols=len(markers), fontsize=8, frameon=False)
    return figure_to_image(fig)
