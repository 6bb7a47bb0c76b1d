"""The cost of the training loop around the step (data, augmentation, metrics, checkpoints), and of a start."""

import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

from benchmarks import works
from benchmarks.compare import commit
from benchmarks.side import Side
from common.errors import UserError

ROOT = pathlib.Path(__file__).parent.parent
BATCH, LOG_EVERY = 16, 8  # Steps per window; an epoch of the synthetic pets has 32 steps.
START_LIMIT = 600  # Seconds.


def measure(rounds: int, seconds: float, quick: bool) -> dict[str, Any]:
    """Speed of `main.py` on synthetic pets, augmented as in the full configuration, relative to the bare step.

    The bare step is timed for `seconds` before and after each run of the loop.

    A start ends with the line of the first dispatch in metrics.jsonl. The first start draws the data and compiles. The
    second reuses the decoded data. The third also fills JAX's persistent cache, which is off by default on a CPU, and
    the fourth uses it.
    """
    width, size, epochs = (2, 16, 1) if quick else (16, 128, 3)
    work = works.unet(width, BATCH, size)
    with Side('benchmarks.ours', 'Device') as device:
        here = device('describe')
    work.config.steps_per_dispatch = 1 if here['backend'] == 'cpu' else LOG_EVERY
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        options = [
            f'--config.model.width={width}',
            f'--config.data.image_size={size}',
            '--config.data.name=synthetic_pets',
            f'--config.batch_size={BATCH}',
            '--config.eval_every_epochs=0',
            f'--config.optimizer.name={work.config.optimizer.name}',
            f'--config.steps_per_dispatch={work.config.steps_per_dispatch}',
        ]
        first_line = f'--config.log_every_steps={work.config.steps_per_dispatch}'
        starts = [start(folder, f'start_{i}', [*options, first_line], with_cache=i > 1) for i in range(4)]
        bare, whole = [], []
        with Side('benchmarks.ours', 'Ours', work) as ours:
            for i in range(rounds):
                before = ours('speed', 'train', seconds)
                whole.append(loop_speed(folder, f'run_{i}', [*options, f'--config.num_epochs={epochs}']))
                bare.append(statistics.harmonic_mean([before, ours('speed', 'train', seconds)]))
    ratios = [loop / step for loop, step in zip(whole, bare, strict=True)]
    return {
        'work': f'{work.name}_loop',
        'device': here['device'],
        'dtype': work.config.dtype,
        'versions': {'commit': commit(), 'jax': here['jax']},
        'bare_step': statistics.median(bare),
        'loop': statistics.median(whole),
        'ratio': statistics.median(ratios),
        'ratio_range': [min(ratios), max(ratios)],
        'first_start_seconds': starts[0],
        'second_start_seconds': starts[1],
        'compiled_start_seconds': starts[3],
    }


def launch(folder: pathlib.Path, run: str, options: list[str], with_cache: bool = False) -> subprocess.Popen:
    """Starts a run in `folder`/`run`."""
    command = [sys.executable, 'main.py', '--config=configs/unet_mp_tr_ce.py', f'--workdir={folder / run}']
    one_device = os.environ.get('CUDA_VISIBLE_DEVICES', '0').partition(',')[0]
    settings = {
        'XDG_CACHE_HOME': str(folder / 'cache'),
        'CUDA_VISIBLE_DEVICES': one_device,
        'JAX_COMPILATION_CACHE_DIR': str(folder / 'compiled'),
        'JAX_ENABLE_COMPILATION_CACHE': str(with_cache).lower(),
    }
    return subprocess.Popen(
        command + options,
        cwd=ROOT,
        env=os.environ | settings,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def start(folder: pathlib.Path, run: str, options: list[str], with_cache: bool) -> float:
    """Starts a run and stops it; returns the seconds from the command to the first line of metrics."""
    metrics, began = folder / run / 'metrics.jsonl', time.perf_counter()
    process = launch(folder, run, options, with_cache)
    while not (metrics.exists() and metrics.stat().st_size):
        if process.poll() is not None or time.perf_counter() - began > START_LIMIT:
            process.kill()
            raise UserError(f'training did not start: {last_line(process)}')
        time.sleep(0.01)
    seconds = time.perf_counter() - began
    process.terminate()
    process.communicate()
    return seconds


def loop_speed(folder: pathlib.Path, run: str, options: list[str]) -> float:
    """Images per second of a run, without its start and evaluation."""
    from common.writers import read_metrics

    process = launch(folder, run, [*options, f'--config.log_every_steps={LOG_EVERY}'])
    error = last_line(process)
    if process.returncode:
        raise UserError(f'training failed: {error}')
    speeds = [line['images_per_second'] for line in read_metrics(folder / run) if line['split'] == 'train']
    return statistics.harmonic_mean(speeds[1:])  # Equal windows; the first one includes compilation.


def last_line(process: subprocess.Popen) -> str:
    """Waits for the process to end, and returns the last line that it printed to stderr."""
    _, said = process.communicate()
    return said.strip().splitlines()[-1] if said.strip() else 'it printed nothing'
