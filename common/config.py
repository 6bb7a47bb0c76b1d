"""What a work directory says of its run: config.json, and whether another start agrees with it."""

from collections.abc import Mapping
import contextlib
import errno
import fcntl
import json
import math
import pathlib
import shutil

from ml_collections import ConfigDict

from common.errors import UserError, check_choice, notice

FILE, RESULTS = 'config.json', 'results.json'
CANNOT_WRITE = (errno.EACCES, errno.EDQUOT, errno.EEXIST, errno.ENAMETOOLONG, errno.ENOSPC, errno.ENOTDIR, errno.EPERM,
                errno.EROFS)
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


def check(config: ConfigDict, complete: ConfigDict) -> None:
    """Raises UserError unless `config` has the keys of `complete`, values of their types, and ones that make sense."""
    flat, expected = flatten(config), flatten(complete)
    missing = sorted(set(expected) - set(flat))
    if missing:
        raise UserError(f'the configuration lacks {missing[0]}: it is of another version or changed by hand; compare '
                        'it with those in configs/')
    for name, value in expected.items():
        if not is_like(flat[name], value):
            raise UserError(f'{name} is {flat[name]!r}; it must be like {value!r}')
    check_choice('dtype', config.dtype, ('float32', 'bfloat16'))
    for name in ('num_epochs', 'batch_size', 'eval_batch_size', 'log_every_steps', 'data.image_size'):
        if flat[name] < 1:
            raise UserError(f'{name} is {flat[name]}; it must be at least 1')
    for name in ('seed', 'eval_every_epochs', 'steps_per_dispatch', 'data.validation_examples'):
        if flat[name] < 0:
            raise UserError(f'{name} is {flat[name]}; it must not be negative')
    if config.seed >= 2 ** 32:
        raise UserError(f'seed is {config.seed}; it must be below 2^32')


def is_like(value: object, example: object) -> bool:
    """Whether a value has the type of an example; a list, numbers alone."""
    if isinstance(example, list):
        return isinstance(value, list) and all(is_like(element, 1.0) for element in value)
    return type(value) in ({int, float} if isinstance(example, float) else {type(example)})


def load(workdir: pathlib.Path) -> ConfigDict:
    """The configuration that the run in `workdir` was started with. Raises UserError where there is none."""
    path = workdir / FILE
    try:
        values = json.loads(path.read_text())
        if not isinstance(values, dict):
            raise ValueError('it is not an object')
        return at_home(ConfigDict(values), workdir)
    except FileNotFoundError as error:
        raise UserError(f'{workdir} holds no run ({path} is missing); name the work directory of one with '
                        '--workdir, or train first') from error
    except (ValueError, OSError) as error:
        raise UserError(f'{path} cannot be read ({error}); restore it from a copy') from error


def agreed(config: ConfigDict | None, workdir: pathlib.Path) -> ConfigDict:
    """The configuration of the run in `workdir`. Raises UserError if there is none, or `config` says something else."""
    stored = load(workdir)
    if config is None:
        return stored
    check_same(stored, config, workdir)
    tell_of_copies(config, workdir)
    return at_home(config, workdir)


def at_home(config: ConfigDict, workdir: pathlib.Path) -> ConfigDict:
    """The configuration with every `NAME_workdir` set to the copy in `workdir`/NAME, where there is one."""
    for key, copy in copies(config, workdir).items():
        if (copy / FILE).exists():
            config[key] = str(copy)
    return config


def copies(config: ConfigDict, workdir: pathlib.Path) -> dict[str, pathlib.Path]:
    """Where `workdir` has its copies of the runs that the configuration names, by the keys that name them."""
    return {key: workdir / key.removesuffix('_workdir') for key in config if key.endswith('_workdir')}


def tell_of_copies(config: ConfigDict, workdir: pathlib.Path) -> None:
    """Says which copies in `workdir` are of another run than the configuration names."""
    for key, copy in copies(config, workdir).items():
        if not (copy / FILE).exists():
            continue
        kept, named = load(copy), pathlib.Path(config[key])
        with contextlib.suppress(UserError):  # What became of the original does not matter.
            if differences(kept, load(named)):
                notice(f'{key}: the run keeps to its copy in {copy}, which is of another run than {named}')


def adopt(config: ConfigDict, workdir: pathlib.Path) -> None:
    """Makes `workdir` one of this configuration, with copies of the work directories that it names.

    Raises:
        UserError: as `save` and `locked`; or a run that the configuration names is not finished.
    """
    with locked(workdir):  # A run that is at work there keeps its configuration and its copies.
        save(config, workdir)
        adopt_copies(config, workdir)
        tell_of_copies(config, workdir)


def adopt_copies(config: ConfigDict, workdir: pathlib.Path) -> None:
    """Copies the work directories that `config` names into `workdir`; once the run has begun, keeps to the copies.

    Raises:
        UserError: one of them is not finished; or the copy with which the run was begun is gone.
    """
    kept = copies(config, workdir)
    if has_checkpoint(workdir):
        for copy in kept.values():
            if not (copy / FILE).exists():
                raise UserError(f'{copy}, with which this run was begun, is gone; restore it, or choose another '
                                '--workdir')
        return
    for key, copy in kept.items():
        source = named_run(config, key)
        if source.resolve() == copy.resolve():
            continue
        if not is_finished(source):
            raise UserError(f'{key}: the run in {source} has not come to its end; start it again to finish it')
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(source / 'checkpoints', copy / 'checkpoints')
        shutil.copy(source / FILE, copy)  # Last: it says that the copy is whole.


