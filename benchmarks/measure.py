"""How either side is timed: the same few lines for both."""

from collections.abc import Callable
import os
import pathlib
import platform
import resource
import sys
import time

CEILING_SIZES = {'cpu': 2048, 'gpu': 8192, 'cuda': 8192}  # By what JAX and PyTorch call the device.
CEILING_TRIALS = 5


def speed(step: Callable[[], object], wait: Callable[[], object], images: int, seconds: float) -> float:
    """Images a second of `step`, called until `seconds` are over.

    Args:
        step: works on `images` images, or sends that work off.
        wait: returns when all work that was sent off is done.
    """
    step()  # The other side ran just before: threads are asleep and caches cold.
    wait()
    start, steps = time.perf_counter(), 0
    while not steps or time.perf_counter() - start < seconds:
        step()
        steps += 1
    wait()
    return steps * images / (time.perf_counter() - start)


def ceiling(product: Callable[[], object], size: int) -> float:
    """The best GFLOP/s of `product`, which multiplies two square matrices of side `size`."""
    seconds = []
    for _ in range(CEILING_TRIALS + 1):
        start = time.perf_counter()
        product()
        seconds.append(time.perf_counter() - start)
    return 2 * size ** 3 / min(seconds) / 1e9


def cpu_name() -> str:
    """The processor, its vector instructions and the number of cores, as far as the system tells."""
    path = pathlib.Path('/proc/cpuinfo')
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.partition(': ')[2] for line in lines if line.startswith('model name')]
    vectors = [name for name, flag in (('AVX-512', 'avx512f'), ('AVX2', 'avx2')) if f' {flag} ' in ' '.join(lines)]
    return ', '.join([f'{os.cpu_count()} cores', names[0] if names else platform.processor(), *vectors[:1]])


def peak_memory() -> float:
    """MiB that this process has held at the most."""
    unit = 1 if sys.platform == 'darwin' else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2 ** 20
