"""Which classifiers a VAE takes, and that a run keeps to those with which it began."""

import shutil

import pytest

from common import config as config_lib
from common.errors import UserError
from configs import vae_mnist
from vae.task import VAETask


@pytest.fixture
def config(vae_runs):
    config = vae_mnist.get_config('demo')
    config.update({'classifier_workdir': str(vae_runs / 'classifier'), 'judge_workdir': str(vae_runs / 'judge')})
    config.data.image_size = 16
    return config


def test_missing_classifier_is_said_with_the_command_that_trains_it(config, tmp_path, monkeypatch):
    (tmp_path / 'configs').mkdir()
    (tmp_path / 'configs' / 'classifier_mnist.py').touch()
    monkeypatch.chdir(tmp_path)  # Away from what the demo may have left in runs/.
    config.classifier_workdir = 'runs/classifier_mnist_demo'
    with pytest.raises(UserError, match=r'train it first: python main.py --config=configs/classifier_mnist.py:demo'):
        _ = VAETask(config).readers


def test_classifier_that_does_not_exist_is_not_replaced_by_an_earlier_copy(config, tmp_path):
    config_lib.adopt(config, tmp_path)
    for name in ('', 'nowhere'):
        config.judge_workdir = name
        with pytest.raises(UserError, match=f"judge_workdir is '{name}', where no trained run is; name the folder"):
            config_lib.adopt(config, tmp_path)


def test_classifier_that_is_not_finished_is_refused(config, vae_runs, tmp_path):
    shutil.copytree(vae_runs / 'judge', tmp_path / 'judge')
    config_lib.write_json(tmp_path / 'judge' / 'results.json', {'step': 4, 'finished': False})
    config.judge_workdir = str(tmp_path / 'judge')
    with pytest.raises(UserError, match='judge_workdir: the run in .* has not come to its end'):
        config_lib.adopt(config, tmp_path / 'vae')


def test_run_that_is_no_classifier_is_refused(config, vae_runs):
    config.classifier_workdir = str(vae_runs / 'vae')
    with pytest.raises(UserError, match='is no classifier'):
        _ = VAETask(config).readers


@pytest.mark.parametrize('key, value, message', [
    ('image_size', 32, 'images of another shape'), ('name', 'mnist', 'trained on synthetic_digits, not on mnist')])
def test_classifier_of_other_images_is_refused(config, key, value, message):
    config.data[key] = value
    with pytest.raises(UserError, match=f'classifier_workdir: the classifier in .* {message}'):
        _ = VAETask(config).readers


def test_judge_that_is_the_frozen_classifier_is_refused(config, vae_runs):
    config.judge_workdir = str(vae_runs / 'classifier')
    with pytest.raises(UserError, match='the judge is the frozen classifier once more'):
        _ = VAETask(config).readers


def test_run_that_keeps_to_its_copy_of_a_classifier_says_so(config, vae_runs, tmp_path, capsys):
    config_lib.adopt(config, tmp_path)
    config_lib.adopt(config, tmp_path)
    assert not capsys.readouterr().err
    config.judge_workdir = str(vae_runs / 'classifier')
    assert config_lib.agreed(config.copy_and_resolve_references(), tmp_path).judge_workdir == str(tmp_path / 'judge')
    (tmp_path / 'checkpoints' / '1').mkdir(parents=True)
    config_lib.adopt(config, tmp_path)
    assert capsys.readouterr().err.count('judge_workdir: the run keeps to its copy') == 2
    assert config_lib.at_home(config, tmp_path).judge_workdir == str(tmp_path / 'judge')


def test_run_whose_copy_of_a_classifier_is_gone_does_not_go_on_with_another(config, tmp_path):
    config_lib.adopt(config, tmp_path)
    (tmp_path / 'checkpoints' / '1').mkdir(parents=True)
    shutil.rmtree(tmp_path / 'judge')
    with pytest.raises(UserError, match='judge, with which this run was begun, is gone'):
        config_lib.adopt(config, tmp_path)


def test_running_run_keeps_its_configuration(config, tmp_path):
    config_lib.adopt(config, tmp_path)
    before = (tmp_path / 'config.json').read_bytes()
    config.seed += 1
    with config_lib.locked(tmp_path), pytest.raises(UserError, match='another run is at work'):
        config_lib.adopt(config, tmp_path)
    assert (tmp_path / 'config.json').read_bytes() == before


def test_copy_of_a_classifier_that_is_not_whole_is_made_again(config, tmp_path, vae_runs):
    half = tmp_path / 'classifier'
    shutil.copytree(vae_runs / 'classifier' / 'checkpoints', half / 'checkpoints')
    next((half / 'checkpoints').rglob('_METADATA')).unlink()
    config_lib.adopt(config, tmp_path)
    assert VAETask(config_lib.at_home(config, tmp_path)).constants().keys() == {'classifier', 'judge'}
