"""The label-conditioned VAE's task: what it is told, what the frozen classifier does, what is measured."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.special
import scipy.stats

from common import evaluate, train
from common import workdir as workdir_lib
from common.config import jsonable
from common.data import source
from common.data.images import standardize
from common.errors import UserError
from common.keys import Keys
from common.parallel import AXIS, Devices
from configs import classifier_mnist, vae_mnist
from tests.helpers import (
    initial_of,
    leave_out_figures,
    metric_lines,
    saved_arrays,
    stopped_run,
    train_steps,
)
from vae import losses
from vae.classifier import ClassifierTask
from vae.task import VAETask

KEYS = Keys(jax.random.key(3), 0)
GOLDEN_TOTAL = 655.019714  # Nats an image, after three steps.


def draw_digits(split, number):
    rng = np.random.default_rng((len(split), number))
    labels = np.arange(number, dtype=np.int32) % 10
    images = rng.integers(0, 60, (number, 16, 16, 1), np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[3 + label : 5 + label] = 255
    return {'image': images, 'label': labels}


def shrunk(config, **values):
    config.update({'num_epochs': 2, 'batch_size': 8, 'eval_batch_size': 8, 'log_every_steps': 2, **values})
    config.data.image_size = 16
    config.model.width = 4
    return config


@pytest.fixture(autouse=True)
def tiny_data(monkeypatch):
    """40 training and 23 test images of a bar whose height is the label, in place of the prepared data."""
    monkeypatch.setattr(VAETask, 'figure_examples', 3)  # Drawing takes seconds.
    monkeypatch.setattr(
        source, 'load', lambda found, decode, config, split: draw_digits(split, {'train': 40, 'test': 23}[split])
    )


@pytest.fixture
def config(vae_runs):
    config = shrunk(
        vae_mnist.get_config('demo'),
        classifier_workdir=str(vae_runs / 'classifier'),
        judge_workdir=str(vae_runs / 'judge'),
    )
    config.model.update({'decoder_width': 4, 'latent': 3})
    config.optimizer.update({'name': 'adamw', 'learning_rate': 5e-3})  # Muon takes longer to compile.
    return config


@pytest.fixture
def task(config):
    return VAETask(config)


@pytest.fixture
def initial(task):
    """Variables and constants."""
    return initial_of(task)


def batch_of(task, count=8):
    arrays = task.load('test')
    return {name: jnp.asarray(array[:count]) for name, array in arrays.items()} | {
        'index': jnp.arange(count),
        'valid': jnp.ones(count, bool),
    }


def loss_sums(task, initial, batch):
    """Metric sums of one training step's forward pass."""

    @jax.jit
    def sums(initial, batch):
        variables, constants = initial
        return task.loss(variables['params'], variables['batch_stats'], constants, batch, KEYS, None)[1][1]

    mapped = jax.vmap(sums, (None, 0), axis_name=AXIS)(initial, jax.tree.map(lambda x: x[None], batch))
    return jax.tree.map(lambda x: float(x[0]), mapped)


def evaluated(task, variables, constants, batch):
    """Metric sums of one evaluation step, of all measures."""
    return jax.jit(functools.partial(task.eval_step, measures='all'))(variables, constants, batch, KEYS)


def wilder(variables):
    """With an untrained decoder that draws more than even grey."""
    params = variables['params']
    return variables | {'params': params | {'decoder': jax.tree.map(lambda x: 3 * x, params['decoder'])}}


def give(task, monkeypatch, labels):
    monkeypatch.setattr(VAETask, 'given_labels', lambda *_: jnp.asarray(labels))


def test_stated_share_of_labels_is_wrong(config):
    config.wrong_label_rate = 0.1
    batch = {'label': jnp.arange(100_000) % 10, 'index': jnp.arange(100_000)}
    given = VAETask(config).given_labels(batch, KEYS)
    assert abs(float(jnp.mean(given != batch['label'])) - 0.1) < 3 * np.sqrt(0.09 / 100_000)
    config.wrong_label_rate = 1.0
    given = VAETask(config).given_labels(batch, KEYS)
    assert jnp.all(given != batch['label'])
    counts = np.bincount((given - batch['label']) % 10, minlength=10)[1:]
    assert np.all(np.abs(counts / 100_000 - 1 / 9) < 0.005)


