"""Starting from another run, keeping the best state, and evaluating on other data."""

import dataclasses
import json

from flax import traverse_util
import jax
import numpy as np
import pytest

from common import best as best_lib
from common import evaluate, init_from, train
from common import workdir as workdir_lib
from common.checkpoint import Checkpoints, last_step, restore
from common.config import filled
from common.errors import UserError
from common.parallel import Devices
from common.serving import share
from common.writers import read_metrics
import main
from tests.helpers import draw_pets, initial_of, make_tiny_task, save_run
from unet import data


@pytest.fixture
def source(config, tmp_path):
    """The work directory of a run with recognisable weights, three classes."""
    task = make_tiny_task(config)
    variables = jax.tree.map(lambda x: np.full(x.shape, 0.25, np.float32), initial_of(task)[0])
    return save_run(task, tmp_path / 'source', variables)


def two_classes(config):
    return filled(
        config,
        {
            'data.classes': ['a', 'b'],
            'data.mask_values': ['1', '2'],
            'data.ignore_values': ['3'],
            'data.colors': ['#000000', '#ffffff'],
        },
    )


def test_weights_and_statistics_of_another_run_are_taken(config, source, capsys):
    task = make_tiny_task(config)
    found = init_from.from_run(task, initial_of(task)[0], source)
    assert all((leaf == 0.25).all() for leaf in jax.tree.leaves(found))
    assert 'drawn anew: none' in capsys.readouterr().err


def test_layers_of_other_shapes_are_drawn_anew_and_named(config, source, capsys):
    task = make_tiny_task(two_classes(config))
    drawn = initial_of(task)[0]
    found = init_from.from_run(task, drawn, source)
    head = found['params'].pop('Dense_0')
    for name, values in drawn['params']['Dense_0'].items():
        np.testing.assert_array_equal(head[name], values)
    assert all((leaf == 0.25).all() for leaf in jax.tree.leaves(found))
    assert capsys.readouterr().err.rstrip().endswith('drawn anew: Dense_0')


def test_layer_is_taken_as_a_whole_or_not_at_all(config, source):
    """With another width below, biases of the way up fit where their kernels do not."""
    task = make_tiny_task(filled(config, {'model.multipliers': [1, 3]}))
    found = traverse_util.flatten_dict(dict(init_from.from_run(task, initial_of(task)[0], source)), sep='/')
    taken = {name: bool((value == 0.25).all()) for name, value in found.items()}
    layers = {init_from.layer(name) for name in taken}
    assert {taken[name] for name in taken} == {True, False}
    assert all(len({taken[name] for name in taken if init_from.layer(name) == layer}) == 1 for layer in layers)


def test_run_of_which_no_layer_fits_is_refused(config, source):
    task = make_tiny_task(filled(config, {'model.width': 6, 'model.up': 'upsample', 'model.multipliers': [3, 5]}))
    with pytest.raises(UserError, match='init_from: no layer of the run'):
        init_from.from_run(task, initial_of(task)[0], source)


@pytest.mark.parametrize(
    'workdir, message', [('nowhere', 'nowhere holds no run'), ('other', "is a 'vae', not a 'unet'")]
)
def test_what_is_no_such_run_is_refused(config, tmp_path, workdir, message):
    task = make_tiny_task(config)
    (tmp_path / 'other').mkdir()
    (tmp_path / 'other' / 'config.json').write_text('{"task": "vae"}')
    with pytest.raises(UserError, match=message):
        init_from.from_run(task, initial_of(task)[0], tmp_path / workdir)


@pytest.fixture(scope='module')
def best_run(tmp_path_factory):
    """A run that keeps its best state, whose validation loss rises after the first evaluation."""
    from configs import unet_mp_tr_ce
    from tests.helpers import leave_out_figures, shrink

    config = shrink(unet_mp_tr_ce.get_config('demo'))
    config.data.validation_examples = 9
    config.checkpoint.best = '-loss'
    config.optimizer.update({'learning_rate': 1e-9, 'ema_decay': 0.0})
    workdir = tmp_path_factory.mktemp('best')
    task = make_tiny_task(config, validation=9)
    with pytest.MonkeyPatch.context() as patch:
        leave_out_figures(patch)
        losses = iter([0.9, 0.5, 0.7, 0.8])
        measure = evaluate.Evaluation.metrics
        patch.setattr(
            evaluate.Evaluation,
            'metrics',
            lambda self, *args: (
                measure(self, *args) | ({'loss': next(losses)} if args[3:] in ((), ('validation',)) else {})
            ),
        )
        config.num_epochs = 4
        results = train.train(task, workdir)
    return task, workdir, results


