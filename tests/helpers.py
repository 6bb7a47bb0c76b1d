"""Helpers that several test files use: tiny tasks, and runs of them."""

from collections import Counter
import dataclasses
import functools
import pathlib
import re
import signal
import sys

from absl import flags
from absl.testing import flagsaver
import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

ROOT = pathlib.Path(__file__).parent.parent
WITHOUT_TENSORFLOW = """
import sys
sys.modules.update({name: None for name in ('tensorflow', 'tensorflow_datasets')})
from common import cli
import main
sys.exit(cli.run(main.main, sys.argv))
"""


def shrink(config):
    """Shrinks the demo of a U-Net to 9 steps of 8 images of 16x16 pixels, in place; returns it."""
    config.update(
        {'num_epochs': 2, 'batch_size': 8, 'eval_batch_size': 8, 'log_every_steps': 2, 'eval_every_epochs': 1}
    )
    config.data.image_size = 16
    config.model.update({'width': 4, 'multipliers': (1, 2)})
    # Muon takes longer to compile.
    config.optimizer.update({'name': 'adamw', 'learning_rate': 3e-3, 'ema_decay': 0.5})
    return config


def make_tiny_task(config, **loads):
    """The segmentation task on 36 training and 13 test examples, drawn at the size of the configuration.

    `loads` sets the number of examples of a split. `task.traces` counts the traces of the loss, by stage, and
    those of the evaluation step.
    """
    from unet.task import SegmentationTask

    @dataclasses.dataclass(frozen=True)
    class TinyTask(SegmentationTask):
        figure_examples = 2  # Drawing takes seconds.
        traces: Counter = dataclasses.field(default_factory=Counter)

        def load(self, split):
            number = {'train': 36, 'test': 13, **loads}[split]
            return draw_pets('test' if split == 'validation' else split, number, self.config.data.image_size)

        def loss(self, params, batch_stats, constants, batch, keys, stage):
            self.traces[stage] += 1
            return super().loss(params, batch_stats, constants, batch, keys, stage)

        def eval_step(self, *args):
            self.traces['evaluation'] += 1
            return super().eval_step(*args)

    return TinyTask(config)


@functools.cache
def draw_pets(split, number, size):
    from unet import synthetic

    examples = [synthetic.example(0, split, index, size) for index in range(number)]
    images, masks, _ = (np.stack(values) for values in zip(*examples, strict=True))
    return {'image': images, 'labels': masks - np.uint8(1)}


def initial_of(task):
    """The initial variables, drawn with key 0, and the constants."""
    from common.parallel import run_once

    return run_once(task.init, jax.random.key(0)), task.constants()


def save(config, workdir):
    """Writes the configuration into `workdir`, as the start of a run does."""
    from common import workdir as workdir_lib
    from main import make_task

    workdir.mkdir(parents=True, exist_ok=True)
    workdir_lib.save_config(make_task(config), workdir)


def save_run(task, workdir, variables=None):
    """Creates a work directory as a finished run leaves it, but with initial or given weights; returns it."""
    from common import workdir as workdir_lib
    from common.checkpoint import Checkpoints

    variables = variables or initial_of(task)[0]
    workdir.mkdir(parents=True, exist_ok=True)
    workdir_lib.save_config(task, workdir)
    workdir_lib.write_json(workdir / workdir_lib.RESULTS, {'finished': True})
    with Checkpoints(workdir) as checkpoints:
        checkpoints.save(7, {'average': variables})
    return workdir


def usage_code(marker):
    """The Python block of docs/usage.md that contains `marker`."""
    text = (ROOT / 'docs' / 'usage.md').read_text()
    (code,) = (block for block in re.findall(r'```python\n(.*?)```', text, re.DOTALL) if marker in block)
    return code


def command_without_tensorflow(*args):
    """main.py for a process where TensorFlow, which takes seconds to import, is not installed; run it in ROOT."""
    return [sys.executable, '-c', WITHOUT_TENSORFLOW, *map(str, args)]


def leave_out_figures(patch):
    """Lets runs draw nothing, because drawing takes seconds."""
    patch.setattr('common.evaluate.Evaluation.figures', lambda *_: {})
    patch.setattr('common.report.figures.curves', lambda *_: None)
    patch.setattr('common.writers.Writer.images', lambda *_: None)


def train_steps(task, steps, *, devices=None, dispatch=1):
    """Trains for `steps` steps; returns the trainer, the final state, and the summary after each dispatch."""
    from common import parallel, train
    from common.data import batches

    devices = parallel.Devices(devices)
    trainer = train.Trainer(task, batches.Feed(task.load('train'), devices), devices)
    state, constants = devices.replicate(trainer.init())
    total, summaries = None, []
    for step in range(0, steps, dispatch):
        state, sums = trainer(state, constants, step, dispatch)
        total = trainer.total(total, sums, step)
        sums = jax.tree.map(np.asarray, total)
        summaries.append(task.summarize(sums['metrics']) | {'grad_norm': float(sums['grad_norm'])})
    return trainer, state, summaries


def stopped_run(task, workdir, step):
    """Starts a run and stops it by SIGTERM after `step` steps."""
    from common import train
    from common import workdir as workdir_lib
    from common.errors import Interrupted

    class StoppedRun(train.Run):
        def advance(self):
            super().advance()
            if self.step == step:
                signal.raise_signal(signal.SIGTERM)

    workdir.mkdir(parents=True, exist_ok=True)
    workdir_lib.init_workdir(task, workdir)
    with train.StopRequest() as stop, pytest.raises(Interrupted, match=f'step {step} by SIGTERM') as caught:
        StoppedRun(task, workdir, stop).go()
    assert caught.value.signum == signal.SIGTERM


def saved_arrays(workdir):
    """All arrays of the latest checkpoint."""
    from common.checkpoint import Checkpoints

    items = {name: ocp.args.StandardRestore() for name in ('average', 'training')}
    with Checkpoints(workdir, read_only=True) as checkpoints:
        saved = checkpoints.manager.restore(checkpoints.latest_step(), args=ocp.args.Composite(**items))
    return jax.tree.map(np.asarray, dict(saved))


def metric_lines(workdir):
    """The lines of metrics.jsonl without times and speeds."""
    from common.writers import read_metrics

    return [
        {name: value for name, value in line.items() if name not in ('images_per_second', 'seconds')}
        for line in read_metrics(workdir)
    ]


def run_command(args):
    """Runs a command in this process; returns its exit code."""
    from common import cli
    import main

    argv = ['main.py', *map(str, args)]
    known = set(flags.FLAGS)
    with pytest.MonkeyPatch.context() as patch, flagsaver.flagsaver():
        patch.setattr(sys, 'argv', argv)  # ml_collections looks there for --config.* flags.
        code = cli.run(main.main, argv)
    for name in set(flags.FLAGS) - known:
        delattr(flags.FLAGS, name)
    return code
