"""The configuration files, and what a work directory remembers of its own."""

import importlib
import json
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common import config as config_lib
from common import workdir as workdir_lib
from common.errors import UserError
from common.keys import Keys
from common.parallel import AXIS
from common.report import runs
import main
from tests.helpers import save
import vae.classifier
import vae.task

# Configurations for folders have no classes before they have data.
ALL = sorted(
    path.stem
    for path in (pathlib.Path(main.__file__).parent / 'configs').glob('*_*.py')
    if not path.stem.startswith('__')
)
FILES = [file for file in ALL if file.startswith('unet_') and file != 'unet_folder']
RUNS = sorted((pathlib.Path(main.__file__).parent / 'docs' / 'runs').iterdir())
PARAMETERS = {'classifier_mnist': 7_578, 'judge_mnist': 72_666, 'vae_mnist': 43_118}


FROM_DATA = {
    'data.classes': ['a', 'b', 'c'],
    'data.mask_values': ['0', '1', '2'],
    'data.mean': [0.5] * 3,
    'data.colors': ['#000000', '#ff0000', '#00ff00'],
    'data.std': [0.5] * 3,
}


def given(config):
    """The configuration with values for what it leaves to the data."""
    left = {
        name: FROM_DATA[name] for name, value in config_lib.flatten(config).items() if name in FROM_DATA and not value
    }
    return config_lib.filled(config, left)


def traced(config, values=()):
    """Shapes of loss, metric sums and parameters of a configuration's first step, whose classifiers are untrained."""
    config.update_from_flattened_dict(dict(values))
    config = given(config)
    task, size = main.make_task(config), config.data.image_size
    channels = task.channels
    batch = {
        'image': jnp.zeros((1, 2, size, size, channels), jnp.uint8),
        'index': jnp.zeros((1, 2), int),
        'labels': jnp.zeros((1, 2, size, size), jnp.uint8),
        'label': jnp.zeros((1, 2), int),
    }

    def first_loss(batch, key):
        variables, constants = task.init(key), task.constants()
        loss, (batch_stats, sums) = task.loss(
            variables['params'], variables['batch_stats'], constants, batch, Keys(key, 0), task.stage(0)
        )
        assert jax.tree.structure(batch_stats) == jax.tree.structure(variables['batch_stats'])
        return loss, sums, variables['params']

    return jax.eval_shape(jax.vmap(first_loss, (0, None), axis_name=AXIS), batch, jax.random.key(0))


@pytest.fixture
def untrained(monkeypatch):
    """Stands zeros in for the classifiers that a VAE's configuration names by their folders."""

    def named(config, key):
        module = importlib.import_module(f'configs.{pathlib.Path(config[key]).name.removesuffix("_demo")}')
        return vae.task.ClassifierTask(given(module.get_config()))

    def zeros(task, *_):
        shapes = jax.eval_shape(task.init, jax.random.key(0))
        return jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes), 0

    monkeypatch.setattr(vae.classifier, 'classifier_task', named)
    monkeypatch.setattr(vae.task, 'restore', zeros)


@pytest.mark.parametrize('variant', ['', 'demo'])
@pytest.mark.parametrize('file', ALL)
def test_config_traces(file, variant, untrained):
    loss, sums, params = traced(importlib.import_module(f'configs.{file}').get_config(variant))
    assert loss.shape == (1,) and {'loss', 'total'} & set(sums)
    if file in PARAMETERS and not variant:
        assert sum(x.size for x in jax.tree.leaves(params)) == PARAMETERS[file]


@pytest.mark.parametrize(
    'file, values',
    [
        ('classifier_cifar10', {'augment.attack': 1.0}),
        ('vae_cifar10', {'dtype': 'bfloat16'}),
        ('unet_strconv_ups_dice', {'dtype': 'bfloat16'}),
        (
            'vae_mnist',
            {'reconstruct_wrong': True, 'swap_weight': 0.0, 'show.scale': 0.0, 'show.shift': 0.0, 'show.noise': 0.0},
        ),
        ('classifier_mnist', {'augment.cut_out': 0.25, 'label_smoothing': 0.1}),
    ],
)
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


@pytest.mark.parametrize(
    'key, value', [('batch_size', '16'), ('model.multipliers', 4), ('model.multipliers', ['a']), ('augment.flip', None)]
)
def test_value_of_another_type_is_named(config, tmp_path, key, value):
    save(config, tmp_path)
    stored = json.loads((tmp_path / 'config.json').read_text())
    section, _, name = key.rpartition('.')
    (stored[section] if section else stored)[name] = value
    (tmp_path / 'config.json').write_text(json.dumps(stored))
    with pytest.raises(UserError, match=re.escape(f'{key} is {value!r}; it must be like')):
        main.make_task(workdir_lib.load_config(tmp_path))


@pytest.mark.parametrize('key', ['optimizer.skip_nonfinite', 'model.down', 'batch_size'])
def test_missing_key_gets_its_default_with_a_notice(config, key, capsys):
    section, _, name = key.rpartition('.')
    del (config[section] if section else config)[name]
    config_lib.notice_once.cache_clear()
    task = main.make_task(config)
    default = config_lib.flatten(task.defaults())[key]
    assert config_lib.flatten(task.config)[key] == default
    assert capsys.readouterr().err == f'the configuration lacks {key} (now {default!r}): taken from the defaults\n'


def test_unknown_key_is_named(config):
    with config.unlocked():
        config.model.depth = 3
    with pytest.raises(UserError, match="unknown key 'model.depth'"):
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


@pytest.mark.parametrize(
    'change, message',
    [
        ({'loss': 'mse'}, "loss is 'mse'; choose one of 'cross_entropy', 'dice'"),
        ({'model.down': 'avg'}, 'model.down'),
        ({'model.up': 'nearest'}, 'model.up'),
        ({'model.width': 0}, r'\(0, 0\) channels'),
        ({'model.multipliers': (0.1, 1)}, 'channels'),
        ({'augment.scale': -1.0}, 'augment.scale is -1.0'),
        ({'model.multipliers': (1,)}, 'multipliers'),
        ({'data.image_size': 15}, 'data.image_size to a multiple of 2'),
        ({'augment.start_size': 32}, 'start_size 32 is above'),
        ({'dtype': 'float16'}, 'dtype'),
        ({'augment.start_size': 8, 'augment.grow_fraction': 1.0}, 'choose it below 1'),
        ({'batch_size': 0}, 'batch_size is 0'),
        ({'seed': -1}, 'seed is -1'),
        ({'task': 'gan'}, "task is 'gan'"),
        ({'data.mean': (0.4,), 'data.std': (0.2,)}, 'a U-Net takes colour images'),
    ],
)
def test_bad_value_is_named(config, change, message):
    config.update_from_flattened_dict(change)
    with pytest.raises(UserError, match=message):
        main.make_task(config)
