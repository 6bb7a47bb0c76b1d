"""Segmentation losses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from unet.losses import LOSSES, cross_entropy, dice
from unet.masks import IGNORED

pytestmark = pytest.mark.usefixtures('strict_dtypes')


@pytest.fixture
def logits():
    return jnp.asarray(np.random.default_rng(0).normal(size=(4, 6, 5, 3)), jnp.float32)


@pytest.fixture
def labels():
    return jnp.asarray(np.random.default_rng(1).integers(0, 3, (4, 6, 5)), jnp.uint8)


def one_hot(labels):
    return jnp.asarray(np.eye(3, dtype=np.float32)[np.asarray(labels)])


def test_cross_entropy_equals_numpy(logits, labels):
    expected = -np.sum(log_softmax(np.asarray(logits), -1) * one_hot(labels), -1).mean((1, 2))
    np.testing.assert_allclose(cross_entropy(logits=logits, labels=labels), expected, rtol=1e-6)


def test_dice_equals_numpy_and_ignores_absent_classes(logits, labels):
    labels = labels.at[0].set(2).at[1].set(labels[1] % 2)
    expected = []
    for probabilities, truth in zip(softmax(np.asarray(logits), -1), np.asarray(labels), strict=True):
        scores = [
            2 * probabilities[truth == c, c].sum() / (probabilities[..., c].sum() + (truth == c).sum())
            for c in np.unique(truth)
        ]
        expected.append(1 - np.mean(scores))
    np.testing.assert_allclose(dice(logits=logits, labels=labels), expected, rtol=1e-6)


def test_dice_ranges_from_zero_to_one(logits, labels):
    np.testing.assert_allclose(dice(logits=50 * one_hot(labels), labels=labels), 0, atol=1e-6)
    np.testing.assert_allclose(dice(logits=50 * one_hot((labels + 1) % 3), labels=labels), 1, atol=1e-6)
    assert np.all((dice(logits=logits, labels=labels) > 0) & (dice(logits=logits, labels=labels) < 1))


@pytest.mark.parametrize('name', LOSSES)
def test_loss_is_independent_of_the_order_of_classes(name, logits, labels):
    order = np.array([2, 0, 1])
    moved = LOSSES[name](logits=logits[..., order], labels=jnp.asarray(np.argsort(order), jnp.uint8)[labels])
    np.testing.assert_allclose(moved, LOSSES[name](logits=logits, labels=labels), rtol=1e-6)


@pytest.mark.parametrize('name', LOSSES)
def test_loss_of_an_image_is_independent_of_the_batch(name, logits, labels):
    alone = [LOSSES[name](logits=logits[i : i + 1], labels=labels[i : i + 1])[0] for i in range(len(labels))]
    np.testing.assert_allclose(LOSSES[name](logits=logits, labels=labels), alone, rtol=1e-6)


@pytest.mark.parametrize('name', LOSSES)
def test_gradient_equals_finite_differences(name, logits, labels):
    with jax.enable_x64(True):
        logits = jnp.asarray(logits, jnp.float64)
        direction = np.random.default_rng(2).normal(size=logits.shape)

        def loss(logits):
            return jnp.sum(LOSSES[name](logits=logits, labels=labels))

        difference = (loss(logits + 1e-5 * direction) - loss(logits - 1e-5 * direction)) / 2e-5
        np.testing.assert_allclose(np.sum(jax.grad(loss)(logits) * direction), difference, rtol=1e-6)


@pytest.mark.parametrize('name', LOSSES)
def test_gradient_is_nonzero_if_only_background_is_predicted(name, labels):
    logits = jnp.zeros((4, 6, 5, 3)).at[..., 1].set(5)
    gradient = jax.grad(lambda x: jnp.sum(LOSSES[name](logits=x, labels=labels)))(logits)
    assert np.abs(gradient[labels == 0]).min() > 1e-6


@pytest.mark.parametrize('name', LOSSES)
@pytest.mark.parametrize('shape', [(4, 6, 5, 1), (4, 5, 6), (1, 6, 5), (4,)])
def test_wrong_shapes_are_refused(name, shape, logits):
    with pytest.raises(ValueError, match='need labels of shape'):
        LOSSES[name](logits=logits, labels=jnp.zeros(shape, jnp.uint8))


@pytest.mark.parametrize('name', LOSSES)
def test_ignored_pixels_change_neither_loss_nor_gradient(name, logits, labels):
    """The loss of the upper half alone, whatever is predicted below, and 0 where all is ignored."""
    ignoring = labels.at[:, 3:].set(IGNORED).at[3].set(IGNORED)

    def loss(logits):
        return LOSSES[name](logits=logits, labels=ignoring, ignores=True)

    expected = LOSSES[name](logits=logits[:3, :3], labels=labels[:3, :3])
    np.testing.assert_allclose(loss(logits), [*expected, 0], rtol=1e-5)
    gradient = jax.grad(lambda x: jnp.sum(loss(x)))(logits)
    assert np.all(gradient[:, 3:] == 0) and np.all(gradient[3] == 0) and np.any(gradient[:3, :3] != 0)


def test_weights_multiply_the_pixels_of_their_class(logits, labels):
    weights = (1.0, 2.0, 5.0)
    nll = -np.sum(log_softmax(np.asarray(logits), -1) * one_hot(labels), -1)
    expected = np.mean(nll * np.asarray(weights)[np.asarray(labels)], axis=(1, 2))
    np.testing.assert_allclose(cross_entropy(logits=logits, labels=labels, weights=weights), expected, rtol=1e-6)
    unweighted = cross_entropy(logits=logits, labels=labels)
    np.testing.assert_allclose(cross_entropy(logits=logits, labels=labels, weights=(1.0,) * 3), unweighted, rtol=1e-6)
