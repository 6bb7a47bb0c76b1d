"""Command line: trains, one run or many, evaluates what was trained, or puts runs side by side.

    python main.py --config=configs/unet_mp_tr_ce.py
    python main.py --mode=eval --workdir=runs/unet_mp_tr_ce
    python main.py --mode=report --runs='runs/*'
    python main.py --mode=sweep --config=configs/sweep_unet.py
"""

import glob
import importlib
import json
import pathlib
import sys

from absl import flags
from ml_collections import config_flags

from common import cli
from common import config as config_lib
from common.errors import UserError

TASKS = {'unet': ('unet.task', 'SegmentationTask'), 'vae': ('vae.task', 'VAETask'),
         'classifier': ('vae.classifier', 'ClassifierTask')}
MODES = ('train', 'eval', 'report', 'sweep')

CONFIG = config_flags.DEFINE_config_file('config', None, 'Configuration file, e.g. configs/unet_mp_tr_ce.py; '
                                         'its values are flags too: --config.seed=1', lock_config=True)
MODE = flags.DEFINE_enum('mode', 'train', MODES, 'What to do.')
WORKDIR = flags.DEFINE_string('workdir', '', "Where the run lives; by default runs/<the configuration's name>.")
RUNS = flags.DEFINE_string('runs', 'runs/*', 'Work directories to report on.')
OUTPUT = flags.DEFINE_string('output', '', 'Where the report goes; by default report/.')


def main() -> None:
    from common import evaluate, report, sweep  # After the flags: importing JAX takes a second.
    if MODE.value == 'report':
        path = report.write(sorted(glob.glob(RUNS.value)), pathlib.Path(OUTPUT.value or 'report'), make_task)
        print(f'the report is in {path}')
        return
    workdir = find_workdir()
    config = CONFIG.value
    if MODE.value == 'sweep':
        axes = sweep.read_axes(flags.FLAGS['config'])
        sweep.run(sweep.cells(config, axes), workdir, make_task, train_run)
        print(f"compare them: python main.py --mode=report --runs='{workdir}/*'")
        return
    if config is None:
        config = config_lib.load(workdir)
    elif MODE.value == 'eval':
        config_lib.check_same(config_lib.load(workdir), config, workdir)
    if MODE.value == 'train':
        results = train_run(config, workdir)
    else:
        results = evaluate.evaluate(make_task(config_lib.adopt(config, workdir)), workdir)
    print(json.dumps(results, indent=2, sort_keys=True))
    print(f'results and pictures are in {workdir} and {workdir / "figures"}')


def train_run(config, workdir: pathlib.Path) -> dict:
    """Trains a configuration in its work directory, from the latest checkpoint to the end."""
    from common import train
    config_lib.save(config, workdir)
    return train.train(make_task(config_lib.adopt(config, workdir)), workdir)


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
    config_lib.check(config)
    module, name = TASKS[config.task]
    return getattr(importlib.import_module(module), name)(config)


if __name__ == '__main__':
    sys.exit(cli.run(main, sys.argv))
