"""Measures of swaps in the VAE's evaluation, and the classifier's attack in its training."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from common import evaluate
from common.data import source
from common.data.images import standardize
from common.errors import UserError
from common.parallel import AXIS, Devices
from configs import classifier_mnist, vae_mnist
from tests.helpers import initial_of, save_run, train_steps
from tests.vae.test_task import KEYS, batch_of, draw_digits, loss_sums, shrunk, wilder
from vae import attack, manifold, style, swaps
from vae.classifier import ClassifierTask
from vae.losses import floored, label_nll
from vae.task import VAETask

EXAMPLES = {'train': 40, 'test': 101}


@pytest.fixture(autouse=True)
def tiny_data(monkeypatch):
    """Test images enough for the nearest neighbours of half a label's."""
    monkeypatch.setattr(source, 'load', lambda found, decode, config, split: draw_digits(split, EXAMPLES[split]))


def vae_task(vae_runs, batch_size):
    config = shrunk(
        vae_mnist.get_config('demo'),
        classifier_workdir=str(vae_runs / 'classifier'),
        judge_workdir=str(vae_runs / 'judge'),
        eval_batch_size=batch_size,
    )
    config.model.update({'decoder_width': 4, 'latent': 3})
    return VAETask(config)


def measured(vae_runs, batch_size, devices):
    task = vae_task(vae_runs, batch_size)
    variables, constants = initial_of(task)
    evaluation = evaluate.Evaluation(task, Devices(jax.devices()[:devices]))
    metrics = evaluation.metrics(wilder(variables), constants, lambda: None, 'test')
    return {name: value for name, value in metrics.items() if name.startswith(('swap/', 'style/'))}


@pytest.mark.parametrize('batch_size, devices', [(7, 1), (16, 4)])
def test_measures_of_swaps_are_those_of_all_images_at_once(vae_runs, batch_size, devices):
    task = vae_task(vae_runs, 8)
    variables, constants = initial_of(task)
    arrays = task.load('test')
    pixels, labels = arrays['image'] / np.float32(255), arrays['label']
    predict = jax.jit(task.predict)
    images = np.stack([predict(wilder(variables), arrays['image'], jnp.full(101, given)) for given in range(10)])
    place = np.arange(101)
    given = (labels + 1 + place % 9) % 10

    def features(images):
        return np.asarray(task.classifiers['judge'].logits_and_maps(constants['judge'], images)[1].mean((1, 2)))

    valid = np.ones(101, bool)
    sums = jax.tree.map(np.asarray, swaps.batch_sums(originals=pixels, images=images, labels=labels, valid=valid))
    of_swaps = swaps.metrics(sums) | manifold.metrics(
        real=features(pixels),
        reconstructed=features(images[labels, place]),
        swapped=features(images[given, place]),
        labels=labels,
        given=given,
        names=task.classes,
    )
    assert {'shared_change', 'kept', 'precision', 'precision/3', 'recall/real'} < set(of_swaps)
    of_style = style.metrics(
        np.asarray(style.batch_sums(originals=pixels, images=images, labels=labels, valid=valid)), 1
    )
    found = measured(vae_runs, batch_size, devices)
    for prefix, expected, room in (('swap', of_swaps, 2e-3), ('style', of_style, 1e-2)):
        assert {name: found.pop(f'{prefix}/{name}') for name in expected} == pytest.approx(expected, abs=room)
    assert not found


def test_swaps_are_not_measured_on_the_training_split(vae_runs):
    task = vae_task(vae_runs, 8)
    variables, constants = initial_of(task)
    metrics = evaluate.Evaluation(task, Devices(jax.devices()[:1])).metrics(variables, constants, lambda: None, 'train')
    assert not [name for name in metrics if name.startswith('swap')]


def classifier_task(radius):
    config = shrunk(classifier_mnist.get_config('demo'))
    config.augment.attack = radius
    return ClassifierTask(config)


def test_attack_raises_the_nll_within_the_radius():
    task = classifier_task(0.5)
    variables, _ = initial_of(task)
    batch = {name: jnp.asarray(array[:8]) for name, array in task.load('train').items()} | {'index': jnp.arange(8)}
    images = jax.jit(task.augment)(batch, KEYS)
    attack_all = jax.jit(task.attacked)
    attacked = attack_all(variables, images, batch, KEYS)
    before, after = (label_nll(logits=task.logits(variables, x), labels=batch['label']) for x in (images, attacked))
    assert jnp.all(after > before)
    lengths = jnp.sqrt(jnp.sum(jnp.square(attacked - images), axis=(1, 2, 3)))
    np.testing.assert_allclose(lengths, 0.5, atol=0.1)
    backwards = attack_all(variables, images[::-1], jax.tree.map(lambda x: x[::-1], batch), KEYS)
    np.testing.assert_allclose(backwards[::-1], attacked, atol=1e-6)


def test_classifier_is_trained_on_attacked_images(monkeypatch):
    expected = train_steps(classifier_task(0.0), 1)[2][0]['loss']
    monkeypatch.setattr(attack, 'attacked', lambda nll, images, directions, radius: 0 * images)
    assert train_steps(classifier_task(0.5), 1)[2][0]['loss'] != pytest.approx(expected, rel=1e-3)
    monkeypatch.setattr(attack, 'attacked', lambda nll, images, directions, radius: images)
    assert train_steps(classifier_task(0.5), 1)[2][0]['loss'] == pytest.approx(expected, rel=1e-6)
    assert classifier_mnist.get_config().augment.attack == 0


