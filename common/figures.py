"""Plots that every task shares, and the way from a matplotlib figure to an array."""

import pathlib

import matplotlib
import numpy as np

from common.writers import read_metrics

matplotlib.use('Agg')
import matplotlib.pyplot as plt  # noqa: E402  (the backend comes first)


def figure_to_image(fig) -> np.ndarray:
    """Draws and closes a figure: uint8 `[height, width, 3]`."""
    fig.canvas.draw()
    image = np.asarray(fig.canvas.buffer_rgba())[..., :3].copy()
    plt.close(fig)
    return image


def smooth(values: np.ndarray, weight: float = 0.6) -> np.ndarray:
    """Exponential moving average without bias towards the start, as TensorBoard draws it."""
    smoothed, total, mass = [], 0.0, 0.0
    for value in values:
        total, mass = weight * total + (1 - weight) * value, weight * mass + 1 - weight
        smoothed.append(total / mass)
    return np.array(smoothed)


def curves(workdir: pathlib.Path, names: tuple[str, ...]) -> np.ndarray:
    """The named metrics against the step, a panel each and a line for each split, raw and smoothed."""
    lines = read_metrics(workdir)
    fig, axes = plt.subplots(1, len(names), figsize=(4.2 * len(names), 3.2), layout='constrained',
                             squeeze=False)
    for axis, name in zip(axes[0], names, strict=True):
        for number, split in enumerate(('train', 'validation', 'test')):
            points = [(line['step'], line[name]) for line in lines if line['split'] == split and name in line]
            if points:
                draw_curve(axis, np.array(points, float), f'{split}', f'C{number}')
        axis.set(title=name.replace('_', ' '), xlabel='step')
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    return figure_to_image(fig)


def draw_curve(axis, points: np.ndarray, label: str, color: str) -> None:
    """Points `[N, 2]`: the raw values faintly, the smoothed ones over them."""
    axis.plot(*points.T, color=color, alpha=0.3, linewidth=1)
    axis.plot(points[:, 0], smooth(points[:, 1]), color=color, linewidth=1.8, label=f'{label} (smoothed)')
