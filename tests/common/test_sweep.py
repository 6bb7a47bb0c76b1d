"""Sweeps: their runs, skipped runs, and runs that stop or diverge."""

import json
import pathlib
import signal
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from common import sweep, train
from common import workdir as workdir_lib
from common.data.batches import Feed
from common.errors import Diverged, Interrupted, UserError
from common.parallel import Devices
from configs import sweep_unet, vae_mnist
import main
from tests.helpers import make_tiny_task, run_command, save, shrink

ROOT = pathlib.Path(main.__file__).parent
FILE = f'{ROOT}/configs/sweep_unet.py'
AXES = {'loss': {'ce': 'cross_entropy', 'dice': 'dice'}, 'seed': {'seed0': 0, 'seed1': 1}}
NAMES = ['ce_seed0', 'dice_seed0', 'ce_seed1', 'dice_seed1']


def flag(config=None, path=FILE, **overrides):
    """The flag object that config_flags creates from --config and --config.KEY=VALUE."""
    config = config or sweep_unet.get_config('demo')
    overrides = {key.replace('__', '.'): value for key, value in overrides.items()}
    config.update_from_flattened_dict(overrides)
    return SimpleNamespace(config_filename=path, value=config, override_values=overrides)


def fake_train(task, workdir):
    """Writes the files that a finished run leaves."""
    save(task.config, workdir)
    workdir_lib.write_json(workdir / 'results.json', {'finished': True})


def test_unet_sweep_has_eight_cells_per_seed_ordered_by_seed():
    configs = sweep.cells(sweep_unet.get_config(), sweep.read_axes(flag()))
    assert len(configs) == 24 and list(configs)[:2] == ['mp_tr_ce_seed0', 'strconv_tr_ce_seed0']
    assert [config.seed for config in configs.values()] == [0] * 8 + [1] * 8 + [2] * 8
    assert len({(c.model.down, c.model.up, c.loss, c.seed) for c in configs.values()}) == 24
    last = configs['strconv_ups_dice_seed2']
    assert (last.model.down, last.model.up, last.loss, last.seed) == ('strided_conv', 'upsample', 'dice', 2)


def test_flags_apply_to_all_runs_and_fix_an_axis():
    given = flag(model__width=4, seed=1, loss='dice')
    configs = sweep.cells(given.value, sweep.read_axes(given))
    assert list(configs) == [f'{down}_{up}_dice_seed1' for up in ('tr', 'ups') for down in ('mp', 'strconv')]
    assert {config.model.width for config in configs.values()} == {4}


def test_seeds_share_a_program():
    programs = set()
    for seed in (0, 1):
        task = make_tiny_task(shrink(sweep_unet.get_config('demo')))
        task.config.seed = seed
        devices = Devices()
        trainer = train.Trainer(task, Feed(task.load('train'), devices), devices)
        arguments = *devices.replicate(trainer.init()), trainer.feed(np.zeros((1, 8), np.int32)), trainer.root
        programs.add(trainer.compiled(trainer.stage(0)).lower(*arguments).as_text())
    assert len(programs) == 1


def test_compiled_programs_of_finished_runs_are_dropped(tmp_path):
    program, kept = jax.jit(lambda x: x + 1), []

    def train(task, workdir):
        kept.append(program._cache_size())
        program(1.0)

    sweep.run(sweep.cells(sweep_unet.get_config('demo'), AXES), tmp_path, main.make_task, train)
    assert kept == [0] * 4


@pytest.mark.parametrize(
    'given, message',
    [
        (flag(seed=7), 'seed is 7; choose one of 0, 1, 2'),
        (flag(path=f'{ROOT}/configs/unet_mp_tr_ce.py'), 'is no sweep'),
        (flag(vae_mnist.get_config()), 'which the configuration lacks'),
    ],
)
def test_mistakes_are_named(given, message):
    with pytest.raises(UserError, match=message):
        sweep.read_axes(given)


@pytest.mark.parametrize('axes', ["{'seed': (0, 1)}", "{'seed': {0: 0}}", "{'seed': {}}", "['seed']"])
def test_axes_of_another_form_are_refused(tmp_path, axes):
    (tmp_path / 'sweep.py').write_text(f'AXES = {axes}')
    with pytest.raises(UserError, match='must have the values of each key by name'):
        sweep.read_axes(flag(path=str(tmp_path / 'sweep.py')))


def test_value_of_another_type_is_refused(config):
    with pytest.raises(UserError, match="AXES gives model.width the value 'wide': "):
        sweep.cells(config, {'model.width': {'wide': 'wide'}})


def test_run_that_a_later_cell_starts_from_is_looked_for_first(config, tmp_path):
    configs = sweep.cells(config, {'init_from': {'drawn': '', 'pets': 'nowhere'}})
    with pytest.raises(UserError, match="init_from is 'nowhere', where no trained run is"):
        sweep.run(configs, tmp_path, main.make_task, lambda *_: pytest.fail('trained'))


def test_cell_may_start_from_an_earlier_one(config, tmp_path):
    configs = sweep.cells(config, {'init_from': {'drawn': '', 'tuned': str(tmp_path / 'drawn')}})
    sweep.run(configs, tmp_path, main.make_task, fake_train)
    assert {path.parent.name for path in tmp_path.glob('*/results.json')} == {'drawn', 'tuned'}


