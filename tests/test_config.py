"""The configuration files, and what a work directory remembers of its own."""

import importlib
import pathlib

import jax
import jax.numpy as jnp
import pytest

from common import config as config_lib
from common.errors import UserError
from common.keys import Keys
from common.parallel import AXIS
import main

FILES = sorted(path.stem for path in (pathlib.Path(main.__file__).parent / 'configs').glob('unet_*.py'))


@pytest.mark.parametrize('variant', ['', 'demo'])
@pytest.mark.parametrize('file', FILES)
def test_config_traces(file, variant):
    config = importlib.import_module(f'configs.{file}').get_config(variant)
    task, size = main.make_task(config), config.data.image_size
    batch = {'image': jnp.zeros((1, 2, size, size, 3), jnp.uint8), 'index': jnp.zeros((1, 2), int),
             'labels': jnp.zeros((1, 2, size, size), jnp.uint8)}

    def first_loss(batch, key):
        variables, constants = task.init(key)
        loss, (batch_stats, sums) = task.loss(variables['params'], variables['batch_stats'], constants, batch,
                                              Keys(key, 0), task.stage(0))
        assert jax.tree.structure(batch_stats) == jax.tree.structure(variables['batch_stats'])
        return loss, sums

    loss, sums = jax.eval_shape(jax.vmap(first_loss, (0, None), axis_name=AXIS), batch, jax.random.key(0))
    assert loss.shape == (1,) and 'loss' in sums


def test_files_differ_in_what_their_names_say():
    configs = [config_lib.flatten(importlib.import_module(f'configs.{file}').get_config()) for file in FILES]
    differing = {key for key in configs[0] if len({str(config[key]) for config in configs}) > 1}
    assert len({str(config) for config in configs}) == len(FILES)
    assert differing == {'loss', 'model.down', 'model.up'}


@pytest.mark.parametrize('file', FILES)
def test_unknown_variant_is_refused(file):
    with pytest.raises(UserError, match="'tiny'; choose one of .*demo"):
        importlib.import_module(f'configs.{file}').get_config('tiny')


def test_config_survives_its_work_directory(config, tmp_path):
    config_lib.save(config, tmp_path / 'runs' / 'one')
    assert config_lib.flatten(config_lib.load(tmp_path / 'runs' / 'one')) == config_lib.flatten(config)


def test_work_directory_of_another_config_is_refused(config, tmp_path):
    config_lib.save(config, tmp_path)
    (tmp_path / 'checkpoints' / '5').mkdir(parents=True)
    config.model.width = 6
    with pytest.raises(UserError, match='another configuration: model.width was 4 and is now 6.*--workdir'):
        config_lib.save(config, tmp_path)
    assert config_lib.load(tmp_path).model.width == 4


def test_work_directory_without_a_checkpoint_takes_another_config(config, tmp_path):
    config_lib.save(config, tmp_path)
    config.model.width = 6
    config_lib.save(config, tmp_path)
    assert config_lib.load(tmp_path).model.width == 6


@pytest.mark.parametrize('key', ['dir', 'manual_dir'])
def test_data_may_have_moved(config, tmp_path, key):
    config_lib.save(config, tmp_path)
    (tmp_path / 'checkpoints' / '5').mkdir(parents=True)
    config.data[key] = '/elsewhere'
    config_lib.save(config, tmp_path)
    assert config_lib.load(tmp_path).data[key] == '/elsewhere'


@pytest.mark.parametrize('text', ['{"seed": 0', '', '[]', b'\xff\xfe'])
def test_damaged_config_is_named_in_one_line(tmp_path, text):
    (tmp_path / 'config.json').write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match='config.json cannot be read') as caught:
        config_lib.load(tmp_path)
    assert '\n' not in str(caught.value)


def test_work_directory_without_a_run_is_named(tmp_path):
    with pytest.raises(UserError, match='holds no run.*--workdir'):
        config_lib.load(tmp_path)


def test_work_directory_that_cannot_be_written_is_named(config, tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(UserError, match='cannot write to .*--workdir'):
        config_lib.save(config, tmp_path / 'file' / 'run')


@pytest.mark.parametrize('change, message', [
    ({'loss': 'mse'}, "loss is 'mse'; choose one of 'cross_entropy', 'dice'"),
    ({'model.down': 'avg'}, 'model.down'), ({'model.up': 'nearest'}, 'model.up'),
    ({'model.width': 0}, 'width'), ({'model.multipliers': (1,)}, 'multipliers'),
    ({'data.image_size': 15}, 'data.image_size to a multiple of 2'),
    ({'augment.start_size': 32}, 'start_size 32 is above'), ({'dtype': 'float16'}, 'dtype'),
    ({'batch_size': 0}, 'batch_size is 0'), ({'seed': -1}, 'seed is -1'), ({'task': 'gan'}, "task is 'gan'"),
])
def test_bad_value_is_named(config, change, message):
    config.update_from_flattened_dict(change)
    with pytest.raises(UserError, match=message):
        main.make_task(config)
