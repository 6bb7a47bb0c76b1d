"""The training loop: results do not depend on devices, interruptions or evaluation batches."""

import json
import pathlib
import signal
import time
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common import cpu, evaluate, progress, train
from common import workdir as workdir_lib
from common.data import batches
from common.errors import Diverged, Interrupted, UserError
from common.parallel import Devices
from common.writers import read_metrics
from tests.helpers import initial_of, make_tiny_task, metric_lines, saved_arrays, stopped_run, train_steps
from unet.losses import LOSSES

pytestmark = pytest.mark.usefixtures('no_figures')

GOLDEN_LOSS = {'cross_entropy': 1.09623182, 'dice': 0.68250817}


@pytest.fixture(scope='module')
def growing():
    """Image sizes of `straight` and of the runs that are compared with it: 12 pixels, then 16."""
    return {'start_size': 12, 'grow_fraction': 0.5}


@pytest.fixture
def growing_task(config, growing):
    config.augment.update(growing)
    config.optimizer.update({'name': 'muon', 'learning_rate': 0.012})
    return make_tiny_task(config)


@pytest.fixture(scope='module')
def straight(tmp_path_factory):
    """The folder of an uninterrupted run; `straight_run` fills it."""
    return tmp_path_factory.mktemp('straight')


@pytest.fixture
def straight_run(straight, growing_task):
    """The work directory and the results of an uninterrupted run."""
    if not (straight / 'results.json').exists():
        train.train(growing_task, straight)
        assert growing_task.traces == {12: 1, 16: 1, 'evaluation': 1}
    return straight, json.loads((straight / 'results.json').read_text())


def assert_close(tree, expected):
    """With room for rounding errors, which Muon and Adam enlarge: they divide by values that may be nearly zero."""
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), tree, expected)


def test_run_stopped_three_times_is_bit_equal(straight_run, growing_task, tmp_path):
    workdir, results = straight_run
    saved = {}
    for step in (3, 4, 9):
        stopped_run(growing_task, tmp_path, step)
        saved[step] = saved_arrays(tmp_path)
        assert saved[step]['training']['step'] == step
        if step == 4:  # An evaluation before the end changes nothing and does not finish the run.
            assert not evaluate.evaluate(growing_task, tmp_path)['finished'] and not workdir_lib.is_finished(tmp_path)
    assert train.train(growing_task, tmp_path) == results and workdir_lib.is_finished(tmp_path)
    jax.tree.map(np.testing.assert_array_equal, saved[9], saved_arrays(workdir))
    moved = jax.tree.map(lambda a, b: np.any(a != b), *(saved[step]['training']['params'] for step in (4, 9)))
    assert all(jax.tree.leaves(moved))
    assert metric_lines(tmp_path) == metric_lines(workdir)


def test_finished_run_only_evaluates(straight_run, growing_task, monkeypatch):
    workdir, results = straight_run
    lines = read_metrics(workdir)
    monkeypatch.setattr(train.Trainer, '__call__', lambda *_: pytest.fail('a step was done'))
    (workdir / 'results.json').unlink()
    assert train.train(growing_task, workdir) == results
    assert json.loads((workdir / 'results.json').read_text()) == results
    assert read_metrics(workdir) == lines


def test_signal_in_the_last_evaluation_is_not_lost(straight_run, growing_task, monkeypatch):
    """A sweep would go on with its next run."""
    workdir, results = straight_run

    def measure(*args, measure=evaluate.Evaluation.results, **options):
        found = measure(*args, **options)
        signal.raise_signal(signal.SIGTERM)
        return found

    monkeypatch.setattr(evaluate.Evaluation, 'results', measure)
    with pytest.raises(Interrupted, match='SIGTERM'):
        train.train(growing_task, workdir)
    assert json.loads((workdir / 'results.json').read_text()) == results


