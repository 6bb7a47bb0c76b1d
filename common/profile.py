"""Traces of training steps, for TensorBoard's profile page and Perfetto."""

import pathlib

import jax

from common.errors import notice
from common.parallel import is_first


class Profile:
    """Traces steps whose program is already compiled. Only the first of several processes does.

    Args:
        folder: the trace is written to `folder`/plugins/profile.
        steps: how many to trace, rounded up to whole dispatches; 0 for none.
    """

    def __init__(self, folder: pathlib.Path, steps: int):
        self.folder, self.left, self.active = folder, steps if is_first() else 0, False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()

    def step(self, step: int):
        """The context of a dispatch from `step` on; starts the trace where that is due."""
        if self.left > 0 and not self.active:
            jax.profiler.start_trace(self.folder)
            self.active = True
        return jax.profiler.StepTraceAnnotation('train', step_num=step)

    def advance(self, count: int, results) -> None:
        """Counts `count` dispatched steps; after the last one, waits for their `results` and ends the trace."""
        self.left -= count
        if self.active and self.left <= 0:
            jax.block_until_ready(results)
            self.end()

    def end(self) -> None:
        """Writes the trace, where one is running."""
        if self.active:
            self.active, self.left = False, 0
            jax.profiler.stop_trace()
            notice(f'a trace of training steps is in {self.folder / "plugins" / "profile"}')
