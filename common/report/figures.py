"""Plots that every task shares, and the way from a matplotlib figure to an array."""

import pathlib

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
import numpy as np

from common.writers import read_metrics

LINE_STYLES = ('-', '--', ':')  # For more than ten runs.


def subplots(rows: int, columns: int, size: tuple[float, float], **options) -> tuple[Figure, np.ndarray]:
    """A figure of `size` inches and its axes `[rows, columns]`; not registered with pyplot."""
    fig = Figure(figsize=size, layout='constrained')
    return fig, fig.subplots(rows, columns, squeeze=False, **options)


def figure_to_image(fig: Figure) -> np.ndarray:
    """Draws a figure: uint8 `[height, width, 3]`."""
    canvas = FigureCanvasAgg(fig)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def smooth(points: np.ndarray, width: float = 0.02, most: int = 1000) -> np.ndarray:
    """Means of the values of `[N, 2]` (step, value) under a Gaussian of `width` times the curve's length: `[M, 2]`.

    The window is symmetric, so that the line does not lag; sparse points are interpolated. If there are more than
    `most` points, neighbours are averaged first.
    """
    steps, values = np.stack([part.mean(0) for part in np.array_split(points, min(len(points), most))]).T
    distance = (steps[:, None] - steps[None, :]) / max(width * np.ptp(steps), 1)
    weights = np.exp(-0.5 * distance**2)
    return np.stack([steps, weights @ values / weights.sum(1)], axis=1)


def title_of(metric: str) -> str:
    """What a plot calls a metric."""
    return metric.replace('_', ' ').replace('iou', 'IoU')


def curves(workdir: pathlib.Path, names: tuple[str, ...]) -> np.ndarray:
    """The named metrics of one run against the step, a panel each and a line for each split."""
    lines = read_metrics(workdir)
    fig, axes = subplots(1, len(names), (4.2 * len(names), 3.2))
    for axis, name in zip(axes[0], names, strict=True):
        for number, split in enumerate(('train', 'validation', 'test')):
            draw_curve(axis, lines, split, name, label=split, color=f'C{number}')
        finish_curves(axis, name)
        choose_scale([axis])
    return figure_to_image(fig)


def compare_curves(rows: dict[str, list[list[dict]]], name: str) -> np.ndarray:
    """One metric of several runs, training beside test; of a run that holds out validation examples, beside those.

    Args:
        rows: for each name in the legend, the lines of metrics.jsonl of each of its seeds.
    """
    fig, (axes,) = subplots(1, 2, (11, 4 + 0.22 * len(rows)), sharey=True)
    for axis, splits in zip(axes, (('train',), ('validation', 'test')), strict=True):
        drawn = set()
        for number, (row, seeds) in enumerate(rows.items()):
            for seed, lines in enumerate(seeds):
                split = next((s for s in splits if any(line['split'] == s for line in lines)), splits[-1])
                drawn.add(split)
                draw_curve(
                    axis,
                    lines,
                    split,
                    name,
                    label='_' if seed else row,
                    color=f'C{number % 10}',
                    linestyle=LINE_STYLES[number // 10 % len(LINE_STYLES)],
                )
        axis.set(title=f'{title_of(name)}, {" or ".join(sorted(drawn))}', xlabel='step')
        axis.grid(alpha=0.3)
    choose_scale(axes)
    handles, labels = max((axis.get_legend_handles_labels() for axis in axes), key=lambda pair: len(pair[0]))
    fig.legend(
        handles,
        labels,
        loc='outside lower center',
        ncols=2,
        fontsize=8,
        title='smoothed (raw: faint)',
        title_fontsize=7,
    )
    return figure_to_image(fig)


def draw_curve(axis, lines: list[dict], split: str, name: str, **style) -> None:
    """The raw values faintly, the smoothed ones over them; nothing where there are none."""
    points = np.array(
        [(line['step'], line[name]) for line in lines if line['split'] == split and line.get(name) is not None], float
    ).reshape(-1, 2)
    if len(points):
        axis.plot(*points.T, **style | {'label': '_'}, alpha=0.3, linewidth=1)
        axis.plot(*smooth(points).T, **style, linewidth=1.8, marker='o' if len(points) == 1 else None)


def choose_scale(axes) -> None:
    """Makes the shared y axis logarithmic if all values are positive and the largest is over 100 times the smallest."""
    values = np.concatenate([line.get_ydata() for axis in axes for line in axis.lines] or [[]])
    if len(values) and 0 < 100 * values.min() < values.max():
        axes[0].set_yscale('log')


def finish_curves(axis, title: str) -> None:
    """Sets title, axes, grid, and a legend that explains the two lines."""
    axis.set(title=title_of(title), xlabel='step')
    axis.locator_params(axis='x', nbins=6)
    axis.grid(alpha=0.3)
    if axis.get_legend_handles_labels()[0]:
        axis.legend(fontsize=8, title='smoothed (raw: faint)', title_fontsize=7)
