"""The classifiers that a VAE accepts, and the copies that its run keeps."""

import shutil

import pytest

from common import workdir as workdir_lib
from common.config import filled
from common.errors import UserError
from configs import vae_mnist
from main import make_task
from vae.task import VAETask


@pytest.fixture
def config(vae_runs):
    config = vae_mnist.get_config('demo')
    config.update({'classifier_workdir': str(vae_runs / 'classifier'), 'judge_workdir': str(vae_runs / 'judge')})
    config.data.image_size = 16
    return config


def init(config, workdir):
    """Creates a work directory as the start of a run does."""
    with workdir_lib.locked(workdir):
        workdir_lib.init_workdir(VAETask(config), workdir)


def test_missing_classifier_is_named_with_its_command(config, tmp_path, monkeypatch):
    (tmp_path / 'configs').mkdir()
    (tmp_path / 'configs' / 'classifier_mnist.py').touch()
    monkeypatch.chdir(tmp_path)  # So that runs/ holds no results of the demo.
    config.classifier_workdir = 'runs/classifier_mnist_demo'
    with pytest.raises(UserError, match=r'train it first: python main.py --config=configs/classifier_mnist.py:demo'):
        _ = VAETask(config).classifiers


def test_missing_classifier_is_not_replaced_by_an_earlier_copy(config, tmp_path):
    init(config, tmp_path)
    for name in ('', 'nowhere'):
        config.judge_workdir = name
        with pytest.raises(UserError, match=f"judge_workdir is '{name}', where no trained run is; name the folder"):
            init(config, tmp_path)


def test_unfinished_classifier_is_refused(config, vae_runs, tmp_path):
    shutil.copytree(vae_runs / 'judge', tmp_path / 'judge')
    workdir_lib.write_json(tmp_path / 'judge' / 'results.json', {'step': 4, 'finished': False})
    config.judge_workdir = str(tmp_path / 'judge')
    with pytest.raises(UserError, match='judge_workdir: the run in .* is not finished'):
        init(config, tmp_path / 'vae')


def test_run_of_another_task_is_refused_as_classifier(config, vae_runs):
    config.classifier_workdir = str(vae_runs / 'vae')
    with pytest.raises(UserError, match='is no classifier'):
        _ = VAETask(config).classifiers


@pytest.mark.parametrize(
    'key, value, message',
    [('image_size', 32, 'images of another shape'), ('classes', tuple('abcdefghij'), 'predicts other classes')],
)
def test_classifier_for_other_images_is_refused(config, key, value, message):
    config.data[key] = value
    with pytest.raises(UserError, match=f'classifier_workdir: the classifier in .* {message}'):
        _ = VAETask(config).classifiers


@pytest.mark.parametrize('key, value', [('name', 'mnist'), ('dir', 'other'), ('test_share', 0.3)])
def test_classifier_with_another_split_is_refused_for_training(config, vae_runs, tmp_path, key, value):
    judge = tmp_path / 'judge'
    shutil.copytree(vae_runs / 'judge', judge)
    folders = {name: tmp_path / name for name in ('pictures', 'other')}
    for folder in folders.values():
        folder.mkdir()
    data = {'data.name': 'folder', 'data.dir': str(folders['pictures']), 'data.test_share': 0.2}
    stored = filled(workdir_lib.load_config(judge), data)
    (judge / 'config.json').write_text(stored.to_json_best_effort())
    config.update({'classifier_workdir': str(judge), 'judge_workdir': str(judge)})
    config.update_from_flattened_dict(data | {f'data.{key}': str(folders.get(value, value)) if key == 'dir' else value})
    with pytest.raises(UserError, match=f'the run in .* was trained with data.{key} = .*, not .*{value}; name one'):
        workdir_lib.copy_runs(config, tmp_path / 'vae')
    folders['pictures'].rmdir()  # As if it had moved.
    if key == 'dir':
        workdir_lib.copy_runs(config, tmp_path / 'vae')


