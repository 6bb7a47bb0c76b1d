"""The attack stays within its radius and raises the loss, each image by itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vae.attack import attacked

WEIGHTS = jax.random.normal(jax.random.key(0), (8 * 8 * 3, 10))
IMAGES = jax.random.uniform(jax.random.key(1), (16, 8, 8, 3))
DIRECTIONS = jax.random.normal(jax.random.key(2), IMAGES.shape)
LABELS = jnp.arange(16) % 10


def nll(images, weights=WEIGHTS):
    logits = jnp.tanh(images.reshape(len(images), -1) @ weights)
    return -jnp.sum(jax.nn.log_softmax(3 * logits) * jax.nn.one_hot(LABELS[: len(images)], 10), axis=-1)


def lengths(changes):
    return np.sqrt(np.square(changes).sum((1, 2, 3)))


@pytest.mark.parametrize('radius', [0.05, 1.0])
def test_attack_stays_within_the_radius_and_raises_the_loss(radius):
    changes = attacked(nll, IMAGES, DIRECTIONS, radius) - IMAGES
    assert np.all(lengths(changes) <= radius * (1 + 1e-4)) and np.all(lengths(changes) > 0.7 * radius)
    random = changes * 0 + radius * DIRECTIONS / lengths(DIRECTIONS)[:, None, None, None]
    assert jnp.mean(nll(IMAGES + changes)) > jnp.mean(nll(IMAGES + random)) + 0.2 * radius


def test_step_is_added_to_the_random_start_and_projected():
    """The gradient of a linear loss is known; with the start at a right angle to it, so is the sum of the two."""
    slope = jnp.zeros((1, 8, 8, 3)).at[0, 0, 0, 0].set(2.0)
    direction = jnp.zeros((1, 8, 8, 3)).at[0, 1, 1, 1].set(7.0)
    change = attacked(lambda x: jnp.sum(slope * x, axis=(1, 2, 3)), IMAGES[:1], direction, 0.1) - IMAGES[:1]
    length = np.hypot(1.25, 0.5)
    assert float(change[0, 0, 0, 0]) == pytest.approx(0.1 * 1.25 / length, rel=1e-4)
    assert float(change[0, 1, 1, 1]) == pytest.approx(0.1 * 0.5 / length, rel=1e-4)


def test_gradient_is_taken_at_the_random_start():
    """At the image itself this loss has none; anywhere else it points away from the image."""
    changes = attacked(lambda x: jnp.sum(jnp.square(x - IMAGES), axis=(1, 2, 3)), IMAGES, DIRECTIONS, 0.5) - IMAGES
    np.testing.assert_allclose(changes, 0.5 * DIRECTIONS / lengths(DIRECTIONS)[:, None, None, None], atol=1e-5)


def test_images_are_attacked_each_by_itself():
    whole = attacked(nll, IMAGES, DIRECTIONS, 0.5)
    np.testing.assert_allclose(attacked(nll, IMAGES[:4], DIRECTIONS[:4], 0.5), whole[:4], atol=1e-6)


def test_even_loss_leaves_the_random_start():
    changes = attacked(lambda x: jnp.zeros(len(x)), IMAGES, DIRECTIONS, 0.5) - IMAGES
    np.testing.assert_allclose(lengths(changes), 0.25, rtol=1e-4)


def test_no_gradient_passes_through_the_attack():
    def loss(weights):
        return jnp.sum(attacked(lambda x: nll(x, weights), IMAGES, DIRECTIONS, 0.5))

    assert not np.any(jax.grad(loss)(WEIGHTS))
