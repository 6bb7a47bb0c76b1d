"""The command line: whole runs in processes of their own, and messages for mistakes."""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import pytest

from common import cli
from configs import unet_mp_tr_ce
import main
from tests.helpers import run_command

ROOT = pathlib.Path(main.__file__).parent
CONFIG = f'--config={ROOT}/configs/unet_mp_tr_ce.py:demo'
TINY = [
    CONFIG,
    '--config.data.image_size=16',
    '--config.model.width=2',
    '--config.model.multipliers=(1,2)',
    '--config.num_epochs=6',
    '--config.batch_size=32',
    '--config.log_every_steps=2',
    '--config.eval_every_epochs=0',
    '--config.optimizer.name=adamw',  # Muon takes longer to compile.
]


def start(*args):
    return subprocess.Popen(
        [sys.executable, ROOT / 'main.py', *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {'JAX_NUM_CPU_DEVICES': '4'},
    )


def stop(command, workdir, signum):
    """Starts a run, sends it a signal once it trains, and returns the step of its last checkpoint."""
    metrics = workdir / 'metrics.jsonl'
    before = metrics.read_text() if metrics.exists() else ''
    process = start(*command)
    while not metrics.exists() or len(metrics.read_text()) <= len(before):
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)
    process.send_signal(signum)
    assert f'by {signum.name}; the state is saved' in process.communicate()[1].splitlines()[-1]
    assert process.returncode == 128 + signum
    return max(int(path.name) for path in (workdir / 'checkpoints').iterdir())


def test_run_can_be_stopped_resumed_and_evaluated(pets, tmp_path, capsys):
    command = [*TINY, f'--workdir={tmp_path}']
    assert 0 < stop(command, tmp_path, signal.SIGINT) < 96

    last = start(*command)
    printed, errors = last.communicate()
    assert last.returncode == 0, errors
    lines = [json.loads(line) for line in (tmp_path / 'metrics.jsonl').read_text().splitlines()]
    assert [line['step'] for line in lines if line['split'] == 'train'] == [*range(2, 97, 2)]
    for line in filter(str.strip, errors.splitlines()):  # Nothing of TensorFlow's, nor of any other library's.
        assert re.search(r'^step \d+  test: loss \S+  pixel_accuracy \S+  mean_iou \S+$| images/s', line.strip()), line

    assert {path.name for path in (tmp_path / 'figures').iterdir()} == {'curves.png', 'predictions.png'}
    results = (tmp_path / 'results.json').read_text()
    assert printed.startswith(results.strip()) and json.loads(results)['step'] == 96
    (tmp_path / 'results.json').unlink()
    assert run_command(['--mode=eval', f'--workdir={tmp_path}']) == 0
    assert capsys.readouterr().out.startswith(results.strip())
    assert (tmp_path / 'results.json').read_text() == results


@pytest.fixture
def other_run(tmp_path):
    """The work directory of a run with another configuration."""
    folder = tmp_path / 'other'
    (folder / 'checkpoints' / '7').mkdir(parents=True)
    config = unet_mp_tr_ce.get_config('demo')
    config.seed = 5
    (folder / 'config.json').write_text(config.to_json_best_effort())
    return folder


