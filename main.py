"""Command line: trains, evaluates what was trained, or puts runs side by side.

    python main.py --config=configs/unet_mp_tr_ce.py
    python main.py --mode=eval --workdir=runs/unet_mp_tr_ce
    python main.py --mode=report --runs='runs/*'
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
MODES = ('train', 'eval', 'report')

CONFIG = config_flags.DEFINE_config_file('config', None, 'Configuration file, e.g. configs/unet_mp_tr_ce.py; '
                                         'its values are flags too: --config.seed=1', lock_config=True)
MODE = flags.DEFINE_enum('mode', 'train', MODES, 'What to do.')
WORKDIR = flags.DEFINE_string('workdir', '', "Where the run lives; by default runs/<the configuration's name>.")
RUNS = flags.DEFINE_string('runs', 'runs/*', 'Work directories to report on.')
DISTRIBUTED = flags.DEFINE_string('distributed', '', 'To be one of several processes: auto under SLURM, Open MPI, '
                                  'Kubernetes or on a TPU pod; else HOST:PORT,COUNT,ID.')
OUTPUT = flags.DEFINE_string('output', '', 'Where the report goes; by default report/.')


def main() -> None:
    from common import evaluate, parallel, report, train  # After the flags: importing JAX takes a second.
    parallel.join(DISTRIBUTED.value)
    if MODE.value == 'report':
        path = report.write(sorted(glob.glob(RUNS.value)), pathlib.Path(OUTPUT.value or 'report'), make_task)
        print(f'the report is in {path}')
        return
    workdir = find_workdir()
    config = CONFIG.value
    if config is None:
        config = config_lib.load(workdir)
    elif MODE.value == 'eval':
        config_lib.check_same(config_lib.load(workdir), config, workdir)
    if MODE.value == 'train':
        parallel.on_first(lambda: config_lib.adopt(config, workdir))
    config = config_lib.at_home(config, workdir)
    results = {'train': train.train, 'eval': evaluate.evaluate}[MODE.value](make_task(config), workdir)
    print(json.dumps(results, indent=2, sort_keys=True))
    print(f'results and pictures are in {workdir} and {workdir / "figures"}')


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