def test_wrong_labels_do_not_depend_on_the_batch(task):
    batch = {'label': jnp.arange(40) % 10, 'index': jnp.arange(40)}
    half = jax.tree.map(lambda x: x[20:], batch)
    np.testing.assert_array_equal(task.given_labels(batch, KEYS)[20:], task.given_labels(half, KEYS))


def test_label_loss_is_against_the_given_label(config, monkeypatch):
    config.update({'reconstruct_wrong': True, 'swap_weight': 0.0})
    task = VAETask(config)
    initial, batch = initial_of(task), batch_of(VAETask(config))
    give(task, monkeypatch, (batch['label'] + 1) % 10)
    told = loss_sums(task, initial, batch)
    assert loss_sums(task, initial, batch | {'label': (batch['label'] + 5) % 10}) == told
    give(task, monkeypatch, (batch['label'] + 2) % 10)
    assert loss_sums(task, initial, batch)['label_loss'] != told['label_loss']


def test_wrong_labels_are_reconstructed_only_on_request(config, monkeypatch):
    sums = {}
    for reconstruct in (True, False):
        config.reconstruct_wrong = reconstruct
        task = VAETask(config)
        batch = batch_of(task)
        give(task, monkeypatch, (batch['label'] + 1) % 10)
        sums[reconstruct] = loss_sums(task, initial_of(task), batch)
    assert sums[False]['reconstruction'] == 0 > sums[True]['reconstruction']
    assert sums[False]['label_loss'] == sums[True]['label_loss'] > 0


def test_total_after_three_steps_has_not_changed(task):
    total = train_steps(task, 3)[2][-1]['total']
    assert total == pytest.approx(GOLDEN_TOTAL, rel=1e-4), (
        'training a VAE computes something else than before: augmentation, encoder, labels, decoder, a term of the '
        'objective, or an update of the optimizer. If that is intended, say so in the commit and set GOLDEN_TOTAL to '
        f'{total:.6f}. A new version of JAX may also change the last digits'
    )


def test_terms_of_a_training_line_add_up(config):
    config.wrong_label_rate = 0.0
    _, _, summaries = train_steps(VAETask(config), 2)
    for line in summaries:
        terms = -line['reconstruction'] + line['kl'] + line['label_loss'] + line['swap_loss']
        assert line['total'] == line['loss'] == pytest.approx(terms, rel=1e-5)


@pytest.mark.parametrize('wrong', [0, 3, 8])
def test_reconstruction_in_training_is_a_mean_over_what_is_compared(config, monkeypatch, wrong):
    task = VAETask(config)
    initial, batch = initial_of(task), batch_of(task)
    give(task, monkeypatch, (batch['label'] + (jnp.arange(8) < wrong)) % 10)
    sums = loss_sums(task, initial, batch)
    assert sums['compared'] == 8 - wrong
    metrics = task.summarize(jax.tree.map(np.asarray, sums))
    assert metrics['reconstruction'] == pytest.approx(sums['reconstruction'] / max(8 - wrong, 1))
    assert metrics['kl'] == pytest.approx(sums['kl'] / 8)


def test_terms_add_up_to_the_total(task, initial):
    sums_of_all = evaluated(task, *initial, batch_of(task))
    for sums in (
        loss_sums(task, initial, batch_of(task)),
        {name: float(sums_of_all[name]) for name in ('total', 'reconstruction', 'kl', 'label_loss')},
    ):
        rest = sums['kl'] + sums['label_loss'] + sums.get('swap_loss', 0)
        assert sums['total'] == pytest.approx(-sums['reconstruction'] + rest, rel=1e-5)


def test_swap_loss_is_the_label_loss_of_a_wrong_label(config, monkeypatch):
    config.swap_weight = 3 * config.label_weight
    task = VAETask(config)
    initial, batch = initial_of(task), batch_of(task)
    other = task.other_labels(batch, KEYS, 'swap')
    assert jnp.all(other != batch['label'])
    give(task, monkeypatch, other)
    sums = loss_sums(task, initial, batch)
    assert sums['swap_loss'] == pytest.approx(3 * sums['label_loss'], rel=1e-5) and sums['swap_loss'] > 0
    give(task, monkeypatch, batch['label'])
    assert loss_sums(task, initial, batch)['label_loss'] != pytest.approx(sums['label_loss'], rel=1e-3)


