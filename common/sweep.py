"""Trains every combination of some configuration values, one run after the other."""

from collections.abc import Callable, Mapping
import itertools
import pathlib
import runpy
from typing import Any

import jax
from ml_collections import ConfigDict

from common import config as config_lib
from common import workdir as workdir_lib
from common.checkpoint import last_step
from common.errors import Diverged, UserError, check_choice, notice
from common.task import Task
from common.train import check

Axes = Mapping[str, Mapping[str, Any]]  # Configuration key to short names to values.


def read_axes(flag: Any) -> Axes:
    """The constant AXES of the file in --config; an axis that is a flag too keeps that value alone.

    Args:
        flag: of config_flags, which knows the file and what was set on the command line.
    Raises:
        UserError: the file has no axes, or they have another form, or do not fit its configuration or the command line.
    """
    if flag.value is None:
        raise UserError('a sweep needs a configuration with AXES: --config=configs/sweep_unet.py')
    path = flag.config_filename.partition(':')[0]
    axes = runpy.run_path(path).get('AXES')
    if not axes:
        raise UserError(f'{path} is no sweep: it lacks AXES, see configs/sweep_unet.py')
    if not (isinstance(axes, dict) and all(map(names_values, axes.values()))):
        raise UserError(
            f"AXES in {path} must have the values of each key by name, like {{'model.width': {{'w8': 8, 'w16': 16}}}}"
        )
    return chosen(flag, axes)


def names_values(axis: Any) -> bool:
    return isinstance(axis, dict) and len(axis) > 0 and all(isinstance(name, str) for name in axis)


def chosen(flag, axes: Axes) -> Axes:
    """The axes, restricted by the command line. Raises UserError where the two do not fit."""
    flat = config_lib.flatten(flag.value)
    for key in set(axes) - set(flat):
        raise UserError(f'AXES names {key!r}, which the configuration lacks; its file lists the keys')
    for key in set(axes) & set(flag.override_values):
        check_choice(key, flat[key], [listed(value) for value in axes[key].values()])
    return {
        key: {
            name: value
            for name, value in values.items()
            if key not in flag.override_values or listed(value) == flat[key]
        }
        for key, values in axes.items()
    }


def listed(value: Any) -> Any:
    """A tuple as a list, as `flatten` has it."""
    return list(value) if isinstance(value, tuple) else value


def cells(base: ConfigDict, axes: Axes) -> dict[str, ConfigDict]:
    """A configuration for each combination, by its name, e.g. mp_tr_ce_seed0.

    The last axis varies slowest. If it is the seed, a stopped sweep has complete designs.

    Raises:
        UserError: a value has another type than the configuration's.
    """
    found = {}
    for names in itertools.product(*reversed([*axes.values()])):
        names, config = names[::-1], base.copy_and_resolve_references()
        for (key, values), name in zip(axes.items(), names, strict=True):
            try:
                config.update_from_flattened_dict({key: values[name]})
            except TypeError as error:
                raise UserError(f'AXES gives {key} the value {values[name]!r}: {error}') from error
        found['_'.join(names)] = config
    return found


def run(
    configs: dict[str, ConfigDict],
    folder: pathlib.Path,
    make_task: Callable[[ConfigDict], Task],
    train: Callable[[Task, pathlib.Path], Any],
) -> None:
    """Trains each configuration in `folder`/NAME, unless it is finished; a stopped run resumes.

    Raises:
        UserError: a configuration is wrong, or a work directory belongs to another one.
        Interrupted: a signal asked to stop; the same call resumes.
        Diverged: some runs diverged; the others are finished.
    """
    tasks = {name: make_task(config) for name, config in configs.items()}
    earlier: list[pathlib.Path] = []
    for name, task in tasks.items():  # Find a mistake in the last one before training the first.
        check(task)
        if last_step(folder / name) is None and not workdir_lib.is_finished(folder / name):
            workdir_lib.check_named_runs(task.config, folder / name, earlier)
        earlier.append(folder / name)
    diverged = []
    for number, (name, task) in enumerate(tasks.items(), 1):
        workdir = folder / name
        if finished(task, workdir):
            notice(f'{number} of {len(configs)}: {workdir} is finished')
            continue
        notice(f'{number} of {len(configs)}: {workdir}')
        jax.clear_caches()  # They keep the compiled programs of finished runs in memory.
        try:
            train(task, workdir)
        except Diverged as error:
            notice(f'{name} diverged: {error}')
            diverged.append(name)
    if diverged:
        raise Diverged(
            f'{len(diverged)} of {len(configs)} runs diverged ({", ".join(diverged)}); the others are finished'
        )


def finished(task: Task, workdir: pathlib.Path) -> bool:
    """Whether the run is finished. Raises UserError if it belongs to another configuration or folder of pictures."""
    if not workdir_lib.is_finished(workdir):
        return False
    workdir_lib.check_same(task, workdir)
    workdir_lib.check_same_folder(task.config, workdir)
    return True
