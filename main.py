"""Command line: trains, one run or many, evaluates, puts runs side by side, predicts, exports, serves.

    python main.py --config=configs/unet_mp_tr_ce.py
    python main.py --mode=eval --workdir=runs/unet_mp_tr_ce
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

TASKS = {'unet': ('unet.task', 'SegmentationTask', 'unet_mp_tr_ce'), 'vae': ('vae.task', 'VAETask', 'vae_mnist'),
         'classifier': ('vae.classifier', 'ClassifierTask', 'classifier_mnist')}  # And a file with all of its keys.

CONFIG = config_flags.DEFINE_config_file('config', None, 'Configuration file, e.g. configs/unet_mp_tr_ce.py; '
                                         'its values are flags too: --config.seed=1', lock_config=True)
MODE = flags.DEFINE_enum('mode', 'train', 'train eval sweep report predict export serve'.split(), 'What to do.')
WORKDIR = flags.DEFINE_string('workdir', '', "Where the run lives; by default runs/<the configuration's name>.")
RUNS = flags.DEFINE_string('runs', 'runs/*', 'Work directories to report on.')
INPUT = flags.DEFINE_list('input', [], 'Photos and folders of photos to predict for.')
LABELS = flags.DEFINE_list('labels', [], 'What a VAE is to turn them into, e.g. 3,8; by default every label.')
OUTPUT = flags.DEFINE_string('output', '', 'By default a folder named as the mode; of an export, in --workdir.')
PORT = flags.DEFINE_integer('port', 8000, 'Where to serve the page: http://127.0.0.1:PORT.')
DISTRIBUTED = flags.DEFINE_string('distributed', '', 'To be one of several processes: auto, or HOST:PORT,COUNT,ID.')


def main() -> None:
    from common import evaluate, parallel, sweep
    from common.report import report  # After the flags: importing JAX takes a second.
    mode, output = MODE.value, pathlib.Path(OUTPUT.value or MODE.value)
    with parallel.joined(DISTRIBUTED.value):
        workdir = None if mode == 'report' else find_workdir()
        if mode == 'report':
            print(f'the report is in {report.write(sorted(glob.glob(RUNS.value)), output, make_task)}')
        elif mode == 'sweep':
            sweep.run(sweep.cells(CONFIG.value, sweep.read_axes(flags.FLAGS['config'])), workdir, make_task, train_run)
            print(f"compare them: python main.py --mode=report --runs='{workdir}/*'")
        elif mode in ('train', 'eval'):
            results = (train_run(CONFIG.value or config_lib.load(workdir), workdir) if mode == 'train' else
                       evaluate.evaluate(make_task(config_lib.agreed(CONFIG.value, workdir)), workdir))
            if parallel.is_first():
                print(json.dumps(config_lib.jsonable(results), indent=2, sort_keys=True))
                print(f'results and pictures are in {workdir} and {workdir / "figures"}')
        else:
            use(workdir, output)


def train_run(config, workdir: pathlib.Path) -> dict:
    """Trains a configuration in its work directory, from the latest checkpoint to the end."""
    from common import parallel, train
    train.check(make_task(config))  # Before anything is written.
    parallel.on_first(lambda: config_lib.adopt(config, workdir))
    return train.train(make_task(config_lib.at_home(config, workdir)), workdir)


def use(workdir: pathlib.Path, output: pathlib.Path) -> None:
    """Predicts with, exports or serves the model that was trained in `workdir`."""
    from common.serving import export, predict, serve
    config_lib.agreed(CONFIG.value, workdir)
    predictor = predict.load(workdir, make_task)
    if MODE.value == 'predict':
        count = predict.predict_files(predictor, INPUT.value, output, LABELS.value)
        print(f'predictions for {count} photos are in {output}')
    elif MODE.value == 'export':
        print(f'the model is in {export.export(predictor, output if OUTPUT.value else workdir / "export")}')
    else:
        serve.serve(predictor, PORT.value)


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
    module, name, file = TASKS[config.task]
    config_lib.check(config, importlib.import_module(f'configs.{file}').get_config())
    return getattr(importlib.import_module(module), name)(config)


if __name__ == '__main__':
    cli.with_huge_pages()
    sys.exit(cli.run(main, sys.argv))
