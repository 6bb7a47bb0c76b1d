"""Command line: trains, or evaluates what was trained.

    python main.py --config=configs/unet_mp_tr_ce.py
    python main.py --mode=eval --workdir=runs/unet_mp_tr_ce
"""

import importlib
import json
import os
import pathlib
import sys

from absl import app, flags, logging
from ml_collections import config_flags

from common import config as config_lib
from common.errors import UserError

TASKS = {'unet': ('unet.task', 'SegmentationTask')}
MODES = ('train', 'eval')

CONFIG = config_flags.DEFINE_config_file('config', None, 'Configuration file, e.g. configs/unet_mp_tr_ce.py; '
                                         'its values are flags too: --config.seed=1', lock_config=True)
MODE = flags.DEFINE_enum('mode', 'train', MODES, 'What to do.')
WORKDIR = flags.DEFINE_string('workdir', '', "Where the run lives; by default runs/<the configuration's name>.")


def main() -> None:
    workdir = find_workdir()
    config = CONFIG.value
    if MODE.value == 'eval' or config is None:
        config = config_lib.load(workdir)
    from common import evaluate, train  # After the flags: importing JAX takes a second.
    task = make_task(config)
    results = {'train': train.train, 'eval': evaluate.evaluate}[MODE.value](task, workdir)
    print(json.dumps(results, indent=2, sort_keys=True))
    print(f'pictures and results are in {workdir}')


def find_workdir() -> pathlib.Path:
    """--workdir, or the folder named after the configuration."""
    if WORKDIR.value:
        return pathlib.Path(WORKDIR.value)
    if CONFIG.value is None:
        raise UserError('say what to do: --config=configs/unet_mp_tr_ce.py trains, '
                        '--mode=eval --workdir=runs/unet_mp_tr_ce evaluates; --help lists all flags')
    path, _, variant = flags.FLAGS['config'].config_filename.partition(':')
    return pathlib.Path('runs') / '_'.join(filter(None, (pathlib.Path(path).stem, variant)))


def make_task(config):
    """The task that a configuration names."""
    if config.get('task') not in TASKS:
        raise UserError(f'task is {config.get("task")!r}; choose one of {", ".join(TASKS)}')
    module, name = TASKS[config.task]
    return getattr(importlib.import_module(module), name)(config)


def parse(argv: list[str]) -> None:
    """Parses the flags. Raises UserError in place of absl's several exceptions and exit code 1."""
    app.define_help_flags()
    try:
        rest = flags.FLAGS(argv)[1:]
    except UserError:
        raise
    except Exception as error:  # Whatever absl, ml_collections and the configuration file itself raise.
        raise UserError(f'{" ".join(str(error).split())}. Compare with the configuration file; --help lists '
                        'the other flags') from error
    if rest:
        raise UserError(f'{rest[0]!r} is not a flag; flags look like --config.seed=1')


def run(argv: list[str]) -> int:
    """Runs the command line and returns its exit code: 2 for a mistake of the user's, 128 + n for signal n."""
    from common.train import Diverged, Interrupted
    try:
        parse(argv)
        main()
    except UserError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    except Diverged as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    except Interrupted as stop:
        print(stop, file=sys.stderr)
        return 128 + stop.signum
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == '__main__':
    sys.exit(run(sys.argv))
