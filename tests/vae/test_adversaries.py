"""Adversaries: each side's loss trains that side alone, and both can learn."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vae.adversaries import Adversaries, LatentAdversary, SwapDiscriminator

LABELS = jnp.arange(64) % 4
GIVEN = (LABELS + 1) % 4
MU = jax.random.normal(jax.random.key(0), (64, 8)) + 2 * jax.nn.one_hot(LABELS, 8)
MAPS = jax.random.normal(jax.random.key(1), (64, 2, 2, 8))
RIGHT = jnp.ones(64, bool)


def init(network, *arguments):
    return jax.jit(network.init)(jax.random.key(3), *arguments)['params']


def norm(tree):
    return float(optax.tree.norm(tree))


def trained(loss, params, steps=80):
    """Parameters after some steps of Adam."""
    optimizer = optax.adam(1e-2)

    @jax.jit
    def step(params, state):
        updates, state = optimizer.update(jax.grad(loss)(params), state)
        return optax.apply_updates(params, updates), state

    state = optimizer.init(params)
    for _ in range(steps):
        params, state = step(params, state)
    return params


def test_latent_adversary_and_encoder_have_losses_of_their_own():
    network = LatentAdversary(4)
    params = init(network, MU)
    for side, trains in ((0, (True, False)), (1, (False, True))):
        gradients = jax.grad(lambda p, mu, side=side: jnp.sum(network.terms(p, mu, LABELS)[side]), (0, 1))(params, MU)
        assert tuple(norm(gradient) > 0 for gradient in gradients) == trains


def test_losses_are_those_of_the_probability_of_the_true_label():
    network = LatentAdversary(4)
    params = init(network, MU)
    nll, denial = network.terms(params, MU, LABELS)
    p = jax.nn.softmax(network.apply({'params': params}, MU))[jnp.arange(64), LABELS]
    np.testing.assert_allclose(nll, -np.log(p), rtol=1e-4)
    np.testing.assert_allclose(denial, -np.log(1 - p), rtol=1e-4)


def test_encoder_can_hide_the_label_from_the_adversary():
    network = LatentAdversary(4)
    params = trained(lambda p: jnp.mean(network.terms(p, MU, LABELS)[0]), init(network, MU))
    assert jnp.mean(network.terms(params, MU, LABELS)[0]) < 0.1
    moved = trained(lambda mu: jnp.mean(network.terms(params, mu, LABELS)[1]), MU)
    assert jnp.mean(network.terms(params, moved, LABELS)[0]) > 1


def test_discriminator_and_decoder_have_losses_of_their_own():
    network = SwapDiscriminator(4)
    params, swaps = init(network, MAPS, LABELS), MAPS + 1
    for side, trains in ((0, (True, False, False)), (1, (False, False, True))):
        gradients = jax.grad(lambda *x, side=side: jnp.sum(network.terms(*x, LABELS, GIVEN, RIGHT)[side]), (0, 1, 2))(
            params, MAPS, swaps
        )
        assert tuple(norm(gradient) > 0 for gradient in gradients) == trains


def test_discriminator_learns_what_images_of_a_label_look_like():
    """Swaps look like their original's label, not like the given one."""
    network = SwapDiscriminator(4)
    themes = 2 * jax.random.normal(jax.random.key(5), (4, 2, 2, 8))
    swaps, good = MAPS + themes[LABELS], MAPS + themes[GIVEN]
    arguments = MAPS[::-1] + themes[LABELS], swaps, LABELS, GIVEN, RIGHT
    params = trained(lambda p: jnp.mean(network.terms(p, *arguments)[0]), init(network, MAPS, LABELS))
    bad, better = (jnp.mean(network.terms(params, MAPS, x, LABELS, GIVEN, RIGHT)[1]) for x in (swaps, good))
    assert jnp.mean(network.terms(params, *arguments)[0]) < 0.2 and bad > better + 2


def test_reconstructions_under_wrong_labels_do_not_count():
    network = SwapDiscriminator(4)
    params = init(network, MAPS, LABELS)
    half = jnp.arange(64) < 32
    other = jnp.where(half[:, None, None, None], MAPS, MAPS + 5)
    first, second = (network.terms(params, x, MAPS, LABELS, GIVEN, half)[0] for x in (MAPS, other))
    np.testing.assert_allclose(first, second, rtol=1e-5)
    assert norm(network.terms(params, other, MAPS, LABELS, GIVEN, RIGHT)[0] - first) > 0.1


@pytest.mark.parametrize(
    'weights, names', [((0, 0), set()), ((1, 0), {'latent_adversary'}), ((0, 1), {'discriminator'})]
)
def test_adversary_without_weight_is_absent(weights, names):
    adversaries = Adversaries(*weights, 4)
    params = adversaries.init(jax.random.key(0), MU, lambda: MAPS)
    terms = adversaries.terms(
        params, mu=MU, maps={'given': MAPS, 'swap': MAPS}, labels={'given': LABELS, 'swap': GIVEN}, true=LABELS
    )
    assert set(params) == names and len(terms) == 2 * len(names)
