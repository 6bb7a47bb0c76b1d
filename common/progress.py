"""The progress line, and the speed of training in images per second."""

import contextlib
import sys
import time

from tqdm import tqdm

from common.parallel import is_first


def progress_bar(total: int, done: int, unit: str = ' images') -> tqdm:
    """A progress line with speed and time left; in a log file, one line every 20 seconds."""
    return tqdm(
        total=total,
        initial=done,
        unit=unit,
        unit_scale=True,
        smoothing=0.05,
        dynamic_ncols=True,
        mininterval=0.5 if sys.stderr.isatty() else 20,
        disable=not is_first(),
    )


class Progress:
    """The progress line of a run and its speed. Both are of training alone: what is done in `untimed` does not count.

    Args:
        steps: of the whole run.
        done: steps already done.
        batch_size: images per step.
    """

    def __init__(self, steps: int, done: int, batch_size: int):
        self.batch_size = batch_size
        self.bar = progress_bar(steps * batch_size, done * batch_size)
        self.start = time.perf_counter(), done  # What `speed` measures from.

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.bar.close()

    def advance(self, steps: int) -> None:
        self.bar.update(steps * self.batch_size)

    def speed(self, step: int) -> dict[str, float]:
        """`images_per_second` since the last call; nothing where no step since then was timed."""
        (then, before), self.start = self.start, (time.perf_counter(), step)
        images = (step - before) * self.batch_size
        return {'images_per_second': images / (self.start[0] - then)} if images else {}

    @contextlib.contextmanager
    def untimed(self, steps: int = 0):
        """Advances by `steps`, which are done inside; they and the time inside do not count for speed and time left."""
        before = time.perf_counter()
        yield
        seconds, images = time.perf_counter() - before, steps * self.batch_size
        self.start = self.start[0] + seconds, self.start[1] + steps
        if self.bar.disable:
            return
        self.bar.start_t += seconds
        self.bar.last_print_t += seconds
        self.bar.n += images
        self.bar.initial += images
        self.bar.last_print_n += images
        self.bar.refresh()

    def show(self, epoch: float, loss: float) -> None:
        """What stands at the end of the line."""
        self.bar.set_postfix(epoch=f'{epoch:.1f}', loss=f'{loss:.4g}', refresh=False)

    def write(self, text: str) -> None:
        """Prints a line of text above the progress line."""
        self.bar.write(text, file=sys.stderr)