def test_run_whose_training_data_have_changed_is_refused(straight_run, growing_task, monkeypatch):
    workdir, _ = straight_run
    arrays = growing_task.load('train')
    labels = arrays['labels'].copy()
    labels[0, 0, 0] = 0 if labels[0, 0, 0] else 1
    monkeypatch.setattr(type(growing_task), 'load', lambda *_: arrays | {'labels': labels})
    with pytest.raises(UserError, match='training data have changed since .*train_checksum was'):
        train.train(growing_task, workdir)


def test_evaluation_of_a_checkpoint_repeats_the_results(straight_run, growing_task):
    workdir, results = straight_run
    assert evaluate.evaluate(growing_task, workdir) == results


def test_results_are_complete_and_equal_the_last_test_line(straight_run):
    workdir, results = straight_run
    per_class = {f'{metric}/{name}' for metric in ('iou', 'dice') for name in ('pet', 'background', 'border')}
    assert set(results) == per_class | {
        'loss',
        'train_loss',
        'pixel_accuracy',
        'mean_iou',
        'mean_dice',
        'split',
        'num_examples',
        'step',
        'finished',
        'test_checksum',
    }
    assert (results['split'], results['num_examples'], results['step'], results['finished']) == ('test', 13, 9, True)
    last = [line for line in metric_lines(workdir) if line['split'] == 'test'][-1]
    assert last.items() <= results.items()
    assert set(results) - set(last) <= {'num_examples', 'finished', 'test_checksum'}


def test_metrics_are_logged_at_the_configured_steps(straight_run):
    workdir, _ = straight_run
    lines = [(line['step'], line['split']) for line in read_metrics(workdir)]
    assert lines == [(2, 'train'), (4, 'train'), (4, 'test'), (6, 'train'), (8, 'train'), (9, 'test')]


def test_other_configuration_is_refused_without_changes(straight_run, config, growing):
    workdir, _ = straight_run
    config.augment.update(growing)
    config.optimizer.learning_rate = 0.5
    with pytest.raises(UserError, match='optimizer.learning_rate was 0.012 and is now 0.5'):
        train.train(make_tiny_task(config), workdir)
    assert workdir_lib.load_config(workdir).optimizer.learning_rate == 0.012


def test_number_of_devices_changes_only_rounding(config):
    config.optimizer.update({'name': 'sgd', 'learning_rate': 0.1})  # Its steps are proportional to the gradients.
    outcomes = []
    for count in (1, 4):
        _, state, summaries = train_steps(make_tiny_task(config), 3, devices=jax.devices()[:count])
        outcomes.append((summaries, (state.params, state.batch_stats, state.average)))
    for summaries, arrays in outcomes[1:]:
        for summary, expected in zip(summaries, outcomes[0][0], strict=True):
            assert summary == pytest.approx(expected, rel=1e-4)
        assert_close(arrays, outcomes[0][1])


def test_steps_in_one_dispatch_equal_single_steps(config):
    config.optimizer.update({'name': 'sgd', 'learning_rate': 0.1})  # Its steps are proportional to the gradients.
    config.log_every_steps = 3
    tiny_task = make_tiny_task(config)
    (_, one, single), (_, three, scanned) = (train_steps(tiny_task, 6, dispatch=n) for n in (1, 3))
    assert scanned[-1] == pytest.approx(single[-1], rel=1e-4)
    assert_close(one.params, three.params)
    assert one.step == three.step == 6


def test_run_with_two_steps_per_dispatch_has_equal_results(straight_run, config, growing, tmp_path, monkeypatch):
    """As on an accelerator with too little memory for the data."""
    config.augment.update(growing)
    config.steps_per_dispatch = 2
    monkeypatch.setattr(batches, 'fits', lambda *_: False)
    workdir, results = straight_run
    found = train.train(make_tiny_task(config), tmp_path)
    assert found['loss'] == pytest.approx(results['loss'], rel=1e-3)
    assert evaluate.numbers(found) == pytest.approx(
        evaluate.numbers(results), abs=0.03
    )  # Rounding decides some pixels.
    lines, expected = read_metrics(tmp_path), read_metrics(workdir)
    assert [(line['step'], line['split']) for line in lines] == [(line['step'], line['split']) for line in expected]


