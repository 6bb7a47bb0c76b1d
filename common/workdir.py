"""A work directory: its configuration, its lock, its copies of other runs, and whether its run is finished."""

from collections.abc import Callable, Iterator, Mapping, Sequence
import contextlib
import dataclasses
import errno
import fcntl
import json
import pathlib
import shutil
from typing import Any

from ml_collections import ConfigDict

from common.checkpoint import BEST, last_step
from common.config import completed, differences, filled, jsonable, with_stored
from common.errors import UserError, notice
from common.parallel import first_before_others, on_first
from common.task import Task

CONFIG, RESULTS, RUN = 'config.json', 'results.json', 'run.json'
CANNOT_WRITE = (
    errno.EACCES,
    errno.EDQUOT,
    errno.EEXIST,
    errno.ENAMETOOLONG,
    errno.ENOSPC,
    errno.ENOTDIR,
    errno.EPERM,
    errno.EROFS,
)
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


# Reading.


def load_config(workdir: pathlib.Path) -> ConfigDict:
    """The stored configuration, with paths to the copies in `workdir`. Raises UserError where there is none."""
    path = workdir / CONFIG
    try:
        values = json.loads(path.read_text())
        if not isinstance(values, dict):
            raise ValueError('it is not an object')
    except FileNotFoundError as error:
        raise UserError(
            f'{workdir} holds no run ({path} is missing); name the work directory of one with --workdir, or train first'
        ) from error
    except (ValueError, OSError) as error:
        raise UserError(f'{path} cannot be read ({error}); restore it from a copy') from error
    return use_local_copies(ConfigDict(values), workdir)


def load_matching(
    config: ConfigDict | None, workdir: pathlib.Path, make_task: Callable[[ConfigDict], Task], other_data: bool = False
) -> Task:
    """The task of the run in `workdir`; where `config` is given, with the locations that it names.

    With `other_data`, the name of its data set may be another one, too.

    Raises:
        UserError: there is no run, or `config` differs from the run's configuration.
    """
    stored = load_config(workdir)
    if config is None:
        return make_task(stored)
    task = make_task(with_stored(config, stored))
    check_same(task, workdir, ('data.name',) if other_data else ())
    warn_stale_copies(task.config, workdir)
    return dataclasses.replace(task, config=use_local_copies(task.config, workdir))


def check_same(task: Task, workdir: pathlib.Path, leave_out: tuple[str, ...] = ()) -> None:
    """Raises UserError naming what differs between the run in `workdir` and a task, apart from locations."""
    stored = load_config(workdir)
    if stored.get('task') == task.config.task:
        stored = completed(stored, task.defaults())
    differing = [line for line in differences(stored, task.config) if line.partition(' ')[0] not in leave_out]
    if [line.partition(' ')[0] for line in differing] == ['num_epochs']:
        raise UserError(
            f'{workdir}: {differing[0]}. The learning rate follows the length of a run, so that one cannot '
            'be made longer. Start another run from it: the same command with '
            f'--config.init_from={workdir} --workdir={workdir}_longer'
        )
    if differing:
        raise UserError(
            f'{workdir} belongs to another configuration: {"; ".join(differing[:5])}'
            f'{"; and more" if len(differing) > 5 else ""}. Choose another --workdir'
        )


def check_same_folder(config: ConfigDict, workdir: pathlib.Path) -> None:
    """Raises UserError where the run in `workdir` was trained on another folder of pictures that is still there."""
    old, new = folder_of(load_config(workdir)), folder_of(config)
    if old and new and old != new and old.is_dir():
        raise UserError(
            f'{workdir} is trained on the pictures in {old}; choose another --workdir for {new}, or '
            '--mode=eval to evaluate on them'
        )


def check_same_data(workdir: pathlib.Path, data: dict[str, Any]) -> None:
    """Raises UserError where the run in `workdir` began with other training data.

    Args:
        data: `train_examples` and `train_checksum`, as in run.json; runs of earlier versions lack the second or both.
    """
    path = workdir / RUN
    try:
        began = data | json.loads(path.read_text())
    except FileNotFoundError:
        return
    except (ValueError, TypeError):
        notice(f'{path} is damaged, so that it is not known whether the training data are still the same')
        return
    changed = [f'{name} was {began[name]} and is now {value}' for name, value in data.items() if began[name] != value]
    if changed:
        raise UserError(
            f'the training data have changed since {workdir} began ({"; ".join(changed)}); '
            'restore them, or choose another --workdir'
        )