def test_evaluation_never_gives_wrong_labels(config):
    results = []
    for rate in (0.0, 1.0):
        config.wrong_label_rate = rate
        task = VAETask(config)
        results.append(evaluated(task, *initial_of(task), batch_of(task)))
    jax.tree.map(np.testing.assert_array_equal, *results)


def test_classifier_input_uses_its_own_standardization(config, monkeypatch):
    """Both terms once more by hand, with a classifier trained with another mean and deviation than the VAE."""
    config.update({'swap_weight': 0.0, 'show': {'scale': 0.0, 'shift': 0.0, 'noise': 0.0}})
    task = VAETask(config)
    (variables, constants), batch = initial_of(task), batch_of(task)
    reader = task.classifiers['frozen']
    reader.config.data.update({'mean': (0.4,), 'std': (0.7,)})
    give(task, monkeypatch, batch['label'])
    sums = loss_sums(task, (variables, constants), batch)

    def means(images):
        labels, noise = batch['label'][None], task.noise(batch, KEYS)
        return task.model(train=True).apply(variables, images, labels, noise, mutable=['batch_stats'])[0][1][0]

    pixels = batch['image'] / 255.0
    shown = jax.jit(jax.vmap(means, axis_name=AXIS))(standardize(pixels, config.data)[None])[0]
    logits = jax.jit(reader.model(train=False).apply)(constants['frozen'], (shown - 0.4) / 0.7)
    nll = -np.take_along_axis(np.asarray(jax.nn.log_softmax(logits)), np.asarray(batch['label'])[:, None], axis=1)
    assert sums['label_loss'] == pytest.approx(config.label_weight * nll.sum(), rel=1e-4)
    scale = np.exp(losses.floored(variables['params']['raw_log_scale']))
    likelihood = jax.scipy.stats.norm.logpdf((pixels - 0.1307) / 0.3081, (shown - 0.1307) / 0.3081, scale)
    assert sums['reconstruction'] == pytest.approx(float(likelihood.sum()), rel=1e-4)
    assert any(np.any(x) for x in jax.tree.leaves(constants['frozen']['batch_stats']))


def test_decoder_learns_from_the_frozen_classifier(config):
    """Its gradient changes with the weight of the label loss, of a wrong label's result in particular."""
    gradients = {}
    for weight in (0.0, 100.0):
        config.update({'wrong_label_rate': 1.0, 'label_weight': weight, 'swap_weight': 0.0})
        task = VAETask(config)
        (variables, constants), batch = initial_of(task), batch_of(task)

        def loss(params, batch_stats, constants, batch, task=task):
            return task.loss(params, batch_stats, constants, batch, KEYS, None)[0]

        gradient = jax.jit(jax.vmap(jax.grad(loss), (None, None, None, 0), axis_name=AXIS))
        gradients[weight] = gradient(
            variables['params'], variables['batch_stats'], constants, jax.tree.map(lambda x: x[None], batch)
        )['decoder']
    norms = {weight: float(optax.tree.norm(gradient)) for weight, gradient in gradients.items()}
    assert norms[0.0] == 0 < norms[100.0]


def test_swaps_are_counted_as_numpy_counts_them(task, initial):
    variables, constants = initial
    variables = wilder(variables)
    batch = batch_of(task, 23)
    batch['valid'] = jnp.arange(23) < 20
    metrics = task.summarize(jax.tree.map(np.asarray, evaluated(task, variables, constants, batch)))
    predict = jax.jit(task.predict)
    logits = {name: jax.jit(classifier.logits) for name, classifier in task.classifiers.items()}
    given = {'frozen': np.zeros(10), 'judge': np.zeros(10)}
    original, right = {'frozen': 0, 'judge': 0}, {'frozen': 0, 'judge': 0}
    for image, label in zip(batch['image'][:20], np.asarray(batch['label'])[:20], strict=True):
        as_labels = predict(variables, jnp.stack([image] * 10), jnp.arange(10))
        assert 0 <= as_labels.min() < 0.1 and 0.9 < as_labels.max() <= 1
        for name in task.classifiers:
            read = np.asarray(logits[name](constants[name], as_labels)).argmax(-1)
            right[name] += read[label] == label
            original[name] += np.sum(np.delete(read, label) == label)
            given[name] += (read == np.arange(10)) & (np.arange(10) != label)
    for metric in given:
        assert metrics[f'swap_accuracy/{metric}'] == pytest.approx(given[metric].sum() / 180)
        assert metrics[f'original_label_rate/{metric}'] == pytest.approx(original[metric] / 180)
        assert metrics[f'right_label_accuracy/{metric}'] == pytest.approx(right[metric] / 20)
    assert [metrics[f'swap_accuracy/judge/{label}'] for label in range(10)] == pytest.approx(given['judge'] / 18)
    assert metrics['psnr'] == pytest.approx(-10 * np.log10(metrics['mse']))
    # Per pixel, on the scale from 0 to 255.
    log_density = (metrics['reconstruction'] - metrics['kl']) / 16**2 - np.log(255 * 0.3081)
    assert metrics['bits_per_dim'] == pytest.approx(-np.log2(np.exp(log_density)))


