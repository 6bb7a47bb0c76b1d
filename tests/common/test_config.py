"""The configuration files, and what a work directory remembers of its own."""

import errno
import importlib
import json
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common import config as config_lib
from common.errors import UserError
from common.keys import Keys
from common.parallel import AXIS
from common.report import runs
import main
import vae.task

ALL = sorted(path.stem for path in (pathlib.Path(main.__file__).parent / 'configs').glob('*_*.py')
             if not path.stem.startswith('__'))
FILES = [file for file in ALL if file.startswith('unet_')]
RUNS = sorted((pathlib.Path(main.__file__).parent / 'docs' / 'runs').iterdir())
PARAMETERS = {'classifier_mnist': 7_578, 'judge_mnist': 72_666, 'vae_mnist': 43_118}


def traced(config, values=()):
    """Shapes of loss, metric sums and parameters of a configuration's first step, whose classifiers are untrained."""
    config.update_from_flattened_dict(dict(values))
    task, size = main.make_task(config), config.data.image_size
    channels = task.channels
    batch = {'image': jnp.zeros((1, 2, size, size, channels), jnp.uint8), 'index': jnp.zeros((1, 2), int),
             'labels': jnp.zeros((1, 2, size, size), jnp.uint8), 'label': jnp.zeros((1, 2), int)}

    def first_loss(batch, key):
        variables, constants = task.init(key), task.constants()
        loss, (batch_stats, sums) = task.loss(variables['params'], variables['batch_stats'], constants, batch,
                                              Keys(key, 0), task.stage(0))
        assert jax.tree.structure(batch_stats) == jax.tree.structure(variables['batch_stats'])
        return loss, sums, variables['params']

    return jax.eval_shape(jax.vmap(first_loss, (0, None), axis_name=AXIS), batch, jax.random.key(0))


@pytest.fixture
def untrained(monkeypatch):
    """Stands zeros in for the classifiers that a VAE's configuration names by their folders."""
    def named(config, key):
        module = importlib.import_module(f'configs.{pathlib.Path(config[key]).name.removesuffix("_demo")}')
        return vae.task.ClassifierTask(module.get_config())

    def zeros(task, *_):
        shapes = jax.eval_shape(task.init, jax.random.key(0))
        return jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes), 0

    monkeypatch.setattr(vae.task, 'classifier_task', named)
    monkeypatch.setattr(vae.task, 'restore', zeros)


@pytest.mark.parametrize('variant', ['', 'demo'])
@pytest.mark.parametrize('file', ALL)
def test_config_traces(file, variant, untrained):
    loss, sums, params = traced(importlib.import_module(f'configs.{file}').get_config(variant))
    assert loss.shape == (1,) and {'loss', 'total'} & set(sums)
    if file in PARAMETERS and not variant:
        assert sum(x.size for x in jax.tree.leaves(params)) == PARAMETERS[file]


@pytest.mark.parametrize('file, values', [
    ('vae_cifar10', {'model.encoder': 'resnet34'}), ('classifier_cifar10', {'model.encoder': 'resnet34'}),
    ('vae_cifar10', {'dtype': 'bfloat16'}), ('unet_strconv_ups_dice', {'dtype': 'bfloat16'}),
    ('vae_mnist', {'reconstruct_wrong': True, 'swap_weight': 0.0, 'show.scale': 0.0, 'show.shift': 0.0,
                   'show.noise': 0.0}),
    ('classifier_mnist', {'augment.cut_out': 0.25, 'label_smoothing': 0.1})])
def test_other_choices_trace(file, values, untrained):
    traced(importlib.import_module(f'configs.{file}').get_config(), values)


@pytest.mark.parametrize('folder', RUNS, ids=lambda folder: folder.name)
def test_recorded_runs_can_be_reported(folder):
    assert runs.load(folder, main.make_task).results['step'] > 0


def test_sizes_and_weights_are_those_of_the_reference():
    mnist, cifar10 = (importlib.import_module(f'configs.vae_{name}').get_config() for name in ('mnist', 'cifar10'))
    assert (mnist.model.latent, cifar10.model.latent) == (10, 512)
    assert (mnist.label_weight, cifar10.label_weight) == (100, 300)
    assert mnist.wrong_label_rate == cifar10.wrong_label_rate == 0.1
    assert mnist.num_epochs == cifar10.num_epochs == 30


@pytest.mark.parametrize('key, value', [
    ('batch_size', '16'), ('model.multipliers', 4), ('model.multipliers', ['a']), ('augment.flip', None)])
def test_value_of_another_type_is_named(config, tmp_path, key, value):
    config_lib.save(config, tmp_path)
    stored = json.loads((tmp_path / 'config.json').read_text())
    section, _, name = key.rpartition('.')
    (stored[section] if section else stored)[name] = value
    (tmp_path / 'config.json').write_text(json.dumps(stored))
    with pytest.raises(UserError, match=re.escape(f'{key} is {value!r}; it must be like')):
        main.make_task(config_lib.load(tmp_path))


@pytest.mark.parametrize('key', ['optimizer.skip_nonfinite', 'model.down', 'batch_size'])
def test_missing_key_is_named(config, key):
    section, _, name = key.rpartition('.')
    del (config[section] if section else config)[name]
    with pytest.raises(UserError, match=f'lacks {key}'):
        main.make_task(config)


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


def test_file_system_without_locks_is_told_and_used(tmp_path, monkeypatch, capsys):
    def refuse(*_):
        raise OSError(errno.ENOLCK, 'No locks available')

    monkeypatch.setattr(config_lib.fcntl, 'flock', refuse)
    with config_lib.locked(tmp_path):
        assert 'without locks' in capsys.readouterr().err


def test_half_written_checkpoint_binds_the_work_directory_to_nothing(config, tmp_path):
    config_lib.save(config, tmp_path)
    (tmp_path / 'checkpoints' / '4.orbax-checkpoint-tmp').mkdir(parents=True)
    config.seed += 1
    config_lib.save(config, tmp_path)
    (tmp_path / 'checkpoints' / '4').mkdir()
    config.seed += 1
    with pytest.raises(UserError, match='belongs to another configuration'):
        config_lib.save(config, tmp_path)


@pytest.mark.parametrize('change, message', [
    ({'loss': 'mse'}, "loss is 'mse'; choose one of 'cross_entropy', 'dice'"),
    ({'model.down': 'avg'}, 'model.down'), ({'model.up': 'nearest'}, 'model.up'),
    ({'model.width': 0}, r'\(0, 0\) channels'),
    ({'model.multipliers': (0.1, 1)}, 'channels'), ({'augment.scale': -1.0}, 'augment.scale is -1.0'),
    ({'model.multipliers': (1,)}, 'multipliers'),
    ({'data.image_size': 15}, 'data.image_size to a multiple of 2'),
    ({'augment.start_size': 32}, 'start_size 32 is above'), ({'dtype': 'float16'}, 'dtype'),
    ({'augment.start_size': 8, 'augment.grow_fraction': 1.0}, 'choose it below 1'),
    ({'batch_size': 0}, 'batch_size is 0'), ({'seed': -1}, 'seed is -1'), ({'task': 'gan'}, "task is 'gan'"),
])
def test_bad_value_is_named(config, change, message):
    config.update_from_flattened_dict(change)
    with pytest.raises(UserError, match=message):
        main.make_task(config)
