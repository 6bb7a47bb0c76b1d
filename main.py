"""Command line: trains, evaluates, describes data, sweeps, reports, predicts, exports, shares, serves.

python main.py --config=configs/unet_mp_tr_ce.py
python main.py --mode=eval --workdir=runs/unet_mp_tr_ce
"""

import importlib
import json
import pathlib
import sys

from absl import flags
from ml_collections import config_flags

from common import cli, cpu
from common.config import checked, jsonable
from common.errors import check_choice

TASKS = {'unet': 'unet.task.SegmentationTask', 'vae': 'vae.task.VAETask', 'classifier': 'vae.classifier.ClassifierTask'}

CONFIG = config_flags.DEFINE_config_file('config', None, 'Its values are flags too: --config.seed=1', lock_config=True)
MODE = flags.DEFINE_enum('mode', 'train', cli.MODES, 'What to do.')
WORKDIR = flags.DEFINE_string('workdir', '', "Where the run lives; by default runs/<the configuration's name>.")
RUNS = flags.DEFINE_string('runs', 'runs/*', 'Work directories to report on.')
INPUT = flags.DEFINE_list('input', [], 'Photos and folders of photos to predict for.')
LABELS = flags.DEFINE_list('labels', [], 'Labels that a VAE gives each picture, e.g. 3,8; by default every label.')
OUTPUT = flags.DEFINE_string('output', '', 'By default a folder named after the mode; for export, in --workdir.')
PORT = flags.DEFINE_integer('port', 8000, 'Where to serve the page: http://127.0.0.1:PORT.')
PROFILE = flags.DEFINE_integer('profile', 0, 'Training steps to trace, for TensorBoard and Perfetto.', lower_bound=0)
DISTRIBUTED = flags.DEFINE_string('distributed', '', 'To be one of several processes: auto, or HOST:PORT,COUNT,ID.')


def main() -> None:
    cli.check_used(MODE.value)
    cli.import_jax()  # After the flags: it takes a second.
    from common import evaluate, parallel, sweep, train, workdir
    from common.report import dataset, report

    mode, output = MODE.value, cli.local_path(OUTPUT.value or MODE.value, '--output')
    with parallel.joined(DISTRIBUTED.value):
        if mode == 'report':
            print(f'the report is in {report.write(cli.matching(RUNS.value), output, make_task)}')
            return
        if mode == 'data':
            path, faults = dataset.write(make_task(cli.required(CONFIG.value)), output)
            print(f'{faults or "no"} faults; the page is in {path}')
            return
        folder = cli.find_workdir(WORKDIR.value)
        if mode == 'sweep':
            sweep.run(sweep.cells(CONFIG.value, sweep.read_axes(flags.FLAGS['config'])), folder, make_task, train.train)
            print(f"compare them: python main.py --mode=report --runs='{folder}/*'")
        elif mode in ('train', 'eval'):
            if mode == 'train':
                results = train.train(make_task(CONFIG.value or workdir.load_config(folder)), folder, PROFILE.value)
            else:
                results = evaluate.evaluate(workdir.load_matching(CONFIG.value, folder, make_task, True), folder)
            if parallel.is_first():
                print(json.dumps(jsonable(results), indent=2, sort_keys=True))
                print(f'results and pictures are in {folder} and {folder / "figures"}')
        else:
            use(workdir.load_matching(CONFIG.value, folder, make_task), folder, output)


def use(task, folder: pathlib.Path, output: pathlib.Path) -> None:
    """Predicts with, exports, shares or serves the model that `task` has trained in `folder`."""
    from common.serving import export, predict, serve, share

    if MODE.value == 'share':
        print(f'the copy is in {share.share(folder, output, make_task)}')
        return
    predictor = predict.restored(task, folder)
    if MODE.value == 'predict':
        count = predict.predict_files(predictor, INPUT.value, output, LABELS.value)
        print(f'predictions for {count} photos are in {output}')
    elif MODE.value == 'export':
        print(f'the model is in {export.export(predictor, output if OUTPUT.value else folder / "export")}')
    else:
        serve.serve(predictor, PORT.value)


def make_task(config):
    """The task that a configuration names. Raises UserError where a value does not fit."""
    check_choice('task', config.get('task'), TASKS)
    module, _, name = TASKS[config.task].rpartition('.')
    task = getattr(importlib.import_module(module), name)
    return task(checked(config, task.defaults()))


def console() -> int:
    """The program: sets the CPU up, and returns the exit code."""
    cpu.configure()
    cpu.restart_with_huge_pages()
    return cli.run(main, sys.argv)


if __name__ == '__main__':
    sys.exit(console())