def folder_of(config: ConfigDict) -> pathlib.Path | None:
    """The folder of pictures that a configuration names; None for another data set."""
    return pathlib.Path(config.data.dir).expanduser().resolve() if config.data.name == 'folder' else None


def is_finished(workdir: pathlib.Path) -> bool:
    """Whether the run's last step was evaluated. False where results.json is damaged: training evaluates again."""
    try:
        return json.loads((workdir / RESULTS).read_text())['finished']
    except (FileNotFoundError, NotADirectoryError, ValueError, TypeError, KeyError):
        return False


# Making one.


@contextlib.contextmanager
def locked(workdir: pathlib.Path) -> Iterator[None]:
    """Keeps a work directory to this run, made where it is missing; only the first process locks.

    Raises:
        UserError: another run is at work in it, or it cannot be written.
    """
    with contextlib.ExitStack() as stack:
        on_first(lambda: stack.enter_context(lock(workdir)))
        yield


@contextlib.contextmanager
def lock(workdir: pathlib.Path) -> Iterator[None]:
    """Holds a lock on WORKDIR/lock. Raises UserError as `locked`."""
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        with (workdir / 'lock').open('w') as file:
            lock_file(file, workdir)
            yield
    except OSError as error:
        if error.errno not in CANNOT_WRITE and not isinstance(error, shutil.Error):
            raise
        path, ours = (pathlib.Path(name).absolute() for name in (str(error.filename or workdir), workdir))
        other = ', or choose another --workdir' if path.is_relative_to(ours) or ours.is_relative_to(path) else ''
        reason = error.strerror or str(error)[-150:]
        raise UserError(
            f'no access to {error.filename or workdir} ({reason}); mend that and start again{other}'
        ) from error