def test_without_embeddings_the_label_changes_nothing(task, initial):
    params = dict(initial[0]['params'])
    swaps = task.all_labels({**initial[0], 'params': params}, jnp.ones((2, 4 * 4 * 4)))
    assert np.ptp(swaps, axis=0).max() > 1e-6
    params |= {name: jax.tree.map(jnp.zeros_like, params[name]) for name in ('embed_mu', 'embed_log_var')}
    swaps = task.all_labels({**initial[0], 'params': params}, jnp.ones((2, 4 * 4 * 4)))
    np.testing.assert_allclose(swaps, np.broadcast_to(swaps[:1], swaps.shape), atol=1e-6)


def test_mu_and_log_variance_have_tables_of_their_own(task, initial):
    params = dict(initial[0]['params'])
    params['embed_mu'] = jax.tree.map(lambda x: x + 1, params['embed_mu'])
    before, after = (
        task.bound({**initial[0], 'params': p})(jnp.ones((2, 64)), jnp.array([1, 2]), method='posterior')
        for p in (initial[0]['params'], params)
    )
    np.testing.assert_allclose(after.mu - before.mu, 1, atol=1e-6)
    np.testing.assert_array_equal(after.log_var, before.log_var)


def test_importance_bound_is_that_of_burda_et_al(config):
    """log mean_k p(x | z_k) p(z_k) / q(z_k | x), with scipy's densities."""
    config.importance_samples = 3
    task = VAETask(config)
    (variables, constants), batch = initial_of(task), batch_of(task)
    apply = task.bound(wilder(variables))
    images = standardize(batch['image'] / 255.0, config.data)
    posterior = apply(apply(images, method='features'), batch['label'], method='posterior')
    scale = np.exp(apply(method='likelihood_log_scale'))
    weights = []
    for k in (1, 2, 3):
        z = posterior.sample(task.noise(batch, Keys(KEYS.root, k), 'importance'))
        mean = standardize(apply(z, method='decode'), config.data)
        likelihood = scipy.stats.norm.logpdf(images, mean, scale).sum(axis=(1, 2, 3))
        prior = scipy.stats.norm.logpdf(z).sum(axis=1)
        proposal = scipy.stats.norm.logpdf(z, posterior.mu, np.exp(0.5 * posterior.log_var)).sum(axis=1)
        weights.append(likelihood + prior - proposal)
    expected = scipy.special.logsumexp(weights, axis=0) - np.log(3)
    sums = evaluated(task, wilder(variables), constants, batch)
    assert float(sums['iw_bound']) == pytest.approx(expected.sum(), rel=1e-4)


def test_run_is_self_contained_and_can_be_resumed(task, vae_runs, tmp_path, capsys, monkeypatch):
    workdir, stopped = tmp_path / 'run', tmp_path / 'stopped'
    results = train.train(task, workdir)
    shown = '  '.join(
        f'{name} {results[name]:.4g}' for name in ('total', 'reconstruction', 'kl', 'swap_accuracy/judge')
    )
    assert f'step {results["step"]}  test: {shown}\n' in capsys.readouterr().err
    for name in ('classifier', 'judge'):
        copy, original = (
            {
                path.relative_to(folder): path.read_bytes()
                for path in (folder / 'checkpoints').rglob('*')
                if path.is_file()
            }
            for folder in (workdir / name, vae_runs / name)
        )
        assert copy and copy == original
    saved = saved_arrays(workdir)
    networks = {'encoder', 'to_mu', 'to_log_var', 'decoder', 'embed_mu', 'embed_log_var', 'raw_log_scale'}
    assert set(saved['training']['params']) == networks
    assert {
        'swaps.png',
        'reconstructions.png',
        'wrong_labels.png',
        'nearest.png',
        'samples.png',
        'interpolation.png',
        'curves.png',
    } <= {path.name for path in (workdir / 'figures').iterdir()}
    results = jsonable(results)
    assert results['num_examples'] == 23 and json.loads((workdir / 'results.json').read_text()) == results

    leave_out_figures(monkeypatch)
    stored = workdir_lib.load_config(workdir)
    assert stored.classifier_workdir == str(workdir / 'classifier')
    assert jsonable(evaluate.evaluate(VAETask(stored), workdir)) == results
    stopped_run(task, stopped, 3)
    assert jsonable(train.train(task, stopped)) == results
    jax.tree.map(np.testing.assert_array_equal, saved_arrays(stopped), saved)
    assert metric_lines(stopped) == metric_lines(workdir)


