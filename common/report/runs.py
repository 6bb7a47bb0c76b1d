"""Finished runs, read from their work directories, and those of several seeds taken together."""

from collections.abc import Callable
import json
import os
import pathlib
from typing import Any, NamedTuple

from ml_collections import ConfigDict
import numpy as np

from common import config as config_lib
from common import workdir as workdir_lib
from common.errors import UserError, notice
from common.writers import read_metrics


class FinishedRun(NamedTuple):
    """A finished run, read from its work directory.

    Attributes:
        name: unique among the runs read together.
        results: the contents of results.json.
        metrics: the lines of metrics.jsonl.
        machine: the contents of run.json; empty where there is none.
    """

    name: str
    workdir: pathlib.Path
    task: Any
    results: dict[str, Any]
    metrics: list[dict[str, Any]]
    machine: dict[str, Any]

    @property
    def config(self) -> ConfigDict:
        return self.task.config

    @property
    def settings(self) -> dict[str, object]:
        """What makes the run, seeds and locations aside: its configuration, and those of the runs that it copied."""
        configs = {
            f'{path.parent.name}: ': workdir_lib.load_config(path.parent)
            for path in sorted(self.workdir.glob(f'*/{workdir_lib.CONFIG}'))
        }
        return {
            f'{prefix}{name}': value
            for prefix, config in {'': self.config, **configs}.items()
            for name, value in config_lib.flatten(config).items()
            if name != 'seed' and not config_lib.is_location(name)
        }


class Entry(NamedTuple):
    """One row of a table: a run, or several whose configurations are equal but for the seed."""

    name: str
    runs: list[FinishedRun]

    @property
    def config(self) -> ConfigDict:
        return self.runs[0].config

    def values(self, metric: str) -> np.ndarray:
        """What the runs that measured `metric` found: float `[n]`, at most one a seed."""
        found = [run.results.get(metric) for run in self.runs]
        return np.array([value for value in found if value is not None], float)


def load_all(workdirs: list[str], make_task: Callable) -> list[FinishedRun]:
    """Reads work directories; those that hold no finished run are left out, with a line each.

    Raises:
        UserError: none is left.
    """
    if not workdirs:
        raise UserError("there are no such work directories; name some with --runs='runs/*'")
    paths = [path for workdir in workdirs for path in runs_in(pathlib.Path(os.path.abspath(workdir)))]
    runs, problems = [], []
    for path in paths:
        try:
            runs.append(load(path, make_task))
        except UserError as error:
            problems.append(f'{os.path.relpath(path)}: {error}')
    if not runs:
        raise UserError(
            f'none of {len(paths)} work directories holds a finished run'
            f"{f' ({problems[0]})' if problems else ''}; name some with --runs='runs/*'"
        )
    for problem in problems:
        notice(f'left out {problem}')
    root = os.path.commonpath([run.workdir.parent for run in runs])
    return [run._replace(name=str(run.workdir.relative_to(root))) for run in runs]


def runs_in(folder: pathlib.Path) -> list[pathlib.Path]:
    """The folder if it holds a run, else the runs in it, as a sweep leaves them."""
    if (folder / workdir_lib.CONFIG).exists():
        return [folder]
    return sorted(path.parent for path in folder.glob(f'*/{workdir_lib.CONFIG}')) or [folder]


def load(workdir: pathlib.Path, make_task: Callable) -> FinishedRun:
    """Reads one work directory. Raises UserError where there is no finished run, or a damaged one."""
    if not (workdir / workdir_lib.CONFIG).exists():
        raise UserError('it holds no run')
    try:
        results = json.loads((workdir / workdir_lib.RESULTS).read_text())
        path = workdir / workdir_lib.RUN
        machine = json.loads(path.read_text()) if path.exists() else {}
        metrics = read_metrics(workdir)
        if not (
            {'split', 'num_examples', 'step'} <= set(results)
            and all({'split', 'step'} <= set(line) for line in metrics)
        ):
            raise ValueError('a split or a step is missing')
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(f'it has no {workdir_lib.RESULTS}; train it to the end') from error
    except (ValueError, TypeError, OSError) as error:
        raise UserError(f'{workdir_lib.RESULTS}, {workdir_lib.RUN} or metrics.jsonl is damaged ({error})') from error
    if not workdir_lib.is_finished(workdir):
        raise UserError(f'it was measured at step {results["step"]}, before its end; train it to the end')
    return FinishedRun(workdir.name, workdir, make_task(workdir_lib.load_config(workdir)), results, metrics, machine)


def comparable(run: FinishedRun) -> tuple:
    """Runs for which this is equal were measured on the same examples."""
    data, results = run.config.data, run.results
    name = str(workdir_lib.folder_of(run.config) or data.name)
    measured = results['split'], results['num_examples'], results.get('test_checksum', '')
    return run.config.task, name, data.image_size, *measured, tuple(data.classes)


def essence(run: FinishedRun, *without: str) -> str:
    """What two runs must have in common to differ by the seed and the keys in `without` alone."""
    settings = {name: value for name, value in run.settings.items() if name not in without}
    step = None if run.config.checkpoint.best else run.results['step']  # The best one is another for each seed.
    return json.dumps([settings, step, run.machine.get('train_checksum')], sort_keys=True)


def entries(runs: list[FinishedRun]) -> list[Entry]:
    """Takes the seeds of each configuration together.

    A run is a function of configuration and seed, so a second run of the same two is a copy. It says nothing about the
    spread and gets an entry of its own.
    """
    groups: dict[tuple, dict[int, FinishedRun]] = {}
    for run in runs:
        copies = 0
        while run.config.seed in groups.setdefault((essence(run), copies), {}):
            copies += 1
        groups[essence(run), copies][run.config.seed] = run
    return [
        Entry(shared_name([run.name for run in group.values()], [run.name for run in runs]), list(group.values()))
        for group in groups.values()
    ]


def shared_name(names: list[str], others: list[str]) -> str:
    """`mp_tr_ce_seed*` for mp_tr_ce_seed0 and mp_tr_ce_seed1, if that means none of the others."""
    if len(names) == 1:
        return names[0]
    prefix = os.path.commonprefix(names)
    if prefix and not any(name.startswith(prefix) for name in set(others) - set(names)):
        return f'{prefix}*'
    return f'{names[0]} and {len(names) - 1} more'


def differing(rows: list[Entry]) -> list[str]:
    """The settings whose values are not the same in all entries."""
    found = [row.runs[0].settings for row in rows]
    return sorted(key for key in set().union(*found) if len({str(settings.get(key)) for settings in found}) > 1)
