"""The classifier's task: trained, evaluated, and its network against the published one."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from common import evaluate, train
from common.keys import Keys
from common.layers.default import Mode
from common.parallel import AXIS
from configs import classifier_mnist
from tests.helpers import initial_of
from vae import data
from vae.classifier import ClassifierTask
from vae.model import Classifier
from vae.networks import ResNet9

KEYS = Keys(jax.random.key(0), 0)


def draw_bars(split, number):
    """Images `[N, 16, 16, 1]` of a bar whose height is the label."""
    rng = np.random.default_rng(len(split))
    labels = np.arange(number, dtype=np.int32) % 10
    images = rng.integers(0, 60, (number, 16, 16, 1), np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[3 + label : 5 + label] = 255
    return {'image': images, 'label': labels}


@pytest.fixture
def config(monkeypatch):
    monkeypatch.setattr(data, 'load', lambda config, split: draw_bars(split, {'train': 100, 'test': 37}[split]))
    config = classifier_mnist.get_config('demo')
    config.update({'num_epochs': 8, 'batch_size': 20, 'eval_batch_size': 16, 'eval_every_epochs': 0})
    config.data.image_size, config.model.width = 16, 8
    config.augment.update({'scale': 0.0, 'aspect': 0.0, 'shift': 0.0})
    return config


def test_training_learns_and_evaluation_repeats_its_results(config, tmp_path):
    task = ClassifierTask(config)
    results = train.train(task, tmp_path)
    assert results['accuracy'] > 0.5 and results['num_examples'] == 37
    assert results == json.loads((tmp_path / 'results.json').read_text()) == evaluate.evaluate(task, tmp_path)


def test_accuracy_is_the_share_of_correct_predictions(config):
    task = ClassifierTask(config)
    variables, _ = initial_of(task)
    arrays = task.load('test')
    valid = np.arange(37) < 30
    batch = jax.tree.map(jnp.asarray, {**arrays, 'valid': valid, 'index': np.arange(37)})
    sums = jax.jit(task.eval_step, static_argnums=4)(variables, {}, batch, KEYS, None)
    predictions = np.asarray(jax.jit(task.logits)(variables, batch['image'] / 255.0)).argmax(-1)
    expected = np.mean(predictions[:30] == arrays['label'][:30])
    assert task.summarize(sums)['accuracy'] == pytest.approx(expected)


def test_label_smoothing_smooths_the_targets(config):
    config.label_smoothing = 0.3
    task = ClassifierTask(config)
    variables, _ = initial_of(task)
    batch = jax.tree.map(lambda x: jnp.asarray(x[None, :8]), task.load('train') | {'index': np.arange(100)})

    def loss(batch):
        return task.loss(variables['params'], variables['batch_stats'], {}, batch, KEYS, None)[0]

    def logits(batch):
        images = (batch['image'] / 255.0 - 0.1307) / 0.3081
        return task.model(train=True).apply(variables, images, mutable=['batch_stats'])[0]

    found, outputs = (jax.jit(jax.vmap(f, axis_name=AXIS))(batch)[0] for f in (loss, logits))
    targets = optax.smooth_labels(jax.nn.one_hot(batch['label'][0], 10), 0.3)
    assert float(found) == pytest.approx(float(optax.softmax_cross_entropy(outputs, targets).mean()), rel=1e-4)


def test_resnet9_has_the_published_number_of_parameters():
    """The reference's ResNet-9 has 6,575,370 parameters, 2,240 of them biases of convolutions, which ours lacks."""
    network = Classifier(ResNet9(64, Mode(train=False)), 10)
    shapes = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    assert sum(x.size for x in jax.tree.leaves(shapes['params'])) == 6_575_370 - 2_240
