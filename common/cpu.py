"""What concerns CPUs alone: flags for XLA, huge pages, cheap compilation of what runs once, the processor's name.

main.py calls `configure` and `restart_with_huge_pages` before JAX is used; nothing here acts on import.
"""

from importlib import metadata
import os
import pathlib
import platform
import sys

from common.errors import notice

# XLA's convolutions run about 1.6 times faster without YNNPACK's. XLA aborts on flags that it does not know, so only
# the version that this was measured with gets the flag.
XLA_FLAG = '--xla_cpu_experimental_ynn_fusion_type=-individual_convolution'
TESTED_JAXLIB = '0.10.2'
HUGE_PAGES = 'glibc.malloc.hugetlb=1'


def configure() -> None:
    """Sets XLA's flags, unless the user has set this one. Call it before JAX creates its CPU backend."""
    flags = os.environ.get('XLA_FLAGS', '')
    if metadata.version('jaxlib') == TESTED_JAXLIB and 'ynn_fusion_type' not in flags:
        os.environ['XLA_FLAGS'] = f'{flags} {XLA_FLAG}'.strip()


def restart_with_huge_pages() -> None:
    """Restarts the program in the same process with memory in huge pages, where glibc offers them.

    A training step on a CPU then takes about a sixth less time, because it writes to fresh memory all the time. glibc
    reads the setting only when a process starts. Does nothing in a notebook or debugger, or where GLIBC_TUNABLES is
    set, even to nothing.
    """
    plain_start = sys.orig_argv[1:] == sys.argv  # `python main.py ...`; the second start has an option before that.
    if sys.platform == 'linux' and plain_start and 'GLIBC_TUNABLES' not in os.environ:
        os.environ['GLIBC_TUNABLES'] = HUGE_PAGES
        os.execv(sys.executable, [sys.executable, '-X', 'huge_pages', *sys.argv])


def compiler_options() -> dict[str, int]:
    """Options for a function that runs once: compile it with few optimisations.

    The initial values of a U-Net otherwise take five times as long to compile.
    """
    import jax

    return {'xla_backend_optimization_level': 1} if jax.default_backend() == 'cpu' else {}


def warn_of_dtype(dtype: str) -> None:
    """One line for a type that a CPU is slower with."""
    import jax

    if dtype == 'bfloat16' and jax.default_backend() == 'cpu':
        notice('dtype is bfloat16, with which training on a CPU is slower than with float32')


def name() -> str:
    """The processor, its vector instructions and the number of cores, as far as the system tells."""
    path = pathlib.Path('/proc/cpuinfo')
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.partition(': ')[2] for line in lines if line.startswith('model name')]
    vectors = [name for name, flag in (('AVX-512', 'avx512f'), ('AVX2', 'avx2')) if f' {flag} ' in ' '.join(lines)]
    return ', '.join([f'{os.cpu_count()} cores', names[0] if names else platform.processor(), *vectors[:1]])