def named_run(config: ConfigDict, key: str) -> pathlib.Path:
    """The work directory that `config` names under `key`. Raises UserError where no run with a checkpoint is there."""
    path = pathlib.Path(config[key])
    if not config[key] or not (path / FILE).exists() or not has_checkpoint(path):
        raise UserError(f'{key} is {config[key]!r}, where no trained run is; {how_to_train(path)}')
    return path


def how_to_train(workdir: pathlib.Path) -> str:
    """What to do about a work directory without a run, which may be named after its configuration."""
    file = pathlib.Path('configs', f'{workdir.name.removesuffix("_demo")}.py')
    if not file.exists():
        return 'name the folder of a finished run'
    variant = ':demo' if workdir.name.endswith('_demo') else ''
    return f'train it first: python main.py --config={file}{variant} --workdir={workdir}'


def has_checkpoint(workdir: pathlib.Path) -> bool:
    return last_checkpoint(workdir) is not None


def last_checkpoint(workdir: pathlib.Path) -> int | None:
    """The step of the last whole checkpoint: one that is being written has more than the step in its name."""
    return max((int(path.name) for path in (workdir / 'checkpoints').glob('*') if path.name.isdecimal()), default=None)


def is_finished(workdir: pathlib.Path) -> bool:
    """Whether the run's last step was evaluated."""
    try:
        return json.loads((workdir / RESULTS).read_text())['finished']
    except (FileNotFoundError, NotADirectoryError, ValueError, TypeError, KeyError):
        return False  # Of a damaged one too: training again evaluates again.


@contextlib.contextmanager
def locked(workdir: pathlib.Path):
    """Keeps the work directory to this process. Raises UserError if another run is at work in it."""
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        with (workdir / 'lock').open('w') as file:
            lock(file, workdir)
            yield
    except OSError as error:
        if error.errno not in CANNOT_WRITE and not isinstance(error, shutil.Error):
            raise
        reason = error.strerror or str(error)[-150:]
        raise UserError(f'no access to {error.filename or workdir} ({reason}); mend that and start again, or choose '
                        'another --workdir') from error


def lock(file, workdir: pathlib.Path) -> None:
    """Locks the file until it is closed. Raises UserError if another run has it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise UserError(f'another run is at work in {workdir}; wait for it, or train with another --workdir') from error
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        notice(f'{workdir} is on a file system without locks: start no second run there')


def save(config: ConfigDict, workdir: pathlib.Path) -> None:
    """Writes config.json; where the work directory holds a checkpoint, only if the old one says the same.

    Raises:
        UserError: the work directory cannot be written, or belongs to another configuration.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        if has_checkpoint(workdir):
            check_same(load(workdir), config, workdir)
        write_text(workdir / FILE, config.to_json_best_effort(indent=2, sort_keys=True) + '\n')
    except OSError as error:
        raise UserError(f'cannot write to {workdir} ({error.strerror}); choose another --workdir') from error


def check_same(stored: ConfigDict, config: ConfigDict, workdir: pathlib.Path) -> None:
    """Raises UserError naming what differs, apart from where data and classifiers are found."""
    differing = differences(stored, config)
    if differing:
        raise UserError(f'{workdir} belongs to another configuration: {"; ".join(differing[:5])}'
                        f'{"; and more" if len(differing) > 5 else ""}. Choose another --workdir')


def differences(stored: ConfigDict, config: ConfigDict) -> list[str]:
    """What differs between two configurations, in words, apart from where data and classifiers are found."""
    old, new = flatten(stored), flatten(config)
    names = sorted(old | new, key=lambda name: (name not in new, name not in old, name))
    return [f'{name} was {old.get(name)!r} and is now {new.get(name)!r}' for name in names
            if not is_location(name) and old.get(name) != new.get(name)]


def is_location(name: str) -> bool:
    return name in ('data.dir', 'data.manual_dir') or name.endswith('_workdir')


def flatten(config: ConfigDict) -> dict[str, object]:
    """Dotted names to values, as JSON would give them back."""
    flat = {}
    for name, value in json.loads(config.to_json_best_effort()).items():
        nested = flatten(ConfigDict(value)) if isinstance(value, dict) else None
        flat |= {name: value} if nested is None else {f'{name}.{key}': v for key, v in nested.items()}
    return flat


def write_json(path: pathlib.Path, values: Mapping[str, object]) -> None:
    """Writes a sorted JSON object, so that equal values are equal files."""
    write_text(path, json.dumps(jsonable(values), indent=2, sort_keys=True) + '\n')


def jsonable(values: Mapping[str, object]) -> dict[str, object]:
    """NaN and infinity become null: JSON has neither."""
    return {name: None if isinstance(v, float) and not math.isfinite(v) else v for name, v in values.items()}


def write_text(path: pathlib.Path, text: str) -> None:
    """Replaces the file at once: a reader sees the old text or the new."""
    partial = path.with_name(path.name + '.tmp')
    partial.write_text(text)
    partial.replace(path)
