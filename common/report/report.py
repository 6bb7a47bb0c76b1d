"""Several runs side by side: one page of tables, curves and pictures, as HTML and as Markdown."""

from collections.abc import Callable, Mapping
import contextlib
import itertools
import pathlib
from typing import Any

import numpy as np

from common.checkpoint import restore
from common.data.batches import Feed
from common.errors import UserError, notice
from common.evaluate import fixed_examples
from common.parallel import Devices
from common.report import figures, page
from common.report.runs import Entry, FinishedRun, comparable, differing, entries, load_all
from common.task import Picture


def write(workdirs: list[str], output: pathlib.Path, make_task: Callable) -> pathlib.Path:
    """Writes report.html, report.md and figures/*.png into `output`; returns the path of the first.

    Runs that were not measured on the same examples never share a table: each kind has a section of its own.

    Raises:
        UserError: no work directory holds a finished run, or `output` cannot be written.
    """
    runs = sorted(load_all(workdirs, make_task), key=comparable)
    with writable(output):  # Before the work, not after it.
        (output / 'figures').mkdir(parents=True, exist_ok=True)
    lines, images = ['# Runs side by side'], dict[str, np.ndarray]()
    for _, group in itertools.groupby(runs, key=comparable):
        more_lines, more_images = section(list(group), images)
        lines, images = lines + more_lines, images | more_images
    with writable(output):
        return page.write(output, 'report', lines, images)


@contextlib.contextmanager
def writable(output: pathlib.Path):
    """Turns what the file system refuses into a UserError."""
    try:
        yield
    except OSError as error:
        raise UserError(f'cannot write to {output} ({error.strerror}); choose another --output') from error


def section(runs: list[FinishedRun], taken: Mapping[str, Any]) -> tuple[list[str], dict[str, np.ndarray]]:
    """All that is said of comparable runs: Markdown lines, and their pictures, by names that are not `taken`."""
    rows, task = entries(runs), runs[0].task
    kind, data, size, split, examples, checksum, _ = comparable(runs[0])
    data_name = pathlib.Path(data).name if runs[0].config.data.name == 'folder' else data
    parts = [
        '',
        f'## {page.escape(task.title)} on {page.escape(data_name)}, {size}x{size} pixels',
        '',
        f'Measured on all {examples:,} examples of the {split} split here{checksum and f" (checksum {checksum})"}. '
        f'{count(len(runs), "run")} of {count(len(rows), "configuration")}. After ± stands the standard deviation over '
        'seeds.',
        *what_was_run(rows),
        *task.report(rows),
        *titled('Curves', curves(task, rows)),
        *titled('Pictures', compare(task, rows)),
        *speed(rows),
        *all_measures(rows),
    ]
    lines, images = list[str](), dict[str, np.ndarray]()
    for part in parts:
        if isinstance(part, Picture):
            shown, image = page.show(part, f'{kind} {data_name} {size} {examples}', {*taken, *images})
            lines, images = lines + shown, images | image
        else:
            lines.append(part)
    return lines, images


def titled(title: str, pictures: list[page.Picture]) -> list[str | page.Picture]:
    """Pictures below a heading; nothing without pictures."""
    return ['', f'### {title}', *pictures] if pictures else []


def count(number: int, noun: str) -> str:
    return f'{number} {noun}{"" if number == 1 else "s"}'


def what_was_run(rows: list[Entry]) -> list[str]:
    """The configuration values that are not the same everywhere, and the seeds."""
    keys = differing(rows)
    cells = [
        (
            row.name,
            *(shown(row.runs[0].settings.get(key, '–')) for key in keys),
            ', '.join(str(run.config.seed) for run in row.runs),
            row.runs[0].results['step'],
        )
        for row in rows
    ]
    return [
        '',
        '### What was run',
        '',
        'Only what differs between the configurations.' if keys else 'No configuration value differs.',
        *page.table(('run', *keys, 'seed', 'steps'), cells),
    ]


def shown(value: object) -> str:
    """A value as a configuration file has it."""
    return str(tuple(value)) if isinstance(value, list) else str(value)