def lock_file(file, workdir: pathlib.Path) -> None:
    """Locks an open file until it is closed. Raises UserError if another process holds the lock."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise UserError(f'another run is at work in {workdir}; wait for it, or train with another --workdir') from error
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        notice(f'{workdir} is on a file system without locks: start no second run there')


def init_workdir(task: Task, workdir: pathlib.Path) -> None:
    """Writes the task's configuration and copies the runs that it names; call it inside `locked`.

    Raises:
        UserError: the work directory has a checkpoint of another configuration; or a run that the configuration names
            is not there, not finished, or its copy is gone.
    """
    save_config(task, workdir)
    if last_step(workdir) is None:
        shutil.rmtree(workdir / BEST, ignore_errors=True)  # That of an earlier run whose checkpoints were removed.
    copy_runs(task.config, workdir)
    warn_stale_copies(task.config, workdir)


def filled_from_data(task: Task, workdir: pathlib.Path) -> Task:
    """The task with what its configuration leaves to the data: as the run in `workdir` has it, else from the data.

    Raises:
        UserError: the data do not tell.
    """
    config = task.config
    if last_step(workdir) is not None:
        config = with_stored(config, load_config(workdir))
    task = dataclasses.replace(task, config=config)
    values = first_before_others(task.open_values)
    if values:
        notice('; '.join(f'{name}: {shown(value)}' for name, value in sorted(values.items())) + ' (from the data)')
    return dataclasses.replace(task, config=filled(config, values)) if values else task


def shown(value: object) -> str:
    """A value from the data, in short."""
    listed = [str(element) for element in value] if isinstance(value, list) else [str(value)]
    return ', '.join(listed[:10]) + (f', … ({len(listed)})' if len(listed) > 10 else '') or 'none'


def save_config(task: Task, workdir: pathlib.Path) -> None:
    """Writes config.json. Raises UserError if `workdir` has a checkpoint of another configuration."""
    if last_step(workdir) is not None:
        check_same(task, workdir)
        check_same_folder(task.config, workdir)
    write_text(workdir / CONFIG, task.config.to_json_best_effort(indent=2, sort_keys=True) + '\n')


# Copies of the runs that a configuration names with `NAME_workdir`: they live in WORKDIR/NAME.


def copies(config: ConfigDict, workdir: pathlib.Path) -> dict[str, pathlib.Path]:
    """Where the copies live, by the keys that name the runs."""
    named = (key for key in config if key.endswith('_workdir') and config[key])
    return {key: workdir / key.removesuffix('_workdir') for key in named}


def use_local_copies(config: ConfigDict, workdir: pathlib.Path) -> ConfigDict:
    """The configuration with every `NAME_workdir` set to its copy in `workdir`, where there is one."""
    config = config.copy_and_resolve_references()
    for key, copy in copies(config, workdir).items():
        if (copy / CONFIG).exists():
            config[key] = str(copy)
    return config


def copy_runs(config: ConfigDict, workdir: pathlib.Path) -> None:
    """Copies the runs that `config` names into `workdir`; once training has begun, the copies are kept.

    Raises:
        UserError: one of the runs is not finished, or was trained on other data; or training has begun and the copy is
            gone.
    """
    targets = copies(config, workdir)
    if last_step(workdir) is not None:
        for copy in targets.values():
            if not (copy / CONFIG).exists():
                raise UserError(
                    f'{copy}, with which this run was begun, is gone; restore it, or choose another --workdir'
                )
        return
    for key, copy in targets.items():
        if named_run(config, key).resolve() == copy.resolve():
            continue
        source = finished_run(config, key)
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(source / 'checkpoints', copy / 'checkpoints')
        if (source / BEST).exists():
            shutil.copytree(source / BEST, copy / BEST)
        shutil.copy(source / CONFIG, copy)  # Last: it marks the copy as whole.


def finished_run(config: ConfigDict, key: str) -> pathlib.Path:
    """The work directory that `config` names under `key`. Raises UserError unless it can be copied."""
    source = named_run(config, key)
    if not is_finished(source):
        raise UserError(f'{key}: the run in {source} is not finished; start it again to finish it')
    check_same_split(config, key, source)
    return source


def check_same_split(config: ConfigDict, key: str, source: pathlib.Path) -> None:
    """Raises UserError where images to test on may be among those that the run in `source` was trained on."""
    stored = load_config(source)
    if stored.data.validation_examples < config.data.validation_examples:
        notice(f'{key}: the run in {source} was trained on images that are held out for validation here')
    theirs, ours = folder_of(stored), folder_of(config)
    for name, old, new in (
        ('name', stored.data.name, config.data.name),
        ('dir', theirs, ours if theirs and theirs.is_dir() else theirs),  # A folder that is gone may have moved here.
        ('test_share', *(data.get('test_share') if ours else None for data in (stored.data, config.data))),
    ):
        if old != new:
            raise UserError(
                f'{key}: the run in {source} was trained with data.{name} = {old}, not {new}; name one with the same '
                'training and test images'
            )


def warn_stale_copies(config: ConfigDict, workdir: pathlib.Path) -> None:
    """Prints which copies in `workdir` are of another run than the one the configuration names now."""
    for key, copy in copies(config, workdir).items():
        if not (copy / CONFIG).exists():
            continue
        kept, named = load_config(copy), pathlib.Path(config[key])
        with contextlib.suppress(UserError):  # The original may be gone.
            if differences(kept, load_config(named)):
                notice(f'{key}: the run keeps its copy in {copy}, which is of another run than {named}')


def check_named_runs(config: ConfigDict, workdir: pathlib.Path, earlier: Sequence[pathlib.Path]) -> None:
    """Raises UserError where a new run in `workdir`, after those in `earlier`, could not start from or copy a run."""
    for key in copies(config, workdir):
        finished_run(config, key)
    if config.init_from and pathlib.Path(config.init_from) not in earlier:
        named_run(config, 'init_from')


def named_run(config: ConfigDict, key: str) -> pathlib.Path:
    """The work directory that `config` names under `key`. Raises UserError where no run with a checkpoint is there."""
    path = pathlib.Path(config[key]).expanduser()
    if not config[key] or not (path / CONFIG).exists() or last_step(path) is None:
        raise UserError(f'{key} is {config[key]!r}, where no trained run is; {how_to_train(path)}')
    return path


def how_to_train(workdir: pathlib.Path) -> str:
    """The advice for a work directory without a run, which may be named after its configuration."""
    file = pathlib.Path('configs', f'{workdir.name.removesuffix("_demo")}.py')
    if not file.exists():
        return 'name the folder of a finished run'
    variant = ':demo' if workdir.name.endswith('_demo') else ''
    return f'train it first: python main.py --config={file}{variant} --workdir={workdir}'


# Files.


def write_json(path: pathlib.Path, values: Mapping[str, object]) -> None:
    """Writes a sorted JSON object, so that equal values are equal files."""
    write_text(path, json.dumps(jsonable(values), indent=2, sort_keys=True) + '\n')


def write_text(path: pathlib.Path, text: str) -> None:
    """Replaces a file atomically: readers see the old text or the new."""
    partial = path.with_name(path.name + '.tmp')
    partial.write_text(text)
    partial.replace(path)
