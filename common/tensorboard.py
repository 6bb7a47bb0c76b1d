"""What a run writes for TensorBoard: the tags, the folders, and clu's writers behind them.

`train/`, `validation/` and `test/` below the work directory hold the events of one split each. A metric has the same
tag in all of them, so TensorBoard draws one chart with a line for each split. The work directory itself holds the
hyper-parameters and the table of parameters.

A tag starts with its group. TensorBoard sorts groups by name, and these names are in the order of importance:

    headline/NAME    the metrics in `Task.headline`
    metrics/NAME     the other metrics
    per_class/NAME   metrics of a single class, e.g. per_class/iou/pet
    pictures/NAME    figures, all in `test/`: they show test examples
    training/NAME    speed, learning rate and gradient norm
"""

from collections.abc import Mapping
import pathlib
from typing import Any

import numpy as np

from common.errors import notice
from common.task import Task


def tag(task: Task, name: str) -> str:
    """The tag of one of a task's metrics."""
    if name in task.headline:
        return f'headline/{name}'
    _, *parts = name.split('/')
    return f'per_class/{name}' if {*parts} & {*task.classes} else f'metrics/{name}'


class Events:
    """The event files of a run. Raises ImportError where TensorFlow or TensorBoard is not installed."""

    def __init__(self, task: Task, workdir: pathlib.Path):
        from clu import metric_writers  # Imports TensorFlow, which takes seconds.
        import tensorflow as tf

        tf.config.set_visible_devices([], 'GPU')
        self.create = lambda folder: metric_writers.AsyncWriter(metric_writers.SummaryWriter(str(workdir / folder)))
        self.task, self.workdir, self.writers = task, workdir, dict[str, Any]()

    def writer(self, folder: str):
        """The writer of a folder, made at its first use: it makes an event file."""
        if folder not in self.writers:
            self.writers[folder] = self.create(folder)
        return self.writers[folder]

    def close(self) -> None:
        for writer in self.writers.values():
            writer.close()

    def start(self, hparams: Mapping[str, object], overview: str) -> None:
        """Hyper-parameters, under the run's name, and the table of parameters."""
        from tensorboard.plugins.hparams import api

        values = {
            name: value if isinstance(value, (bool, int, float, str)) else str(value) for name, value in hparams.items()
        }
        # clu's write_hparams would list the run under a hash of its values.
        (summary,) = api.hparams_pb(values, trial_id=str(self.workdir)).value
        writer = self.writer('.')
        writer.write_summaries(0, {summary.tag: np.zeros(0, np.float32)}, {summary.tag: summary.metadata})
        writer.write_texts(0, {'parameters': f'```\n{overview}\n```'})
        writer.flush()

    def scalars(self, step: int, split: str, metrics: Mapping[str, float], training: Mapping[str, float]) -> None:
        """Metrics of a split, and what the loop says of itself."""
        tags = {tag(self.task, name): value for name, value in metrics.items()}
        self.writer(split).write_scalars(step, tags | {f'training/{name}': v for name, v in training.items()})

    def images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        """Pictures of test examples, uint8 `[H, W, 3]`."""
        if images:
            self.writer('test').write_images(step, {f'pictures/{name}': image[None] for name, image in images.items()})


def open_events(task: Task, workdir: pathlib.Path) -> Events | None:
    """The event files of a run, or None and one line of notice where they cannot be written."""
    try:
        return Events(task, workdir)
    except ImportError:
        notice('TensorFlow or TensorBoard is not installed: no events, only metrics.jsonl and figures')
        return None
