"""--profile: the steps that a trace holds."""

import gzip
import json

import pytest

from common import train
from tests.helpers import make_tiny_task, run_command

pytestmark = pytest.mark.usefixtures('no_figures')


def traced_steps(workdir):
    """The numbers of the training steps in the only trace of a work directory; its bytes for TensorBoard must exist."""
    (path,) = workdir.glob('plugins/profile/*/*.trace.json.gz')
    assert len(list(path.parent.glob('*.xplane.pb'))) == 1
    events = json.loads(gzip.decompress(path.read_bytes()))['traceEvents']
    return sorted(int(event['args']['step_num']) for event in events if event.get('name') == 'train')


def test_trace_holds_the_steps_after_the_first(config, tmp_path, capsys):
    train.train(make_tiny_task(config), tmp_path, profile=3)
    assert traced_steps(tmp_path) == [1, 2, 3]
    assert capsys.readouterr().err.count('a trace of training steps is in') == 1


def test_trace_of_more_steps_than_are_left_ends_with_the_run(config, tmp_path):
    config.num_epochs = 1
    results = train.train(make_tiny_task(config), tmp_path, profile=100)
    assert traced_steps(tmp_path) == [*range(1, results['step'])]


def test_negative_number_of_steps_is_refused(capsys):
    assert run_command(['--profile=-1']) == 2
    assert 'profile' in capsys.readouterr().err