@pytest.mark.parametrize(
    'args, message',
    [
        ([], '--config=configs/unet_mp_tr_ce.py trains'),
        ([CONFIG, '--config.typo=1'], 'typo'),
        ([CONFIG, '--config.model.typo=1'], "no key 'typo'; its file lists them all"),
        ([CONFIG, '--config.optimizr.name=adamw'], "no key 'optimizr'; did you mean 'optimizer'?"),
        (
            [f'--config={ROOT}/configs/unet_mp_tr_ce.py', '--config.data.dir=new', '--config.data.manual_dir=nowhere'],
            "data.manual_dir is 'nowhere', which is no folder",
        ),
        ([CONFIG, '--config.seed=many'], 'seed'),
        ([CONFIG, '--config.optimizer.learning_rate=fast'], 'learning_rate'),
        ([CONFIG, '--config.data.image_size=100'], 'data.image_size to a multiple of 16'),
        ([CONFIG, '--config.batch_size=6'], 'choose a multiple of 4'),
        ([CONFIG, '--config.loss=mse'], "loss is 'mse'; choose one of"),
        ([CONFIG, '--config.data.name=no_such_pets'], 'no_such_pets'),
        ([f'--config={ROOT}/configs/none.py', '--config.seed=1'], 'the file in --config cannot be read'),
        ([f'--config={ROOT}/configs/unet_mp_tr_ce.py:tiny'], 'tiny'),
        (['--mode=sing'], 'sing'),
        (['--typo=1'], 'typo'),
        (['train'], "'train' is not a flag"),
        (['--mode=sweep', '--workdir=runs'], 'a sweep needs a configuration with AXES'),
        ([CONFIG, '--workdir=file'], 'no access to file'),
        ([CONFIG, '--workdir=file/run'], 'no access to file'),
        (['--mode=eval', '--workdir=nowhere'], 'nowhere holds no run'),
        (['--mode=predict', '--workdir=nowhere', '--input=x.jpg'], 'nowhere holds no run'),
        (['--mode=serve', '--workdir=nowhere', '--port=many'], 'port'),
        ([CONFIG, '--mode=export', '--workdir=other'], 'belongs to another configuration'),
        (
            [CONFIG, '--output=out'],
            '--mode=train has no --output, only data, report, predict, export, share; leave it out',
        ),
        (['--mode=eval', '--workdir=other', '--profile=3'], '--mode=eval has no --profile, only train'),
        (['--mode=report', '--workdir=other'], '--mode=report has no --workdir, only train'),
        ([CONFIG, '--mode=report'], '--mode=report has no --config, only train'),
        ([CONFIG, '--workdir=other'], 'belongs to another configuration'),
        ([CONFIG, '--config.init_from=gs://bucket/run'], "init_from is 'gs://bucket/run', where no trained run is"),
        (['--mode=report', '--runs=none/*'], 'none/*: it holds no run'),
        ([CONFIG, '--workdir=gs://bucket/run'], "--workdir is 'gs://bucket/run'; only local paths"),
        (
            ['--mode=predict', '--workdir=other', '--input=x.jpg', '--output=s3://b/o'],
            "--output is 's3://b/o'; only local",
        ),
        ([f'--config={ROOT}/configs/unet_folder.py'], 'data.dir is empty; name the folder'),
        (['--mode=data'], 'say what to do'),
        ([CONFIG, '--config.checkpoint.best=mean_iou'], 'needs validation examples'),
        ([CONFIG, '--config.class_weights=1,2'], 'a positive number for each of the 3'),
        ([CONFIG, '--config.class_weights=1,2,3', '--config.loss=dice'], 'class_weights are for cross-entropy'),
        (['--workdir=other', '--config.seed=6'], 'seed was 5 and is now 6'),
        ([CONFIG, '--mode=eval', '--workdir=other'], 'belongs to another configuration'),
    ],
)
def test_mistake_gets_one_line_and_exit_code_2(args, message, tmp_path, other_run, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'file').touch()
    code, printed = run_command(args), capsys.readouterr()
    (line,) = (line for line in printed.err.splitlines() if line.strip())
    assert code == 2 and line.startswith('error: ') and message in line
    assert 'Traceback' not in printed.err and not printed.out


@pytest.mark.parametrize(
    'mistake, message',
    [
        ('unet_mp_tr_ce.get_confg()', "AttributeError, module 'configs.unet_mp_tr_ce' has no attribute 'get_confg'"),
        ("{}['module']", "KeyError, 'module'"),
        ('unet_mp_tr_ce.get_config().modle', 'Did you mean "model"'),
    ],
)
def test_mistake_in_a_configuration_file_is_named(mistake, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'mine.py').write_text(f'from configs import unet_mp_tr_ce\ndef get_config():\n    return {mistake}\n')
    code, printed = run_command(['--config=mine.py', '--config.seed=1']), capsys.readouterr()
    assert code == 2 and 'the configuration does not load: ' in printed.err and message in printed.err


@pytest.mark.parametrize(
    'value, message',
    [
        ('loss=mse', "loss is 'mse'"),
        ('optimizer.name=best', "optimizer.name is 'best'"),
        ('batch_size=6', 'of 4'),
        ('optimizer.warmup_fraction=1.0', 'warmup_fraction is 1.0'),
        ('seed=4294967296', 'seed is 4294967296'),
    ],
)
def test_refused_configuration_leaves_no_work_directory(value, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code, printed = run_command([CONFIG, f'--config.{value}']), capsys.readouterr()
    assert code == 2 and message in printed.err and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    'arguments, found',
    [
        ([], ''),
        (['--workdir=runs/a=b'], 'runs/a=b'),
        (['-workdir', 'runs/a', '--mode=eval'], 'runs/a'),
        (['--workdir=a', '--workdir=b'], 'b'),
        (['--workdir'], ''),
        (['--workdirs=a'], ''),
    ],
)
def test_last_work_directory_is_found_in_either_form(arguments, found):
    assert cli.workdir_in(['main.py', *arguments]) == found


def test_home_folder_is_found(monkeypatch, tmp_path):
    monkeypatch.setenv('HOME', str(tmp_path))
    assert cli.local_path('~/run', '--workdir') == tmp_path / 'run'


@pytest.mark.parametrize(
    'variable, value, message',
    [
        ('JAX_PLATFORMS', 'cuda', "JAX_PLATFORMS is 'cuda'"),
        ('JAX_PLATFORMS', 'gpuu', "JAX_PLATFORMS is 'gpuu'"),
        ('JAX_PLATFORM_NAME', 'gpu', "; JAX_PLATFORM_NAME is 'gpu'"),
        ('JAX_ENABLE_X64', 'sure', "truth value 'sure' for environment 'JAX_ENABLE_X64'"),
    ],
)
def test_environment_that_jax_refuses_gets_one_line(variable, value, message, tmp_path):
    command = [sys.executable, ROOT / 'main.py', CONFIG, f'--workdir={tmp_path / "run"}']
    environment = {name: text for name, text in os.environ.items() if not name.startswith('JAX_PLATFORM')}
    result = subprocess.run(command, capture_output=True, text=True, env=environment | {variable: value})
    assert result.returncode == 2 and not (tmp_path / 'run').exists()
    assert message in result.stderr and len(result.stderr.splitlines()) == 1
