"""A shared copy is small, predicts as the run does, and does not resume."""

import shutil

import jax
import numpy as np
import pytest

from common import train
from common.checkpoint import Checkpoints
from common.errors import UserError
from common.serving import predict, share
from main import make_task
from tests.helpers import initial_of, save_run


@pytest.fixture
def run(tiny_task, tmp_path):
    """The work directory of a finished run, whose checkpoint also has what training goes on with."""
    workdir = save_run(tiny_task, tmp_path / 'run')
    variables = initial_of(tiny_task)[0]
    shutil.rmtree(workdir / 'checkpoints')
    with Checkpoints(workdir) as checkpoints:
        checkpoints.save(7, {'average': variables, 'training': {'params': variables['params']}})
    return workdir


def test_copy_has_averaged_weights_alone(run, tmp_path):
    folder = share.share(run, tmp_path / 'copy', make_task)
    assert {path.name for path in folder.iterdir()} == {'config.json', 'results.json', 'checkpoints'}
    with Checkpoints(folder, read_only=True) as checkpoints:
        stored = checkpoints.manager.item_metadata(checkpoints.latest_step())
    assert {*stored.keys()} == {'average', 'checksums'}
    original, copied = (predict.load(workdir, make_task).variables for workdir in (run, folder))
    jax.tree.map(np.testing.assert_array_equal, copied, original)


def test_copy_of_a_vae_has_its_classifiers(vae_runs, tmp_path):
    workdir, folder = tmp_path / 'vae', tmp_path / 'copy'
    shutil.copytree(vae_runs / 'vae', workdir)
    for name in ('classifier', 'judge'):
        shutil.copytree(vae_runs / name, workdir / name)
    share.share(workdir, folder, make_task)
    shutil.rmtree(workdir)
    task = predict.load(folder, make_task).task
    assert {task.config.classifier_workdir, task.config.judge_workdir} == {
        str(folder / 'classifier'),
        str(folder / 'judge'),
    }
    expected = predict.load(vae_runs / 'vae', make_task).task.constants()
    jax.tree.map(np.testing.assert_array_equal, task.constants(), expected)


def test_copy_does_not_resume(run, tiny_task, tmp_path):
    folder = share.share(run, tmp_path / 'copy', make_task)
    with pytest.raises(UserError, match='is a shared copy.*--config.init_from'):
        train.train(tiny_task, folder)


def test_unfinished_run_and_full_folder_are_refused(run, tmp_path):
    with pytest.raises(UserError, match='is not empty; choose another --output'):
        share.share(run, tmp_path, make_task)
    (run / 'results.json').unlink()
    with pytest.raises(UserError, match='is not finished'):
        share.share(run, tmp_path / 'copy', make_task)
    assert not (tmp_path / 'copy').exists()
