"""Several runs side by side: a Markdown page with tables, curves and pictures."""

from collections.abc import Callable
import json
import pathlib
from typing import Any, NamedTuple

from common import config as config_lib
from common import figures
from common.data import Feed
from common.errors import UserError
from common.evaluate import RESULTS, fixed_examples, restore
from common.parallel import Devices
from common.writers import read_metrics, save_images


class FinishedRun(NamedTuple):
    """What a work directory says of a run that was evaluated."""

    name: str
    workdir: pathlib.Path
    config: Any
    results: dict[str, Any]
    metrics: list[dict[str, Any]]


def write(workdirs: list[str], output: pathlib.Path, make_task: Callable) -> pathlib.Path:
    """Writes report.md and its pictures into `output`, a section for each task, and returns its path.

    Raises:
        UserError: no work directory holds results, or `output` cannot be written.
    """
    runs = [load(pathlib.Path(workdir)) for workdir in workdirs if (pathlib.Path(workdir) / RESULTS).exists()]
    if not runs:
        raise UserError(f'none of {len(workdirs)} work directories holds {RESULTS}; name some that were '
                        "trained to the end with --runs='runs/*'")
    page = ['# Runs']
    try:
        for group in sorted({comparable(run) for run in runs}):
            page += section([run for run in runs if comparable(run) == group], output, make_task)
        path = output / 'report.md'
        path.write_text('\n'.join(page) + '\n')
    except OSError as error:
        raise UserError(f'cannot write to {output} ({error.strerror}); choose another --output') from error
    return path


def load(workdir: pathlib.Path) -> FinishedRun:
    """Reads one work directory."""
    results = json.loads((workdir / RESULTS).read_text())
    return FinishedRun(workdir.name, workdir, config_lib.load(workdir), results, read_metrics(workdir))


def comparable(run: FinishedRun) -> tuple:
    """Runs for which this is equal were measured on the same examples."""
    return run.config.task, run.config.data.name, run.config.data.image_size, run.results['num_examples']


def section(runs: list[FinishedRun], output: pathlib.Path, make_task: Callable) -> list[str]:
    """Tables, curves and pictures of comparable runs; the pictures go into `output`/figures."""
    task = make_task(runs[0].config)
    output.mkdir(parents=True, exist_ok=True)
    task_name, data_name, size, examples = comparable(runs[0])
    name = f'{task_name}_{data_name}_{size}'
    images = {f'{name}_curves_{metric}': figures.compare_curves({r.name: r.metrics for r in runs}, metric)
              for metric in task.curves}
    images |= {f'{name}_{key}': image for key, image in compare(task, runs, make_task).items()}
    save_images(output, images)
    numbers = sorted({key for run in runs for key, value in run.results.items() if isinstance(value, float)})
    return ['', f'## {task_name} on {data_name}, {size}x{size} pixels', '',
            f'Measured on the whole test split ({examples} examples).', '',
            *table(('run', *numbers), [[r.name, *(number(r.results.get(key)) for key in numbers)] for r in runs]),
            '', 'What differs between the configurations:', '',
            *table(('run', *differing(runs)), [[r.name, *(str(config_lib.flatten(r.config).get(key))
                                                          for key in differing(runs))] for r in runs]),
            *(f'\n![{key}](figures/{key}.png)' for key in images)]


def number(value: float | None) -> str:
    """Four decimals, or a dash for what a run did not measure."""
    return '–' if value is None else f'{value:.4f}'


def compare(task, runs: list[FinishedRun], make_task: Callable) -> dict[str, Any]:
    """The task's pictures of the same test examples, predicted by every run."""
    devices = Devices()
    examples = fixed_examples(Feed(task.load('test'), devices), task.figure_examples)
    restored = {}
    for run in runs:
        variables, constants, _ = restore(make_task(run.config), run.workdir, devices)
        restored[run.name] = make_task(run.config), variables, constants
    return task.compare(restored, examples)


def differing(runs: list[FinishedRun]) -> list[str]:
    """The configuration keys whose values are not the same in all runs."""
    flat = [config_lib.flatten(run.config) for run in runs]
    return sorted(key for key in set().union(*flat) if len({str(f.get(key)) for f in flat}) > 1)


def table(header: tuple[str, ...], rows: list[list[str]]) -> list[str]:
    """A Markdown table."""
    return [f'| {" | ".join(cells)} |' for cells in (header, ['---'] * len(header), *rows)]
