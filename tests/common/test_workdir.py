"""Work directories: the stored configuration, and refusal of other runs."""

import errno
import pathlib

import pytest

from common import config as config_lib
from common import workdir as workdir_lib
from common.errors import UserError
import main
from tests.helpers import save


def test_config_is_restored_unchanged(config, tmp_path):
    save(config, tmp_path / 'runs' / 'one')
    assert config_lib.flatten(workdir_lib.load_config(tmp_path / 'runs' / 'one')) == config_lib.flatten(config)


def test_work_directory_of_another_config_is_refused(config, tmp_path):
    save(config, tmp_path)
    (tmp_path / 'checkpoints' / '5').mkdir(parents=True)
    config.model.width = 6
    with pytest.raises(UserError, match='another configuration: model.width was 4 and is now 6.*--workdir'):
        save(config, tmp_path)
    assert workdir_lib.load_config(tmp_path).model.width == 4


def test_config_may_change_before_the_first_checkpoint(config, tmp_path):
    save(config, tmp_path)
    config.model.width = 6
    save(config, tmp_path)
    assert workdir_lib.load_config(tmp_path).model.width == 6


@pytest.mark.parametrize(
    'key, value', [('data.dir', '/elsewhere'), ('data.manual_dir', '/elsewhere'), ('eval_batch_size', 3)]
)
def test_what_changes_no_result_may_change(config, tmp_path, key, value):
    save(config, tmp_path)
    (tmp_path / 'checkpoints' / '5').mkdir(parents=True)
    config.update_from_flattened_dict({key: value})
    save(config, tmp_path)
    assert config_lib.flatten(workdir_lib.load_config(tmp_path))[key] == value


def test_best_state_goes_with_the_checkpoints_it_belongs_to(config, tmp_path):
    task, kept = main.make_task(config), tmp_path / 'best' / 'checkpoints' / '3'
    save(config, tmp_path)
    (tmp_path / 'checkpoints' / '5').mkdir(parents=True)
    kept.mkdir(parents=True)
    workdir_lib.init_workdir(task, tmp_path)
    assert kept.exists()
    (tmp_path / 'checkpoints' / '5').rmdir()
    workdir_lib.init_workdir(task, tmp_path)
    assert not kept.exists()


def test_changed_training_data_are_refused(tmp_path, capsys):
    data = {'train_examples': 24, 'train_checksum': '0a1b2c3d'}
    workdir_lib.check_same_data(tmp_path, data)
    workdir_lib.write_json(tmp_path / 'run.json', {'jax': '0.10'})  # By an earlier version.
    workdir_lib.check_same_data(tmp_path, data)
    assert not capsys.readouterr().err
    (tmp_path / 'run.json').write_text('[]')
    workdir_lib.check_same_data(tmp_path, data)
    assert 'run.json is damaged' in capsys.readouterr().err
    workdir_lib.write_json(tmp_path / 'run.json', data)
    workdir_lib.check_same_data(tmp_path, data)
    with pytest.raises(UserError, match='train_examples was 24 and is now 26'):
        workdir_lib.check_same_data(tmp_path, data | {'train_examples': 26})
    with pytest.raises(UserError, match='train_checksum was 0a1b2c3d and is now 0a1b2c3e'):
        workdir_lib.check_same_data(tmp_path, data | {'train_checksum': '0a1b2c3e'})


@pytest.mark.parametrize('text', ['{"seed": 0', '', '[]', b'\xff\xfe'])
def test_damaged_config_is_named_in_one_line(tmp_path, text):
    (tmp_path / 'config.json').write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match='config.json cannot be read') as caught:
        workdir_lib.load_config(tmp_path)
    assert '\n' not in str(caught.value)


def test_work_directory_without_a_run_is_named(tmp_path):
    with pytest.raises(UserError, match='holds no run.*--workdir'):
        workdir_lib.load_config(tmp_path)


def test_work_directory_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(UserError, match='no access to .*--workdir'), workdir_lib.locked(tmp_path / 'file' / 'run'):
        pass