@pytest.mark.parametrize('stored', [None, {'loss': 1.0}, {'loss': jnp.ones(2), 'correct': 1.0}])
def test_sums_of_other_metrics_are_refused(stored):
    with pytest.raises(UserError, match='sums of other metrics'):
        jax.jit(train.add_sums)(stored, {'loss': 1.0, 'correct': 2.0})


def test_dispatches_end_at_logging_saving_and_stage_changes(config):
    config.update({'steps_per_dispatch': 3, 'log_every_steps': 5})
    plan = train.Plan(config, examples=36, steps=9, stage=lambda step: step >= 7)
    step, counts = 0, []
    while step < 9:
        counts.append(plan.count(step))
        step += counts[-1]
        assert step in plan.stops or not set(range(step - counts[-1] + 1, step)) & set(plan.stops)
    assert plan.stops == [4, 5, 7, 9] and counts == [3, 1, 1, 1, 1, 1, 1]


def test_step_is_traced_once(tiny_task):
    train_steps(tiny_task, 4)
    assert tiny_task.traces == {16: 1}


def test_images_grow_from_start_size_to_full_size(config):
    config.data.image_size = 64
    config.augment.update({'start_size': 32, 'grow_fraction': 0.5})
    stages = [make_tiny_task(config).stage(progress) for progress in np.linspace(0, 0.999, 50)]
    assert stages == sorted(stages) and stages[0] == 32
    assert set(stages[25:]) == {64} and len(set(stages[:25])) > 3
    config.augment.start_size = 64
    assert make_tiny_task(config).stage(0) == 64


@pytest.mark.parametrize('name', LOSSES)
def test_loss_after_three_steps_has_not_changed(config, name):
    config.loss = name
    loss = train_steps(make_tiny_task(config), 3)[2][-1]['loss']
    assert loss == pytest.approx(GOLDEN_LOSS[name], rel=1e-5), (
        f'the training loss with {name} has changed. If you intended this, set GOLDEN_LOSS to {loss:.8f} and say '
        'why in the commit; otherwise it is a bug. A new version of JAX may also change the last digits'
    )


@pytest.mark.parametrize('name', LOSSES)
def test_eight_images_are_overfitted(config, name):
    config.update({'loss': name, 'num_epochs': 120, 'log_every_steps': 1000})
    config.model.width = 8
    config.optimizer.update({'name': 'muon', 'learning_rate': 3e-2, 'weight_decay': 0.0})
    config.augment.update(
        {
            'flip': False,
            'scale': 0.0,
            'aspect': 0.0,
            'shift': 0.0,
            'brightness': 0.0,
            'contrast': 0.0,
            'saturation': 0.0,
        }
    )
    task = make_tiny_task(config, train=8)
    one = jax.devices()[:1]
    _, state, _ = train_steps(task, 120, devices=one)
    evaluation = evaluate.Evaluation(task, Devices(one))
    assert evaluation.metrics(state.average, {}, lambda: None, 'train')['pixel_accuracy'] > 0.95


def test_training_in_bfloat16_ends_close_to_float32(config):
    """The loss falls as far, to a tenth; parameters, statistics and sums stay float32."""
    config.update({'num_epochs': 8, 'log_every_steps': 1000})
    config.optimizer.update({'name': 'muon', 'learning_rate': 3e-2, 'ema_decay': 0.9})
    losses = {}
    for dtype in ('float32', 'bfloat16'):
        config.dtype = dtype
        task, one = make_tiny_task(config), Devices(jax.devices()[:1])
        trainer, state, _ = train_steps(task, 36, devices=one.devices)
        assert {x.dtype for x in jax.tree.leaves((state.params, state.batch_stats, state.average))} == {
            jnp.dtype('float32')
        }
        state, sums = trainer(state, {}, 36, 1)
        assert {x.dtype for x in jax.tree.leaves(sums)} <= {jnp.dtype('float32'), jnp.dtype('int32')}
        losses[dtype] = evaluate.Evaluation(task, one).metrics(state.average, {}, lambda: None, 'train')['loss']
    fall = np.log(3) - losses['float32']
    assert fall > 0.1 and 0 < abs(losses['bfloat16'] - losses['float32']) < 0.1 * fall