def test_best_state_is_kept_and_evaluated(best_run):
    task, workdir, results = best_run
    steps = [line['step'] for line in read_metrics(workdir) if line['split'] == 'validation']
    assert len(steps) == 4 and results['step'] == steps[1] < steps[-1] == last_step(workdir)
    assert results['finished'] and workdir_lib.is_finished(workdir)
    variables, step = restore(task, workdir, Devices())
    assert step == steps[1] and json.loads((workdir / 'results.json').read_text())['step'] == step


def test_evaluation_of_a_shared_copy_of_the_best_state_leaves_it_finished(best_run, tmp_path):
    task, workdir, results = best_run
    copy = share.share(workdir, tmp_path / 'copy', lambda config: dataclasses.replace(task, config=config))
    assert evaluate.evaluate(task, copy) == results
    assert workdir_lib.is_finished(copy)


def test_best_state_after_the_step_of_a_resume_is_dropped(tmp_path):
    """On other devices the run may not come there again."""
    lines = []
    for step, loss in ((3, 0.9), (5, 0.6), (7, 0.5)):
        lines.append({'step': step, 'split': 'validation', 'loss': loss})
        with best_lib.Best(tmp_path, '-loss', step, lines[:-1]) as best:
            best.offer(step, {'kernel': np.full(1, step)}, {'loss': loss})
    with best_lib.Best(tmp_path, '-loss', 6, lines[:2]) as best:
        assert best.value == -0.6 and best.restore({'kernel': np.zeros(1, int)}) == ({'kernel': [5]}, 5)
        best.offer(7, {'kernel': np.full(1, 70)}, {'loss': 0.4})
        assert best.restore({'kernel': np.zeros(1, int)}) == ({'kernel': [70]}, 7)
    with best_lib.Best(tmp_path, '-loss', 2, []) as best:
        assert best.value == float('-inf')


def test_latest_state_stands_in_for_the_best_with_a_notice(config, tmp_path, capsys):
    """A run may be used before its first validation."""
    config.checkpoint.best = '-loss'
    task = make_tiny_task(config)
    save_run(task, tmp_path)
    assert restore(task, tmp_path, Devices())[1] == 7
    assert not capsys.readouterr().err  # Without the state of training it is a shared copy, of the best state.
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(8, {'average': initial_of(task)[0], 'training': {'step': np.zeros(())}})
    assert restore(task, tmp_path, Devices())[1] == 8
    assert 'has kept no best state yet' in capsys.readouterr().err


def test_best_metric_that_was_never_a_number_is_named(tmp_path):
    best = best_lib.Best(tmp_path, 'iou/rare', 5, [{'step': 5, 'split': 'validation', 'iou/rare': None}])
    best.offer(5, {}, {'iou/rare': float('nan')})
    with pytest.raises(UserError, match="checkpoint.best is 'iou/rare', which was never a number"):
        best.restore({})


def test_metric_that_is_none_is_named_before_training(config, tmp_path):
    config.data.validation_examples, config.checkpoint.best = 9, 'iou'
    with pytest.raises(UserError, match="checkpoint.best is 'iou'; choose one of dice/background"):
        train.train(make_tiny_task(config, validation=9), tmp_path)
    assert last_step(tmp_path) is None


def test_other_data_have_results_of_their_own(config, tmp_path, monkeypatch):
    monkeypatch.setattr(data, 'load', lambda section, split: draw_pets(split, 13 if section.test_share == 1 else 4, 16))
    workdir = save_run(main.make_task(config), tmp_path / 'run')
    before = (workdir / 'results.json').read_text()
    changed = filled(config, {'data.name': 'folder', 'data.dir': str(tmp_path / 'my pets')})
    results = evaluate.evaluate(workdir_lib.load_matching(changed, workdir, main.make_task, True), workdir)
    assert (workdir / 'results.json').read_text() == before
    found = json.loads((workdir / 'results_my_pets.json').read_text())
    assert found['num_examples'] == results['num_examples'] == 13 and found['dir'] == str(tmp_path / 'my pets')
    assert 0 <= found['mean_iou'] <= 1 and (workdir / 'figures' / 'predictions_my_pets.png').exists()
    with pytest.raises(UserError, match='data.name was'):
        workdir_lib.load_matching(changed, workdir, main.make_task)
    namesake = filled(changed, {'data.dir': str(tmp_path / 'hers' / 'my pets')})
    with pytest.raises(UserError, match=r'results_my_pets.json has the results on .*/my pets; rename or remove it'):
        evaluate.evaluate(workdir_lib.load_matching(namesake, workdir, main.make_task, True), workdir)
    assert json.loads((workdir / 'results_my_pets.json').read_text()) == found
    assert evaluate.evaluate(workdir_lib.load_matching(changed, workdir, main.make_task, True), workdir) == results