def test_what_is_not_in_the_work_directory_is_no_reason_for_another(tmp_path):
    with pytest.raises(UserError, match=r'no access to .*photo.jpg \(denied\); mend that and start again$'):
        with workdir_lib.locked(tmp_path / 'run'):
            raise PermissionError(errno.EACCES, 'denied', str(tmp_path / 'photo.jpg'))


def test_other_work_directory_is_advised_where_that_helps(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in ('run/metrics.jsonl', tmp_path / 'run' / 'checkpoints', '.'):
        with pytest.raises(UserError, match='no access to .*, or choose another --workdir$'):
            with workdir_lib.locked(pathlib.Path('run')):
                raise PermissionError(errno.EACCES, 'denied', str(path))


def test_file_system_without_locks_is_used_with_a_notice(tmp_path, monkeypatch, capsys):
    def refuse(*_):
        raise OSError(errno.ENOLCK, 'No locks available')

    monkeypatch.setattr(workdir_lib.fcntl, 'flock', refuse)
    with workdir_lib.locked(tmp_path):
        assert 'without locks' in capsys.readouterr().err


def test_incomplete_checkpoint_does_not_fix_the_config(config, tmp_path):
    save(config, tmp_path)
    (tmp_path / 'checkpoints' / '4.orbax-checkpoint-tmp').mkdir(parents=True)
    config.seed += 1
    save(config, tmp_path)
    (tmp_path / 'checkpoints' / '4').mkdir()
    config.seed += 1
    with pytest.raises(UserError, match='belongs to another configuration'):
        save(config, tmp_path)


def test_longer_run_is_told_how_to_start_from_this_one(config, tmp_path):
    save(config, tmp_path)
    (tmp_path / 'checkpoints' / '5').mkdir(parents=True)
    config.num_epochs = 50
    with pytest.raises(UserError, match=rf'num_epochs was 2 and is now 50.*--config.init_from={tmp_path} --workdir='):
        save(config, tmp_path)


def test_what_is_left_to_the_data_is_as_the_run_has_it(config, tmp_path):
    save(config, tmp_path)
    stored = workdir_lib.load_config(tmp_path)
    config.data.update({'classes': (), 'mask_values': (), 'colors': ()})
    (tmp_path / 'checkpoints' / '5').mkdir(parents=True)
    task = workdir_lib.filled_from_data(main.make_task(config), tmp_path)
    assert config_lib.flatten(task.config) == config_lib.flatten(stored)
    config.class_weights = 'balanced'
    stored.class_weights = '1,2,3'
    workdir_lib.write_json(tmp_path / 'config.json', stored.to_dict())
    assert workdir_lib.filled_from_data(main.make_task(config), tmp_path).config.class_weights == '1,2,3'


def test_balanced_weights_are_not_those_of_a_run_without_weights(config, tmp_path):
    save(config, tmp_path)
    (tmp_path / 'checkpoints' / '5').mkdir(parents=True)
    config.class_weights = 'balanced'
    with pytest.raises(UserError, match="class_weights was '' and is now 'balanced'"):
        save(config, tmp_path)
    stored = workdir_lib.load_config(tmp_path)
    assert config_lib.with_stored(config, stored).class_weights == 'balanced'


def test_other_folder_of_pictures_needs_another_work_directory(config, tmp_path):
    for name in ('old', 'new'):
        (tmp_path / name).mkdir()
    config.data.update({'name': 'folder', 'dir': str(tmp_path / 'old')})
    workdir = tmp_path / 'run'
    save(config, workdir)
    (workdir / 'checkpoints' / '5').mkdir(parents=True)
    save(config, workdir)
    config.data.dir = str(tmp_path / 'new')
    with pytest.raises(UserError, match='is trained on the pictures in .*old; choose another --workdir'):
        save(config, workdir)
    (tmp_path / 'old').rename(tmp_path / 'moved')
    save(config, workdir)