def test_bfloat16_on_a_cpu_is_warned_about(capsys):
    cpu.warn_of_dtype('float32')
    assert not capsys.readouterr().err
    cpu.warn_of_dtype('bfloat16')
    assert 'slower than with float32' in capsys.readouterr().err


def test_evaluation_does_not_depend_on_its_batch_size(config):
    one, outcomes = Devices(jax.devices()[:1]), []
    for size in (1, 7, 64):
        config.eval_batch_size = size
        task = make_tiny_task(config)
        variables = initial_of(task)[0]
        evaluation = evaluate.Evaluation(task, one)
        outcomes.append(evaluation.metrics(one.replicate(variables), {}, lambda: None, 'test'))
    assert outcomes[1] == pytest.approx(outcomes[0], rel=1e-6, nan_ok=True)
    assert outcomes[2] == pytest.approx(outcomes[0], rel=1e-6, nan_ok=True)


def test_evaluation_on_four_devices_equals_numpy(tiny_task):
    variables = initial_of(tiny_task)[0]
    devices, test = Devices(), tiny_task.load('test')
    evaluation = evaluate.Evaluation(tiny_task, devices)
    metrics = evaluation.metrics(devices.replicate(variables), {}, lambda: None, 'test')
    logits = tiny_task.logits(variables, test['image'] / np.float32(255))
    loss = LOSSES['cross_entropy'](logits=logits, labels=test['labels'])
    accuracy = np.mean(np.asarray(logits).argmax(-1) == test['labels'])
    assert metrics['pixel_accuracy'] == pytest.approx(accuracy, rel=1e-6)
    assert metrics['loss'] == pytest.approx(float(np.mean(loss)), rel=1e-5)


def test_nan_ends_the_run_and_is_not_saved(config, tmp_path):
    class PoisonedTask(type(make_tiny_task(config))):
        def loss(self, params, batch_stats, constants, batch, keys, stage):
            loss, rest = super().loss(params, batch_stats, constants, batch, keys, stage)
            return loss * jnp.where(keys.step == 5, np.nan, 1), rest

    with pytest.raises(Diverged, match='between steps 4 and 6; the last checkpoint is of step 4'):
        train.train(PoisonedTask(config), tmp_path)
    assert [path.name for path in (tmp_path / 'checkpoints').iterdir()] == ['4']
    assert max(line['step'] for line in read_metrics(tmp_path)) == 4


def test_damaged_metric_lines_are_reported_and_skipped(tmp_path, capsys):
    (tmp_path / 'metrics.jsonl').write_text('{"step": 1}\n{"st\n{"step": 3}\n{"step": 4, "lo')
    assert [line['step'] for line in read_metrics(tmp_path)] == [1, 3]
    assert capsys.readouterr().err.count('cannot be read') == 1


def test_skip_nonfinite_skips_and_counts_such_steps(config, tmp_path):
    class PoisonedTask(type(make_tiny_task(config))):
        def loss(self, params, batch_stats, constants, batch, keys, stage):
            loss, rest = super().loss(params, batch_stats, constants, batch, keys, stage)
            return loss * jnp.where(jnp.isin(keys.step, jnp.array([5, 6])), np.nan, 1), rest

    config.optimizer.skip_nonfinite = True
    train.train(PoisonedTask(config), tmp_path)
    lines = [line for line in read_metrics(tmp_path) if line['split'] == 'train']
    skipped = {line['step']: line['skipped_steps'] for line in lines}
    assert skipped == {2: 0, 4: 0, 6: 1, 8: 1}
    saved = saved_arrays(tmp_path)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(saved))
    counts = [x for x in jax.tree.leaves(saved['training']['opt_state']) if x.dtype == np.int32]
    assert counts and all(count == saved['training']['step'] for count in counts)  # Skipped steps count too.