def test_classifier_of_other_data_does_for_evaluation(config):
    config.data.name = 'mnist'
    assert set(VAETask(config).classifiers) == {'frozen', 'judge'}


@pytest.mark.parametrize('key', ['classifier_workdir', 'second_workdir'])
def test_judge_that_began_as_a_frozen_classifier_is_refused(config, vae_runs, tmp_path, key):
    shutil.copytree(vae_runs / 'judge', tmp_path / 'judge')
    stored = filled(workdir_lib.load_config(tmp_path / 'judge'), {'num_epochs': 1000})
    (tmp_path / 'judge' / 'config.json').write_text(stored.to_json_best_effort())
    config[key] = str(tmp_path / 'judge')
    with pytest.raises(UserError, match=f'judge_workdir: it has the architecture and the seed of the run of {key}'):
        _ = VAETask(config).classifiers


def test_second_classifier_equal_to_the_first_is_refused(config):
    config.second_workdir = config.classifier_workdir
    with pytest.raises(UserError, match='second_workdir: it is the same run'):
        _ = VAETask(config).classifiers


def test_run_uses_its_copy_of_a_classifier_with_a_notice(config, vae_runs, tmp_path, capsys):
    init(config, tmp_path)
    init(config, tmp_path)
    assert not capsys.readouterr().err
    config.judge_workdir = str(vae_runs / 'classifier')
    assert workdir_lib.load_matching(config, tmp_path, make_task).config.judge_workdir == str(tmp_path / 'judge')
    (tmp_path / 'checkpoints' / '1').mkdir(parents=True)
    init(config, tmp_path)
    assert capsys.readouterr().err.count('judge_workdir: the run keeps its copy') == 2
    assert workdir_lib.use_local_copies(config, tmp_path).judge_workdir == str(tmp_path / 'judge')


def test_run_without_its_copy_of_a_classifier_is_refused(config, tmp_path):
    init(config, tmp_path)
    (tmp_path / 'checkpoints' / '1').mkdir(parents=True)
    shutil.rmtree(tmp_path / 'judge')
    with pytest.raises(UserError, match='judge, with which this run was begun, is gone'):
        init(config, tmp_path)


@pytest.mark.parametrize('before, after', [('', 'classifier'), ('classifier', '')])
def test_number_of_frozen_classifiers_is_that_of_the_run(config, vae_runs, tmp_path, before, after):
    config.second_workdir = before and str(vae_runs / before)
    init(config, tmp_path)
    (tmp_path / 'checkpoints' / '1').mkdir(parents=True)
    config.second_workdir = after and str(vae_runs / after)
    with pytest.raises(UserError, match='belongs to another configuration: second_workdir was .* and is now '):
        init(config, tmp_path)


def test_classifier_that_has_seen_held_out_images_is_noticed(config, tmp_path, capsys):
    config.data.validation_examples = 5
    init(config, tmp_path)
    assert capsys.readouterr().err.count('was trained on images that are held out for validation here') == 2


def test_second_start_does_not_change_the_configuration(config, tmp_path):
    init(config, tmp_path)
    before = (tmp_path / 'config.json').read_bytes()
    config.seed += 1
    with workdir_lib.locked(tmp_path), pytest.raises(UserError, match='another run is at work'):
        init(config, tmp_path)
    assert (tmp_path / 'config.json').read_bytes() == before


def test_incomplete_copy_of_a_classifier_is_made_again(config, tmp_path, vae_runs):
    half = tmp_path / 'classifier'
    shutil.copytree(vae_runs / 'classifier' / 'checkpoints', half / 'checkpoints')
    next((half / 'checkpoints').rglob('_METADATA')).unlink()
    init(config, tmp_path)
    assert VAETask(workdir_lib.use_local_copies(config, tmp_path)).constants().keys() == {'frozen', 'judge'}
