"""TensorBoard: what the event files hold, and what TensorBoard itself makes of them."""

import contextlib
import json
import re
import subprocess
import sys
import time
import urllib.parse
import urllib.request

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from tensorboard.util import tensor_util

from common import tensorboard, train
from common.writers import read_metrics
from configs import classifier_mnist, unet_mp_tr_ce
from main import make_task
from tests.helpers import make_tiny_task, shrink

METRICS = {
    'headline/loss',
    'headline/pixel_accuracy',
    'headline/mean_iou',
    'metrics/mean_dice',
    *(f'per_class/{metric}/{name}' for metric in ('dice', 'iou') for name in ('pet', 'background', 'border')),
}
TAGS = {
    '.': {'parameters', '_hparams_/session_start_info'},
    'train': METRICS | {'training/grad_norm', 'training/images_per_second', 'training/learning_rate'},
    'validation': METRICS,
    'test': METRICS | {'metrics/train_loss', 'pictures/curves', 'pictures/predictions'},
}
SPLITS = ('train', 'validation', 'test')
SECONDS = 120  # TensorBoard may take this long to start and to read.


@pytest.fixture(scope='module')
def workdir(tmp_path_factory):
    """A finished run with validation examples."""
    workdir = tmp_path_factory.mktemp('runs') / 'tiny'
    config = shrink(unet_mp_tr_ce.get_config('demo'))
    config.data.validation_examples = 9
    train.train(make_tiny_task(config, validation=9), workdir)
    return workdir


def events_of(folder):
    events = EventAccumulator(str(folder), size_guidance={'tensors': 0})
    events.Reload()
    return events


def test_splits_have_the_same_tags_in_folders_of_their_own(workdir):
    found = {folder: {*events_of(workdir / folder).summary_metadata} for folder in TAGS}
    assert found == TAGS


@pytest.mark.parametrize('split', SPLITS)
def test_event_files_hold_the_values_of_the_metric_lines(workdir, split):
    events, tags = events_of(workdir / split), TAGS[split]
    lines = [line for line in read_metrics(workdir) if line['split'] == split]
    assert lines
    for tag in (tag for tag in tags if not tag.startswith('pictures/')):
        written = {event.step: float(tensor_util.make_ndarray(event.tensor_proto)) for event in events.Tensors(tag)}
        expected = {line['step']: line[name] for line in lines if (name := tag.partition('/')[2]) in line}
        assert written == pytest.approx(expected, rel=1e-6, nan_ok=True)


def test_hyper_parameters_are_listed_under_the_name_of_the_run(workdir):
    metadata = events_of(workdir).summary_metadata['_hparams_/session_start_info']
    info = HParamsPluginData.FromString(metadata.plugin_data.content).session_start_info
    assert info.group_name == str(workdir)
    assert info.hparams['model.width'].number_value == 4 and info.hparams['augment.flip'].bool_value
    assert info.hparams['model.multipliers'].string_value == '[1, 2]'


@pytest.mark.parametrize(
    'name, tag',
    [
        ('loss', 'headline/loss'),
        ('mse', 'metrics/mse'),
        ('style/slant/kept', 'metrics/style/slant/kept'),
        ('swap_accuracy/judge', 'metrics/swap_accuracy/judge'),
        ('swap_accuracy/judge/3', 'per_class/swap_accuracy/judge/3'),
    ],
)
def test_metrics_of_a_class_have_a_group(name, tag):
    assert tensorboard.tag(make_task(classifier_mnist.get_config()), name) == tag


def test_run_without_tensorflow_says_so_in_one_line(config, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, 'tensorflow', None)
    config.update({'num_epochs': 1, 'eval_every_epochs': 0})
    train.train(make_tiny_task(config), tmp_path)
    said = [line for line in capsys.readouterr().err.splitlines() if 'TensorFlow' in line]
    assert said == ['TensorFlow or TensorBoard is not installed: no events, only metrics.jsonl and figures']
    written = {path.name for path in tmp_path.iterdir()}
    assert {'metrics.jsonl', 'figures'} <= written and not {'train', 'test'} & written


@contextlib.contextmanager
def served(logdir):
    """A function that asks a TensorBoard for JSON."""
    command = [sys.executable, '-m', 'tensorboard.main', '--logdir', logdir, '--host=127.0.0.1', '--port=0']
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            url = next(found[0] for line in process.stderr if (found := re.search(r'http://127\.0\.0\.1:\d+/', line)))

            def ask(path, **request):
                query = f'?request={urllib.parse.quote(json.dumps(request))}' if request else ''
                with urllib.request.urlopen(f'{url}data/{path}{query}', timeout=SECONDS) as response:
                    return json.load(response)

            yield ask
        finally:
            process.terminate()


def test_tensorboard_shows_the_splits_as_runs_with_shared_tags(workdir):
    runs = {f'tiny/{split}': {tag for tag in TAGS[split] if not tag.startswith('pictures/')} for split in SPLITS}
    with served(workdir.parent) as ask:
        deadline = time.monotonic() + SECONDS
        while len(ask('runs')) < 4 and time.monotonic() < deadline:
            time.sleep(0.5)
        assert {*ask('runs')} == {'tiny', *runs}
        assert {run: {*tags} for run, tags in ask('plugin/scalars/tags').items()} == runs
        (group,) = ask(
            'plugin/hparams/session_groups', startIndex=0, sliceSize=9, colParams=[], allowedStatuses=['STATUS_UNKNOWN']
        )['sessionGroups']
        assert group['name'] == str(workdir)
