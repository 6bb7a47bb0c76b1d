"""Turns a mistake on the command line into one line and an exit code."""

from collections.abc import Callable
import glob
import itertools
import logging
import os
import pathlib
import re
import sys
from typing import Any

from absl import app, flags
from absl import logging as absl_logging

from common.errors import Diverged, Incomplete, Interrupted, PeerLost, UserError
import configs

MODES = {  # And the flags that not all of them have.
    'train': {'config', 'workdir', 'profile'},
    'eval': {'config', 'workdir'},
    'data': {'config', 'output'},
    'sweep': {'config', 'workdir'},
    'report': {'runs', 'output'},
    'predict': {'config', 'workdir', 'input', 'labels', 'output'},
    'export': {'config', 'workdir', 'output'},
    'share': {'config', 'workdir', 'output'},
    'serve': {'config', 'workdir', 'port'},
}
EXIT_CODES = {Diverged: 1, UserError: 2, Incomplete: 3}
# TensorFlow reads these when it is imported. Each hides some of what it prints then; errors are still printed.
QUIET_TENSORFLOW = {'TF_CPP_MIN_LOG_LEVEL': '2', 'TF_ENABLE_ONEDNN_OPTS': '0'}


def run(main: Callable[[], None], argv: list[str]) -> int:
    """Parses the flags and calls `main`.

    Returns:
        The exit code: 0, 1 if training diverged or another process was lost, 2 for a user error, 3 if
        part of the work could not be done, 128 + n after signal n.
    """
    hide_warnings()
    try:
        parse(argv)
        main()
    except tuple(EXIT_CODES) as error:
        print(f'error: {error}', file=sys.stderr)
        return EXIT_CODES[type(error)]
    except PeerLost as error:
        print(f'error: {error}', file=sys.stderr, flush=True)
        os._exit(1)  # JAX's exit would wait for the lost process, then abort.
    except Interrupted as stop:
        print(stop, file=sys.stderr)
        return 128 + stop.signum
    except KeyboardInterrupt:
        return 130
    return 0


def hide_warnings() -> None:
    """Hides the warnings of libraries; TensorFlow's only where the user's environment does not set them."""
    for name, value in QUIET_TENSORFLOW.items():
        os.environ.setdefault(name, value)
    absl_logging.set_verbosity(absl_logging.ERROR)
    logging.getLogger('urllib3').setLevel('ERROR')  # Retries of downloads.


def import_jax() -> None:
    """Imports JAX. Raises UserError where a variable of the environment has a value that JAX does not know."""
    try:
        import jax  # noqa: F401
    except ValueError as error:
        raise UserError(
            f'JAX does not start: {" ".join(str(error).split())}; mend the variable, or leave it out'
        ) from error


def matching(pattern: str) -> list[str]:
    """The paths that match, in order; the pattern itself where none does."""
    return sorted(glob.glob(os.path.expanduser(pattern))) or [pattern]


def local_path(text: str, flag: str) -> pathlib.Path:
    """A path from the command line, `~` being the home folder. Raises UserError for a bucket."""
    if '://' in text:
        raise UserError(f'{flag} is {text!r}; only local paths can be written and locked: mount the bucket as a folder')
    return pathlib.Path(text).expanduser()


def check_used(mode: str) -> None:
    """Raises UserError for a flag on the command line that another mode has and this one would ignore."""
    for name in sorted(set.union(*MODES.values()) - MODES[mode]):
        if flags.FLAGS[name].present:
            others = ', '.join(other for other, names in MODES.items() if name in names)
            raise UserError(f'--mode={mode} has no --{name}, only {others}; leave it out, or choose another --mode')


def required(config: Any) -> Any:
    """The configuration. Raises UserError for none."""
    if config is None:
        raise UserError(
            'say what to do: --config=configs/unet_mp_tr_ce.py trains, '
            '--mode=eval --workdir=runs/unet_mp_tr_ce evaluates; --help lists all flags'
        )
    return config


def find_workdir(workdir: str) -> pathlib.Path:
    """`workdir`, or if that is empty the folder named after --config. Raises UserError without both."""
    if workdir:
        return local_path(workdir, '--workdir')
    flag: Any = flags.FLAGS['config']
    required(flag.value)
    path, _, variant = flag.config_filename.partition(':')
    return pathlib.Path('runs') / '_'.join(filter(None, (pathlib.Path(path).stem, variant)))


def with_stored_config(argv: list[str]) -> list[str]:
    """The arguments, with the configuration of --workdir where --config.* flags change one and none is named."""
    named = any(re.match('--?config(=|$)', argument) for argument in argv)
    changed = any(re.match(r'--?config\.', argument) for argument in argv)
    workdir = workdir_in(argv)
    if named or not changed or not (pathlib.Path(workdir).expanduser() / 'config.json').is_file():
        return argv
    return [argv[0], f'--config={pathlib.Path(configs.__file__).parent / "stored.py"}:{workdir}', *argv[1:]]


def workdir_in(argv: list[str]) -> str:
    """The last --workdir of a command line, `--workdir=PATH` or `--workdir PATH`; '' without one."""
    found = ''
    for argument, following in itertools.pairwise([*argv, '']):
        name, equals, value = argument.partition('=')
        if name in ('--workdir', '-workdir'):
            found = value if equals else following
    return found


def parse(argv: list[str]) -> None:
    """Parses the flags. Raises UserError in place of the many exceptions that absl and ml_collections have."""
    app.define_help_flags()
    try:
        rest = flags.FLAGS(with_stored_config(argv))[1:]
        if 'config' in flags.FLAGS and flags.FLAGS.config is not None:
            _ = flags.FLAGS.config.task  # A file that failed to load raises at its first use.
    except UserError:
        raise
    except OSError as error:
        raise UserError('the file in --config cannot be read; name one of configs/*.py by its path') from error
    except (AttributeError, KeyError) as error:  # A locked ConfigDict names only the key.
        said = str(error)
        if 'get_config' in said:
            raise UserError('the file in --config has no get_config; name one of configs/*.py') from error
        key, likely = re.search(r'[\w.]+', said), re.search(r'Did you mean "(\w+)"', said)
        if not key or not any(re.match(rf'--?config\.(.*\.)?{re.escape(key[0])}\b', argument) for argument in argv):
            said = ' '.join(said.replace(r'\n', ' ').replace('\\', '').split())
            raise UserError(f'the configuration does not load: {type(error).__name__}, {said}') from error
        hint = f"; did you mean '{likely[1]}'?" if likely else '; its file lists them all'
        raise UserError(f"the configuration has no key '{key[0]}'{hint}") from error
    except Exception as error:
        raise UserError(f'{" ".join(str(error).split())}; --help lists the flags') from error
    if rest:
        raise UserError(f'{rest[0]!r} is not a flag; flags look like --config.seed=1')
