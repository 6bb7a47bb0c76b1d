"""kill -9 at random moments, also while a checkpoint is written. `make soak` kills many more times.

The processes have no TensorFlow; the run that they are compared with has.
"""

import os
import random
import signal
import subprocess
import time

import pytest

from common import train
from tests.helpers import ROOT, command_without_tensorflow, metric_lines, run_command

KILLS = int(os.environ.get('KILLS', '1'))
EPOCHS = 4 * (KILLS + 1)  # Each has 16 steps and ends with a checkpoint.


def arguments(workdir):
    return [
        f'--config={ROOT}/configs/unet_mp_tr_ce.py:demo',
        f'--config.num_epochs={EPOCHS}',
        '--config.data.image_size=16',
        '--config.model.width=4',
        '--config.model.multipliers=(1,1)',
        '--config.batch_size=32',
        '--config.eval_every_epochs=0',
        '--config.log_every_steps=1',
        '--config.optimizer.name=adamw',  # Muon takes longer to compile.
        f'--workdir={workdir}',
    ]


def start(workdir):
    command, environment = command_without_tensorflow(*arguments(workdir)), os.environ | {'JAX_NUM_CPU_DEVICES': '4'}
    with (workdir.parent / f'{workdir.name}.log').open('a') as log:
        return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)


def is_saving(workdir):
    return any('tmp' in path.name for path in (workdir / 'checkpoints').glob('*'))


def has_begun(workdir, before):
    """Whether the run has rewritten metrics.jsonl, which it does at its start."""
    path = workdir / 'metrics.jsonl'
    return path.exists() and path.stat().st_ino != before


def wait_until(condition, process):
    while not condition() and process.poll() is None:
        time.sleep(0.001)


def kill_once(workdir, chance, in_save):
    """Starts the run and kills it as soon as it saves, or at a random moment; returns whether it was saving."""
    path = workdir / 'metrics.jsonl'
    before = path.stat().st_ino if path.exists() else None
    process = start(workdir)
    wait_until(lambda: has_begun(workdir, before), process)
    if in_save:
        wait_until(lambda: is_saving(workdir), process)
    else:
        time.sleep(chance.uniform(0, 0.5))
    process.kill()
    assert process.wait() == -9, 'the run ended before it was killed; raise EPOCHS'
    return is_saving(workdir)


def test_killed_run_resumes_with_equal_metrics(pets, tmp_path):
    whole, killed = tmp_path / 'whole', tmp_path / 'killed'
    assert run_command(arguments(whole)) == 0
    chance = random.Random(0)
    saving = [kill_once(killed, chance, not number or chance.random() < 0.5) for number in range(KILLS)]
    print(f'{KILLS} kills, {sum(saving)} of them while a checkpoint was being written')
    assert any(saving)
    assert start(killed).wait() == 0, (tmp_path / 'killed.log').read_text()[-2000:]
    assert metric_lines(killed) == metric_lines(whole)
    assert (killed / 'results.json').read_bytes() == (whole / 'results.json').read_bytes()


@pytest.fixture
def sigint():
    """Python's own handler of Ctrl-C, which background jobs of a shell ignore."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_second_signal_acts_at_once(sigint):
    with train.StopRequest() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(train.StopAsked):
            stop.poll()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)
