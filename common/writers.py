"""The output of a run: metrics.jsonl, pictures, and, through common/tensorboard.py, events."""

from collections.abc import Mapping
import json
import os
import pathlib
import time

import numpy as np
from PIL import Image

from common.config import jsonable
from common.errors import notice
from common.parallel import is_first
from common.task import Task
from common.tensorboard import open_events
from common.workdir import write_text


class Writer:
    """Writes scalars and pictures; only the first of several processes does.

    Lines of metrics.jsonl after `step`, where a resumed run starts, are removed, because the run writes them again.
    TensorBoard keeps both.
    """

    def __init__(self, task: Task, workdir: pathlib.Path, step: int):
        self.active = is_first()
        self.path = workdir / 'metrics.jsonl'
        lines = [line for line in read_metrics(workdir) if line['step'] <= step]
        self.written = {(line['step'], line['split']) for line in lines}
        if not self.active:
            return
        self.started = time.perf_counter() - (lines[-1].get('seconds', 0) if lines else 0)
        write_text(self.path, ''.join(json.dumps(line) + '\n' for line in lines))
        self.events = open_events(task, workdir)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.active and self.events:
            self.events.close()

    def has(self, step: int, split: str) -> bool:
        """Whether the metrics of `split` at `step` are already there."""
        return (step, split) in self.written

    def scalars(self, step: int, split: str, metrics: Mapping[str, float], **training: float) -> None:
        """Adds one line to metrics.jsonl, and the values to TensorBoard.

        Each line also has the `seconds` that the run has taken so far, summed over all its starts.

        Args:
            training: what the loop measures beside the task's metrics.
        """
        self.written.add((step, split))
        if not self.active:
            return
        seconds = round(time.perf_counter() - self.started, 3)
        line = {'step': step, 'split': split, **metrics, **training, 'seconds': seconds}
        with self.path.open('a') as file:
            file.write(json.dumps(jsonable(line)) + '\n')
            file.flush()
            os.fsync(file.fileno())  # A checkpoint must not be newer than the lines before it.
        if self.events:
            self.events.scalars(step, split, metrics, training)

    def images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        """Saves uint8 pictures `[H, W, 3]` as figures/NAME.png and to TensorBoard."""
        if not self.active:
            return
        save_images(self.path.parent, images)
        if self.events:
            self.events.images(step, images)

    def start(self, hparams: Mapping[str, object], overview: str) -> None:
        """Hyper-parameters and the table of parameters, once at the start of a run."""
        if self.active and self.events:
            self.events.start(hparams, overview)


def save_images(workdir: pathlib.Path, images: Mapping[str, np.ndarray]) -> None:
    """Saves uint8 pictures `[H, W, 3]` as figures/NAME.png."""
    folder = workdir / 'figures'
    folder.mkdir(exist_ok=True)
    for name, image in images.items():
        Image.fromarray(image).save(folder / f'{name}.png', optimize=True)


def read_metrics(workdir: pathlib.Path) -> list[dict]:
    """The lines of metrics.jsonl. A truncated last line is skipped, any other damaged line is skipped with a notice."""
    path, lines = workdir / 'metrics.jsonl', []
    texts = path.read_text().splitlines() if path.exists() else []
    for number, text in enumerate(texts, 1):
        try:
            lines.append(json.loads(text))
        except ValueError:
            if number < len(texts):
                notice(f'line {number} of {path} cannot be read and is left out')
    return lines
