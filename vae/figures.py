"""Pictures of reconstructions, swapped labels, samples and interpolations."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from common.report.figures import figure_to_image, subplots
from vae.manifold import given_label

NEAREST = 5  # Real images beside each result.
MOST_LABELS = 12  # In a picture of every label; of more, so many spread over all.


def tile(axis, image: np.ndarray, below: str = '', color: str = 'black') -> None:
    """Draws one image `[H, W, C]` in `[0, 1]` with a line of text below it."""
    axis.axis('on')
    axis.imshow(image[..., 0] if image.shape[-1] == 1 else image, cmap='gray', vmin=0, vmax=1)
    axis.set(xticks=[], yticks=[])
    axis.set_xlabel(below, fontsize=7, labelpad=2, color=color)


def tiles(rows: int, columns: int, title: str):
    """A figure of `rows` x `columns` places for a `tile`, empty so far, with a title."""
    fig, axes = subplots(rows, columns, (0.85 * columns + 0.4, 0.95 * rows + 0.5))
    for axis in axes.flat:
        axis.axis('off')
    fig.suptitle(title, fontsize=10)
    return fig, axes


def shown_labels(count: int) -> np.ndarray:
    """The labels that pictures of every label show."""
    return np.linspace(0, count - 1, min(count, MOST_LABELS)).round().astype(int)


def short(name: str) -> str:
    """A name that fits below a small picture."""
    return name if len(name) <= 10 else f'{name[:9]}…'


def labelled_grid(
    images: np.ndarray, labels: np.ndarray, probabilities: np.ndarray, names: Sequence[str]
) -> np.ndarray:
    """Images `[N, H, W, C]`, eight a row, with true and predicted label; mistakes in red."""
    fig, axes = tiles(-(-len(images) // 8), 8, 'true label → predicted label')
    for axis, image, label, p in zip(axes.flat, images, labels, probabilities, strict=False):
        true, predicted = short(names[label]), short(names[p.argmax()])
        fits = len(true) + len(predicted) <= 6
        text = f'{true} → {predicted} ({p.max():.0%})' if fits else f'{true}\n→ {predicted}'
        tile(axis, image, text, 'black' if p.argmax() == label else 'red')
    return figure_to_image(fig)


def grid(images: np.ndarray, title: str, row_names=(), column_names=()) -> np.ndarray:
    """Images `[rows, columns, H, W, C]` with names."""
    fig, axes = tiles(images.shape[0], images.shape[1], title)
    for row, pictures in zip(axes, images, strict=True):
        for axis, image in zip(row, pictures, strict=True):
            tile(axis, image)
    for axis, name in zip(axes[:, 0], row_names, strict=False):
        axis.set_ylabel(name, fontsize=8, rotation=0, labelpad=4, ha='right', va='center')
    for axis, name in zip(axes[0], column_names, strict=False):
        axis.set_title(name, fontsize=8)
    return figure_to_image(fig)


def all_figures(
    originals: np.ndarray,
    labels: np.ndarray,
    swaps: np.ndarray,
    interpolation: np.ndarray,
    samples: np.ndarray,
    real: Sequence[np.ndarray],
    names: Sequence[str],
) -> dict[str, np.ndarray]:
    """Every picture of a VAE.

    Args:
        originals: `[N, H, W, C]` in `[0, 1]`. labels: `[N]`, the true ones.
        swaps: `[classes, N, H, W, C]`, each original as each label.
        interpolation: `[pairs, steps, H, W, C]`. samples: `[classes, count, H, W, C]`.
        real: images of each class, uint8 `[M, H, W, C]`. names: of the classes.
    """
    shown = shown_labels(len(swaps))
    wrong = given_label(labels, np.arange(len(labels)), len(swaps))
    figures = {
        'swaps': swap_grid(originals, labels, swaps, names),
        'reconstructions': pairs(originals, labels, swaps, labels, names, 16, 'right labels: original, reconstruction'),
        'wrong_labels': pairs(originals, labels, swaps, wrong, names, 25, 'wrong labels: original, result'),
        'nearest': nearest_grid(originals, labels, swaps, wrong, real, names),
        'samples': grid(samples[shown], 'samples of every label, a style a column', [short(names[i]) for i in shown]),
    }
    if len(interpolation):  # Empty if there is only one image.
        figures['interpolation'] = grid(interpolation, 'from one image to another')
    return figures


def swap_grid(originals: np.ndarray, labels: np.ndarray, swaps: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """The first ten originals, a row each, and what they become under every label; arguments as `all_figures`."""
    rows = np.arange(min(10, len(originals)))
    shown = shown_labels(len(swaps))
    by_image = np.concatenate([originals[rows, None], np.swapaxes(swaps[shown][:, rows], 0, 1)], axis=1)
    return grid(
        by_image,
        'each image as every label',
        [f'is {short(names[labels[i]])}' for i in rows],
        ['original', *(short(names[i]) for i in shown)],
    )


def nearest_grid(originals, labels, swaps, given, real: Sequence[np.ndarray], names: Sequence[str]) -> np.ndarray:
    """The first ten originals, a row each, what they become under the given labels, and the real images nearest to it.

    Arguments as `all_figures`; given: a wrong label for each original, `[N]`.
    """
    rows = range(min(10, len(originals)))
    fig, axes = tiles(len(rows), 2 + NEAREST, 'original, result, and the nearest real images of the given label')
    for i, (left, middle, *others) in zip(rows, axes, strict=True):
        swap = swaps[given[i], i]
        found = nearest(swap, real[given[i]], NEAREST)
        tile(left, originals[i], f'is {short(names[labels[i]])}')
        tile(middle, swap, f'given {short(names[given[i]])}', 'firebrick')
        for axis, image in zip(others, found, strict=False):
            tile(axis, image)
    return figure_to_image(fig)


def nearest(image: np.ndarray, real: np.ndarray, count: int) -> np.ndarray:
    """The `count` real images, uint8 `[N, H, W, C]`, with the least squared difference to an image `[H, W, C]`."""
    scaled = real / np.float32(255)
    return scaled[np.argsort(np.sum(np.square(scaled - image), axis=(1, 2, 3)), kind='stable')[:count]]


def pairs(
    originals, labels, swaps, given, names: Sequence[str], count: int, title: str, columns: int = 5
) -> np.ndarray:
    """Each of the first `count` originals beside what it becomes under its given label."""
    count = min(count, len(originals))
    fig, axes = tiles(-(-count // columns), 2 * columns, title)
    for i in range(count):
        left, right = axes[i // columns, 2 * (i % columns) : 2 * (i % columns) + 2]
        tile(left, originals[i], f'is {short(names[labels[i]])}')
        color = 'black' if given[i] == labels[i] else 'firebrick'
        tile(right, swaps[given[i], i], f'given {short(names[given[i]])}', color)
    return figure_to_image(fig)


def to_image(image: np.ndarray) -> Image.Image:
    """`[H, W, C]` in `[0, 1]` as a grey or RGB image."""
    pixels = np.round(255 * image).astype(np.uint8)
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


def row_of(original: Image.Image, images: dict[str, Image.Image], side: int = 112) -> Image.Image:
    """The original and the images in a row, each as a square of `side` pixels with its name above it."""
    row = Image.new('RGB', ((side + 4) * (1 + len(images)), side + 20), 'white')
    draw = ImageDraw.Draw(row)
    for column, (name, image) in enumerate(({'original': original} | images).items()):
        draw.text((column * (side + 4) + 2, 3), name, 'black')
        square = image.convert('RGB').resize((side, side), Image.Resampling.BOX)
        row.paste(square, (column * (side + 4) + 2, 18))
    return row