def test_number_of_devices_changes_only_rounding(config):
    """With all terms of the loss."""
    config.update({'coarse_weight': 2.0, 'cycle_weight': 0.5, 'adversaries': {'latent': 3.0, 'swap': 5.0}})
    config.augment.flip = True
    task, outcomes = VAETask(config), []
    for count in (1, 4):
        _, state, summaries = train_steps(task, 3, devices=jax.devices()[:count])
        outcomes.append((summaries, state.params, state.average))
    for outcome in outcomes[1:]:
        # Adam divides by gradients that may be nearly zero, which enlarges rounding.
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), outcome, outcomes[0])


def test_metrics_do_not_depend_on_the_batch(config):
    one, outcomes = Devices(jax.devices()[:1]), []
    for size in (23, 1, 7):
        config.eval_batch_size = size
        variables, constants = initial_of(VAETask(config))
        evaluation = evaluate.Evaluation(VAETask(config), one)
        outcomes.append(evaluation.metrics(wilder(variables), constants, lambda: None, 'test'))
    for found in outcomes[1:]:
        assert set(found) == set(outcomes[0])
        for name, value in outcomes[0].items():
            # Styles are quotients of small differences: digits are lost.
            room = {'abs': 1e-2} if name.startswith('style/') else {'rel': 1e-4, 'abs': 1e-5}
            assert found[name] == pytest.approx(value, nan_ok=True, **room), name


@pytest.mark.parametrize(
    'values, message',
    [
        ({'model.encoder': 'resnet9', 'data.image_size': 28}, 'do not halve 3 times'),
        ({'model.width': 1}, 'model.width is 1'),
        ({'importance_samples': -1}, 'importance_samples is -1'),
        ({'swap_weight': -1.0}, 'swap_weight is -1.0'),
        ({'data.std': (0.0,)}, 'std above 0'),
        ({'data.mean': (0.1, 0.2)}, 'data.mean has 2 values'),
        ({'data.mean': (0.1, 0.2, 0.3)}, 'a value for each channel'),
        ({'model.latent': 0}, 'latent >= 1'),
        ({'model.decoder_width': 1}, 'decoder_width >= 2'),
        ({'show.noise': -0.1}, 'show.noise is -0.1'),
    ],
)
def test_network_that_cannot_be_built_is_refused(config, values, message):
    config.update_from_flattened_dict(values)
    with pytest.raises(UserError, match=message):
        VAETask(config)


@pytest.mark.parametrize('count', [1, 3])
def test_few_images_have_pictures_too(task, initial, count):
    drawn = task.figures(initial[0], {name: array[:count] for name, array in task.load('test').items()}, KEYS)
    assert ('interpolation' in drawn) == (count > 1)


@pytest.mark.parametrize('noise', [0.0, 0.5])
def test_noise_differs_between_images(noise):
    config = shrunk(classifier_mnist.get_config('demo'))
    config.augment.update({'scale': 0.0, 'aspect': 0.0, 'shift': 0.0, 'noise': noise})
    batch = {'image': jnp.full((6, 16, 16, 1), 51, jnp.uint8), 'index': jnp.arange(6)}
    images = np.asarray(ClassifierTask(config).augment(batch, KEYS))
    strengths = np.std(images - 0.2, axis=(1, 2, 3))
    assert np.all(strengths > 0.001) if noise else np.allclose(images, 0.2)
    assert len(np.unique(strengths.round(4))) == (6 if noise else 1)
