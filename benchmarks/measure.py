"""Timing and memory, the same code for both sides."""

from collections.abc import Callable
import resource
import sys
import time

CEILING_SIZES = {'cpu': 2048, 'gpu': 8192, 'cuda': 8192}  # By the names of JAX (gpu) and PyTorch (cuda).
CEILING_TRIALS = 5


def speed(step: Callable[[], object], wait: Callable[[], object], images: int, seconds: float) -> float:
    """Images per second of `step`, called repeatedly for `seconds`.

    Args:
        step: processes `images` images, or dispatches that work.
        wait: returns when all dispatched work is done.
    """
    step()  # Warm up: the other side ran before, so threads sleep and caches are cold.
    wait()
    start, steps = time.perf_counter(), 0
    while not steps or time.perf_counter() - start < seconds:
        step()
        steps += 1
    wait()
    return steps * images / (time.perf_counter() - start)


def ceiling(product: Callable[[], object], size: int) -> float:
    """The best GFLOP/s of several calls of `product`, which multiplies two square matrices of side `size`."""
    seconds = []
    for _ in range(CEILING_TRIALS + 1):
        start = time.perf_counter()
        product()
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / min(seconds) / 1e9


def peak_memory() -> float:
    """Peak memory of this process in MiB."""
    unit = 1 if sys.platform == 'darwin' else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