def test_classifier_without_attack_never_computes_one(monkeypatch):
    monkeypatch.setattr(attack, 'attacked', None)
    train_steps(classifier_task(0.0), 1)


def test_means_add_their_losses_to_the_total_and_train(vae_runs):
    task = vae_task(vae_runs, 8)
    task.config.wrong_label_rate = 0.0  # Training's reconstruction is a mean over right labels.
    weights = {'adversaries.latent': 3.0, 'adversaries.swap': 5.0, 'coarse_weight': 2.0, 'cycle_weight': 0.5}
    plain = train_steps(task, 1)[2][0]
    task.config.update_from_flattened_dict(weights)
    _, state, (line, after) = train_steps(task, 2)
    losses = 'kl label_loss swap_loss adversary_loss denial_loss discriminator_loss realism_loss'.split()
    losses += ['coarse_loss', 'cycle_loss']
    assert line['total'] == pytest.approx(sum(line[name] for name in losses) - line['reconstruction'], rel=1e-5)
    assert line['reconstruction'] == pytest.approx(plain['reconstruction'], rel=1e-6)
    assert {'latent_adversary', 'discriminator'} < set(state.params)
    assert line['cycle_loss'] > 0 < line['coarse_loss'] and after['adversary_loss'] != line['adversary_loss']


def test_larger_nll_of_two_frozen_classifiers_counts(vae_runs, tmp_path):
    """By classifiers whose biases prefer other labels."""
    config = vae_task(vae_runs, 8).config
    classifier = VAETask(config).classifiers['frozen']
    for key, label in (('classifier_workdir', 0), ('second_workdir', 1)):
        variables = initial_of(classifier)[0]
        variables['params']['Dense_0']['bias'] = 9.0 * jax.nn.one_hot(label, 10)
        classifier.config.seed = label
        config[key] = str(save_run(classifier, tmp_path / key, variables))
    task = VAETask(config)
    constants, batch = task.constants(), batch_of(task)
    batch['label'] = jnp.arange(8) % 2
    nll, _ = jax.jit(task.frozen_nll)(constants, batch['image'] / 255.0, batch['label'])
    assert jnp.all(nll > 8)  # Each classifier alone would give every second image one close to 0.
    step = functools.partial(task.eval_step, measures='all')
    assert 'given/second' in jax.eval_shape(step, *initial_of(task), batch, KEYS)['swaps']


def test_swaps_are_compared_coarsely_with_their_mirrored_originals(vae_runs):
    task = vae_task(vae_runs, 8)
    task.config.update_from_flattened_dict({'coarse_weight': 2.0, 'augment.flip': True})
    initial, batch = initial_of(task), batch_of(task)
    pixels = task.flipped(batch, KEYS)
    labels = jnp.stack([task.given_labels(batch, KEYS), task.other_labels(batch, KEYS, 'swap')])

    def decoded(images):
        network, noise = task.model(train=True), task.noise(batch, KEYS)
        return network.apply(initial[0], images, labels, noise, mutable=['batch_stats'])[0][1][1]

    swapped = jax.jit(jax.vmap(decoded, axis_name=AXIS))(standardize(pixels, task.config.data)[None])[0]
    expected = 2 * swaps.coarse_difference(swapped, pixels).sum()
    assert loss_sums(task, initial, batch)['coarse_loss'] == pytest.approx(float(expected), rel=1e-4)
    assert np.any(pixels != batch['image'] / 255)


def test_cycle_compares_the_original_with_the_swap_of_its_swap(vae_runs):
    task = vae_task(vae_runs, 8)
    task.config.cycle_weight = 0.5
    initial, batch = initial_of(task), batch_of(task)
    images = standardize(batch['image'] / 255.0, task.config.data)

    def decoded(images, *labels, noise):
        def last(images):
            network = task.model(train=True)
            return network.apply(initial[0], images, jnp.stack(labels), noise, mutable=['batch_stats'])[0][1][-1]

        return jax.jit(jax.vmap(last, axis_name=AXIS))(images[None])[0]

    labels = task.given_labels(batch, KEYS), task.other_labels(batch, KEYS, 'swap')
    swapped = standardize(decoded(images, *labels, noise=task.noise(batch, KEYS)), task.config.data)
    cycled = decoded(swapped, batch['label'], noise=task.noise(batch, KEYS, 'cycle'))
    scale = np.exp(floored(initial[0]['params']['raw_log_scale']))
    likelihood = scipy.stats.norm.logpdf(images, standardize(cycled, task.config.data), scale).sum()
    assert loss_sums(task, initial, batch)['cycle_loss'] == pytest.approx(-0.5 * likelihood, rel=1e-4)


@pytest.mark.parametrize('name', ['coarse_weight', 'cycle_weight', 'adversaries.swap'])
def test_means_that_need_swaps_say_so(vae_runs, name):
    config = vae_task(vae_runs, 8).config
    config.update_from_flattened_dict({name: 1.0, 'swap_weight': 0.0})
    with pytest.raises(UserError, match='set swap_weight above 0'):
        VAETask(config)
