"""Our networks and PyTorch's compute the same outputs, loss and gradients, in training and evaluation.

The tolerance allows for float32 rounding: PyTorch sums in another order, and a dozen batch normalisations over a few
pixels each enlarge the difference.
"""

import copy
import functools

import jax
import numpy as np
import pytest
import torch

from benchmarks import works
from benchmarks.ours import Ours, in_order
from benchmarks.theirs import Theirs
from benchmarks.torch_layers import load
from common.keys import Keys
from configs import unet_mp_tr_ce, unet_mp_tr_dice, unet_strconv_tr_ce, unet_strconv_ups_dice
from vae.classifier import standardize

OUTPUTS, GRADIENTS = 1e-4, 1e-3  # Relative to the largest output; relative norm of a gradient.
VARIANTS = (unet_mp_tr_ce, unet_mp_tr_dice, unet_strconv_tr_ce, unet_strconv_ups_dice)
WORKS = [works.unet(4, 4, 16, variant, (1, 2, 4)) for variant in VARIANTS] + [
    works.vae_on_mnist(8),
    works.vae_on_cifar10(4, 8),
]
NAMES = [variant.__name__.split('.')[1] for variant in VARIANTS] + ['vae_mnist', 'vae_cifar10']


def changed(variables):
    """The variables plus noise, because many initial values are all zeros or ones."""
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda x: np.float32(x + 0.05 * rng.normal(size=x.shape)), variables)


@pytest.fixture(params=WORKS, ids=NAMES, scope='module')
def sides(request):
    """Our side, PyTorch's, and the reference that the latter starts from."""
    ours, theirs = Ours(request.param), Theirs(request.param, 'eager')
    ours.initial = changed(ours.initial)
    ours.constants = changed(jax.tree.map(np.asarray, ours.constants))
    return ours, theirs, ours.reference()


@pytest.fixture
def both(sides):
    """The sides with the same weights and statistics, also after another test changed them."""
    _, theirs, reference = sides
    theirs.load(reference)
    return sides


def our_outputs(ours, batch, train):
    """Logits or mean images `[B, ...]` of the first batch."""
    task = ours.task

    def outputs(variables, batch):
        if ours.work.classifier:
            images = standardize(batch['image'] / 255.0, task.config.data)
            (_, mean, _), _ = task.model(train).apply(
                variables, images, batch['given'][None], batch['noise'], mutable=['batch_stats']
            )
            return mean[0]
        images, _ = task.augment(batch, None, None)
        return task.model.apply(variables, images, train=train, mutable=['batch_stats'])[0]

    return ours.trainer.devices.map(outputs, (None, 0))(ours.initial, batch)


def our_gradients(ours, batch):
    """Loss, updated statistics and gradients of the first batch, in training mode."""
    task, trainer = ours.task, ours.trainer

    def gradients(variables, constants, batch, root):
        loss = functools.partial(task.loss, stage=trainer.stage(0))
        (value, (statistics, _)), grads = jax.value_and_grad(loss, has_aux=True)(
            variables['params'], variables['batch_stats'], constants, batch, Keys(root, 0)
        )
        return value, statistics, grads

    return trainer.devices.map(gradients, (None, None, 0, None))(ours.initial, ours.constants, batch, trainer.root)


@pytest.mark.parametrize('train', [False, True], ids=['evaluation', 'training'])
def test_outputs_are_equal(both, train):
    ours, theirs, reference = both
    expected = our_outputs(ours, stacked(reference.batch), train)
    theirs.objective.train(train)
    with torch.no_grad():
        _, outputs = theirs.objective(**theirs.batch(reference))
    assert outputs.isfinite().all()
    np.testing.assert_allclose(outputs.movedim(1, -1), expected, atol=OUTPUTS * np.abs(expected).max())


def test_loss_gradients_and_statistics_are_equal(both):
    ours, theirs, reference = both
    value, statistics, grads = our_gradients(ours, stacked(reference.batch))
    network = theirs.objective.network
    expected = copy.deepcopy(network)
    layers, others = in_order(ours.network(), {'params': grads, 'batch_stats': statistics})
    load(expected, layers, others, theirs.objective.example_inputs(ours.work.config.data.image_size))

    loss, _ = theirs.objective(**theirs.batch(reference))
    loss.backward()
    assert np.isfinite(loss.item())
    np.testing.assert_allclose(loss.item(), value, rtol=OUTPUTS)
    for (name, parameter), gradient in zip(network.named_parameters(), expected.parameters(), strict=True):
        difference = (parameter.grad - gradient).norm() / gradient.norm()
        assert difference < GRADIENTS, (name, difference)
    for (name, value), other in zip(network.named_buffers(), expected.buffers(), strict=True):
        if name.endswith('running_mean'):  # PyTorch's running variance divides by n - 1, ours by n.
            np.testing.assert_allclose(value, other, rtol=OUTPUTS, atol=OUTPUTS)


def stacked(batch):
    """The batch with a leading axis for its single device."""
    return {name: value[None] for name, value in batch.items()}