def test_skip_nonfinite_ends_a_run_without_finite_steps(config, tmp_path):
    class PoisonedTask(type(make_tiny_task(config))):
        def loss(self, params, batch_stats, constants, batch, keys, stage):
            loss, rest = super().loss(params, batch_stats, constants, batch, keys, stage)
            return loss * jnp.where(keys.step >= 3, np.nan, 1), rest

    config.optimizer.skip_nonfinite = True
    with pytest.raises(Diverged, match='between steps 4 and 6'):
        train.train(PoisonedTask(config), tmp_path)


def test_run_shorter_than_a_batch_is_refused(config, tmp_path):
    config.update({'num_epochs': 1, 'batch_size': 40})
    with pytest.raises(UserError, match='lower batch_size or raise num_epochs'):
        train.train(make_tiny_task(config), tmp_path)


def test_relative_work_directory_works(config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config.update({'num_epochs': 1, 'eval_every_epochs': 0})
    task, workdir = make_tiny_task(config), pathlib.Path('runs/one')
    results = train.train(task, workdir)
    assert evaluate.evaluate(task, workdir) == results


def test_second_run_in_a_work_directory_is_refused(tiny_task, tmp_path):
    with workdir_lib.locked(tmp_path), pytest.raises(UserError, match='another run is at work'):
        train.train(tiny_task, tmp_path)


def test_all_splits_are_opened_before_the_first_step(config, tmp_path, monkeypatch):
    config.data.validation_examples = 9
    task = make_tiny_task(config, train=27, validation=9)
    load = type(task).load

    def load_what_is_there(self, split):
        if split == 'test':
            raise UserError('there is no test split')
        return load(self, split)

    monkeypatch.setattr(type(task), 'load', load_what_is_there)
    with pytest.raises(UserError, match='there is no test split'):
        train.train(task, tmp_path)
    assert not (tmp_path / 'metrics.jsonl').exists() and not task.traces


def test_validation_split_is_evaluated_at_the_end_too(config, tmp_path):
    config.data.validation_examples = 9
    results = train.train(make_tiny_task(config, validation=9), tmp_path)
    lines = [(line['step'], line['split']) for line in read_metrics(tmp_path) if line['split'] != 'train']
    assert lines == [(4, 'validation'), (9, 'validation'), (9, 'test')]
    assert results['split'] == 'test'


def test_device_parameters_and_examples_are_recorded(straight_run, growing_task):
    workdir, results = straight_run
    params = initial_of(growing_task)[0]['params']
    assert json.loads((workdir / 'run.json').read_text()) == {
        'device': cpu.name(),
        'devices': 4,
        'processes': 1,
        'jax': jax.__version__,
        'parameters': sum(x.size for x in jax.tree.leaves(params)),
        'train_examples': 36,
        'train_checksum': batches.checksum(growing_task.load('train')),
    }
    assert not {'device', 'parameters'} & {*results}


def test_speed_and_progress_line_leave_compilation_out(growing_task, tmp_path, monkeypatch):
    """In this test a step takes 1000 seconds longer whenever its loss is traced."""
    late, real = [0], time.time
    task_loss = type(growing_task).loss

    def loss(*args, **options):
        late[0] += 1000
        return task_loss(*args, **options)

    def clock():
        return real() + late[0]

    monkeypatch.setattr(type(growing_task), 'loss', loss)
    monkeypatch.setattr(progress, 'time', types.SimpleNamespace(perf_counter=clock))
    monkeypatch.setattr('tqdm.std.time', clock)
    stopped_run(growing_task, tmp_path, 3)
    with train.StopRequest() as stop:
        run = train.Run(growing_task, tmp_path, stop)
        compiled = late[0]
        run.go()
    assert late[0] == compiled + 2000  # Both sizes are compiled after the resume.
    assert run.progress.bar.format_dict['elapsed'] < 1000
    lines = [line for line in read_metrics(tmp_path) if line['split'] == 'train']
    measured = {line['step']: line['images_per_second'] for line in lines if 'images_per_second' in line}
    assert {*measured} == {2, 6, 8} and min(measured.values()) > 0.1  # Step 4 is the first one after the resume.