def test_flag_fixes_an_axis_of_tuples():
    given = flag(model__multipliers=(1, 2))
    axes = {'model.multipliers': {'small': (1, 2), 'deep': (1, 2, 4)}}
    assert sweep.chosen(given, axes) == {'model.multipliers': {'small': (1, 2)}}


def test_any_configuration_can_be_swept():
    configs = sweep.cells(vae_mnist.get_config(), {'model.latent': {'z2': 2, 'z10': 10}})
    assert {name: config.model.latent for name, config in configs.items()} == {'z2': 2, 'z10': 10}


def test_finished_runs_are_skipped(config, tmp_path):
    done = []

    def train(task, workdir):
        done.append(workdir.name)
        if len(done) == 3:
            raise Interrupted(4, signal.SIGTERM)
        fake_train(task, workdir)

    configs = sweep.cells(config, AXES)
    with pytest.raises(Interrupted):
        sweep.run(configs, tmp_path, main.make_task, train)
    sweep.run(configs, tmp_path, main.make_task, train)
    assert done == [*NAMES[:3], *NAMES[2:]]
    # As after an evaluation before the end of the run.
    workdir_lib.write_json(tmp_path / 'ce_seed0' / 'results.json', {'finished': False})
    (tmp_path / 'ce_seed1' / 'results.json').write_text('{')
    sweep.run(configs, tmp_path, main.make_task, train)
    assert done[5:] == ['ce_seed0', 'ce_seed1']


def test_finished_run_on_another_folder_is_refused(config, tmp_path):
    for name in ('old', 'new'):
        (tmp_path / name).mkdir()
    config.data.update({'name': 'folder', 'dir': str(tmp_path / 'old')})
    sweep.run(sweep.cells(config, AXES), tmp_path / 'runs', main.make_task, fake_train)
    config.data.dir = str(tmp_path / 'new')
    with pytest.raises(UserError, match='is trained on the pictures in .*old'):
        sweep.run(sweep.cells(config, AXES), tmp_path / 'runs', main.make_task, fake_train)


def test_finished_run_of_another_configuration_is_refused(config, tmp_path):
    sweep.run(sweep.cells(config, AXES), tmp_path, main.make_task, fake_train)
    config.model.width = 8
    with pytest.raises(UserError, match='model.width was 4 and is now 8'):
        sweep.run(sweep.cells(config, AXES), tmp_path, main.make_task, fake_train)


@pytest.mark.parametrize(
    'key, right, wrong', [('loss', 'dice', 'dise'), ('optimizer.schedule', 'cosine', 'cosin'), ('batch_size', 8, 7)]
)
def test_mistake_in_any_run_is_found_before_the_first(config, tmp_path, key, right, wrong):
    configs = sweep.cells(config, {key: {'right': right, 'wrong': wrong}})
    with pytest.raises(UserError, match=str(wrong)):
        sweep.run(configs, tmp_path, main.make_task, lambda *_: pytest.fail('trained'))


def test_other_runs_continue_after_one_diverges(config, tmp_path):
    def train(task, workdir):
        if task.config.loss == 'dice' and task.config.seed == 0:
            raise Diverged('NaN')
        fake_train(task, workdir)

    with pytest.raises(Diverged, match=r'1 of 4 runs diverged \(dice_seed0\)'):
        sweep.run(sweep.cells(config, AXES), tmp_path, main.make_task, train)
    assert {path.parent.name for path in tmp_path.glob('*/results.json')} == {*NAMES} - {'dice_seed0'}


def test_stopped_sweep_resumes(pets, no_figures, tmp_path, monkeypatch, capsys):
    command = [
        '--mode=sweep',
        f'--config={FILE}:demo',
        '--config.seed=0',
        '--config.loss=dice',
        '--config.model.up=upsample',
        '--config.data.image_size=16',
        '--config.model.width=2',
        '--config.model.multipliers=(1,2)',
        '--config.num_epochs=2',
        '--config.batch_size=64',
        '--config.log_every_steps=2',
        '--config.eval_every_epochs=0',
        '--config.optimizer.name=adamw',  # Muon takes longer to compile.
        f'--workdir={tmp_path}',
    ]

    def stopping_advance(run):
        advance(run)
        if run.step == 5:
            signal.raise_signal(signal.SIGTERM)

    advance = train.Run.advance
    with monkeypatch.context() as patch:
        patch.setattr(train.Run, 'advance', stopping_advance)
        code, printed = run_command(command), capsys.readouterr()
    assert code == 128 + signal.SIGTERM and 'start the same command again' in printed.err
    code, printed = run_command(command), capsys.readouterr()
    assert code == 0 and f"--mode=report --runs='{tmp_path}/*'" in printed.out
    results = {path.parent.name: path.read_text() for path in tmp_path.glob('*/results.json')}
    assert {name: json.loads(text)['step'] for name, text in results.items()} == {
        'mp_ups_dice_seed0': 16,
        'strconv_ups_dice_seed0': 16,
    }