def curves(task, rows: list[Entry]) -> list[page.Picture]:
    """A plot for each of the task's curves, with all runs in it; of the loss, one for each loss that was trained."""
    caption = (
        'in the course of training: a colour for each configuration, a line for each seed; raw values '
        'faintly, smoothed ones over them.'
    )
    pictures = []
    for metric in task.curves:
        kinds = sorted({row.runs[0].task.loss_name for row in rows}) if metric == 'loss' else ['']
        for kind in kinds:
            # A configuration without lines keeps the colours of the others.
            lines = {row.name: [run.metrics for run in row.runs if kind in ('', run.task.loss_name)] for row in rows}
            name = figures.title_of(f'{metric} ({kind})' if len(kinds) > 1 else metric)
            pictures.append(
                page.Picture(f'Curves of {name}', f'The {name} {caption}', figures.compare_curves(lines, metric))
            )
    return pictures


def compare(task, rows: list[Entry]) -> list[page.Picture]:
    """The task's pictures of the same test examples, by one run of each configuration."""
    devices, restored = Devices(), {}
    for row in rows:
        try:
            restored[row.name] = row.runs[0].task, restore_run(row.runs[0], devices)
        except UserError as error:
            notice(f'no pictures of {row.name}: {error}')
    if not restored:
        return []
    try:
        examples = fixed_examples(Feed(task.load('test'), devices), task.figure_examples)
    except UserError as error:  # Numbers and curves can be shown without the data.
        notice(f'no pictures: {error}')
        return []
    return task.compare(restored, examples)


def restore_run(run: FinishedRun, devices: Devices) -> Any:
    """The variables. Raises UserError where they are missing or not what was measured."""
    variables, step = restore(run.task, run.workdir, devices)
    if step != run.results['step']:
        raise UserError(
            f'it was measured at step {run.results["step"]} and is now at {step}; measure it '
            f'again with --mode=eval --workdir={run.workdir}'
        )
    return variables


def speed(rows: list[Entry]) -> list[str]:
    """How large each model is, on what it was trained, how fast, and how long it took."""
    cells = []
    for row in rows:
        timed = [training_time(run) for run in row.runs]
        images, seconds = np.array([pair for pair in timed if all(pair)]).reshape(-1, 2).T
        total = [line['seconds'] for run in row.runs for line in run.metrics[-1:] if 'seconds' in line]
        cells.append(
            (
                row.name,
                parameters(row),
                devices(row),
                page.spread(images / seconds, 1),
                page.spread(seconds, 0),
                page.spread(np.array(total), 0),
            )
        )
    return [
        '',
        '### Size, time and speed',
        '',
        'Speed and seconds of training are of steps and checkpoints, without compilation; seconds in all '
        'count compilation, evaluations and pictures too. They compare only between runs on the same machine with '
        'nothing else to do. The device is that of the latest start.',
        *page.table(
            ('run', 'parameters', 'device', 'images per second', 'seconds of training', 'seconds in all'), cells
        ),
    ]


def parameters(row: Entry) -> str:
    """The number of trained parameters; a dash where no run recorded it."""
    return next((f'{run.machine["parameters"]:,}' for run in row.runs if 'parameters' in run.machine), '–')


def devices(row: Entry) -> str:
    """How many devices of which kind; a dash where no run recorded it."""
    found = {(run.machine['devices'], run.machine['device']) for run in row.runs if 'device' in run.machine}
    return ' or '.join(f'{number} x {name}' if number > 1 else name for number, name in sorted(found)) or '–'


def training_time(run: FinishedRun) -> tuple[float, float]:
    """Images that the run trained on, and the seconds that it took, from its own speed at each line."""
    lines = [line for line in run.metrics if line.get('images_per_second')]
    steps = np.diff([0, *(line['step'] for line in lines)])
    images = steps * run.config.batch_size
    return images.sum(), (images / [line['images_per_second'] for line in lines]).sum()


def all_measures(rows: list[Entry]) -> list[str]:
    """Every number of results.json: a line each, a column for each configuration."""
    names = sorted(
        {name for row in rows for run in row.runs for name, value in run.results.items() if isinstance(value, float)}
    )
    return [
        '',
        '### All measures',
        *page.table(
            ('measure', *(row.name for row in rows)),
            [(name, *(page.spread(row.values(name)) for row in rows)) for name in names],
        ),
    ]
