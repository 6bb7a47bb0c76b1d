"""Several processes on one machine, joined through jax.distributed, compared with one process."""

import json
import os
import signal
import socket
import subprocess
import time

import jax
import pytest

from common import parallel
from common.errors import UserError
from common.evaluate import numbers
from common.writers import read_metrics
from tests.helpers import ROOT, command_without_tensorflow, metric_lines, run_command

EPOCH = 32  # Steps.
EVALUATED = 64  # The step at the end of the second epoch.
LOGGED = 5
PATIENCE = 300  # Seconds; processes that share two cores are slow.
SMALL = [
    f'--config={ROOT}/configs/unet_mp_tr_ce.py:demo',
    '--config.num_epochs=4',
    f'--config.log_every_steps={LOGGED}',
    '--config.data.image_size=16',
    '--config.model.width=4',
    '--config.model.multipliers=(1,1)',
    '--config.batch_size=16',
    '--config.eval_every_epochs=2',
    '--config.optimizer.name=sgd',  # Muon and Adam enlarge rounding errors, as does a rate of 0.1.
    '--config.optimizer.learning_rate=0.01',
]


def start(workdir, processes, devices, *args):
    """Starts the processes of one run, each with `devices` virtual devices."""
    with socket.socket() as free:
        free.bind(('localhost', 0))
        address = f'localhost:{free.getsockname()[1]}'
    flags = f'{os.environ["XLA_FLAGS"]} --xla_force_host_platform_device_count={devices}'
    command = command_without_tensorflow(*SMALL, f'--workdir={workdir}', *args)
    joins = [[f'--distributed={address},{processes},{number}'] if processes > 1 else [] for number in range(processes)]
    environment = os.environ | {'XLA_FLAGS': flags}
    return [
        subprocess.Popen(
            [*command, *join], cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        for join in joins
    ]


def finish(started):
    """The exit codes and the output of all processes."""
    ends = [(process.communicate(timeout=PATIENCE)[0], process.returncode) for process in started]
    return [code for _, code in ends], [text for text, _ in ends]


def wait_for(condition, started):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert all(process.poll() is None for process in started), finish(started)
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_run_of_two_processes_survives_a_kill_and_a_signal(pets, no_figures, tmp_path):
    """One of two processes gets kill -9, one of the next two gets SIGTERM, and a single one finishes the run.

    Two processes train and evaluate as one does, here this process with four devices. Checkpoints and the signal lie
    between two logged steps.
    """
    alone, workdir = tmp_path / 'alone', tmp_path / 'together'
    assert jax.device_count() == 4 and run_command([*SMALL, f'--workdir={alone}']) == 0
    results, expected = json.loads((alone / 'results.json').read_text()), metric_lines(alone)
    assert EPOCH % LOGGED and EVALUATED % LOGGED

    def last_step():
        return max((line['step'] for line in read_metrics(workdir)), default=0)

    pair = start(workdir, 2, 2)
    wait_for(lambda: last_step() > EPOCH, pair)
    pair[1].kill()
    codes, texts = finish(pair)
    assert codes[0] not in (0, 2), texts
    # Either the failed collective or JAX's heartbeat reports it first.
    assert 'another process of this run has gone' in texts[0] or 'another task died' in texts[0], texts
    assert last_step() < EVALUATED

    pair = start(workdir, 2, 2)
    wait_for(lambda: last_step() > EVALUATED, pair)
    pair[1].send_signal(signal.SIGTERM)
    codes, texts = finish(pair)
    assert codes == [143, 143] and all('SIGTERM; the state is saved' in text for text in texts), texts
    assert last_step() < results['step']
    assert (EVALUATED, 'test') in [(line['step'], line['split']) for line in read_metrics(workdir)]

    assert run_command([*SMALL, f'--workdir={workdir}']) == 0
    lines = metric_lines(workdir)
    assert [(line['step'], line['split']) for line in lines] == [(line['step'], line['split']) for line in expected]
    for found, line in zip(lines, expected, strict=True):
        assert numbers(found) == pytest.approx(numbers(line), rel=1e-3, abs=1e-3), line['step']

    path = workdir / 'results.json'
    of_one = json.loads(path.read_text())
    assert numbers(of_one) == pytest.approx(numbers(results), rel=1e-3, abs=1e-3)
    path.unlink()
    codes, texts = finish(start(workdir, 2, 2, '--mode=eval'))
    assert codes == [0, 0] and (workdir / 'figures' / 'predictions.png').exists(), texts
    assert numbers(json.loads(path.read_text())) == pytest.approx(numbers(of_one), rel=1e-5)


def test_failed_join_is_reported_in_one_line(tmp_path):
    codes, texts = finish(start(tmp_path, 1, 1, '--distributed=auto'))
    assert codes == [2] and 'cannot join the other processes' in texts[0], texts


def test_mistyped_address_is_named():
    with pytest.raises(UserError, match='cannot join the other processes.*HOST:PORT,COUNT,ID'):
        parallel.join('localhost:1,two,0')
