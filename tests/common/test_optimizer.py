"""Schedules, weight decay and the moving average."""

from hypothesis import given
from hypothesis import strategies as st
import jax.numpy as jnp
from ml_collections import ConfigDict
import numpy as np
import optax
import pytest

from common.errors import UserError
from common.optimizer import OPTIMIZERS, create, schedule, update_average


@pytest.fixture
def options(config):
    config.optimizer.update({'learning_rate': 0.02, 'warmup_fraction': 0.1, 'clip_norm': 0.0})
    return config.optimizer


@pytest.mark.parametrize('name, half, end', [('cosine', 0.01, 0), ('linear', 0.01, 0), ('constant', 0.02, 0.02)])
def test_learning_rate_warms_up_and_falls(options, name, half, end):
    options.schedule = name
    rate = schedule(options, 200)
    measured = [rate(step) for step in (0, 10, 20, 110, 200)]
    np.testing.assert_allclose(measured, [0, 0.01, 0.02, half, end], atol=1e-7)


@given(
    peak=st.floats(2**-16, 1, width=32),
    warmup=st.floats(0, 0.99),
    steps=st.integers(1, 1000),
    name=st.sampled_from(['cosine', 'linear', 'constant']),
    part=st.floats(0, 1),
)
def test_learning_rate_stays_between_0_and_its_peak(peak, warmup, steps, name, part):
    options = ConfigDict({'learning_rate': peak, 'warmup_fraction': warmup, 'schedule': name})
    assert 0 <= schedule(options, steps)(round(part * steps)) <= peak * (1 + 1e-6)


def test_cosine_follows_its_formula(options):
    options.schedule = 'cosine'
    rate = schedule(options, 200)
    for step in (20, 65, 199):
        assert rate(step) == pytest.approx(0.01 * (1 + np.cos(np.pi * (step - 20) / 180)), rel=1e-4)


def test_without_warm_up_the_schedule_starts_at_the_peak(options):
    options.warmup_fraction = 0.0
    assert schedule(options, 200)(0) == pytest.approx(0.02)


@pytest.mark.parametrize('name', OPTIMIZERS)
def test_weight_decay_applies_only_to_kernels(options, name):
    params = {'kernel': jnp.ones((2, 3)), 'bias': jnp.ones(3), 'scale': jnp.ones(3)}
    options.update({'name': name, 'weight_decay': 0.5})
    rule = create(options, lambda step: 0.1)
    gradient = {name: jnp.zeros_like(p) for name, p in params.items()}
    updates, _ = rule.update(gradient, rule.init(params), params)
    assert np.all(updates['kernel'] < -0.01)
    assert not updates['bias'].any() and not updates['scale'].any()


def test_muon_update_has_similar_singular_values(options):
    options.update({'name': 'muon', 'weight_decay': 0.0})
    rng = np.random.default_rng(0)
    gradient = {
        'kernel': jnp.float32(rng.normal(size=(3, 3, 4, 8)) * np.logspace(0, 2, 8)[None, None, None]),
        'embedding': jnp.float32(rng.normal(size=(10, 8))),
    }
    rule = create(options, lambda step: 0.1)
    updates, _ = rule.update(gradient, rule.init(gradient), gradient)
    _, singular, _ = np.linalg.svd(updates['kernel'].reshape(36, 8))
    whole = 0.1 * 0.2 * np.sqrt(36)  # Learning rate, root mean square of an Adam step, size.
    assert np.all((0.5 * whole < singular) & (singular < 1.5 * whole))
    step = abs(updates['embedding'])  # Adam's first step has the same size for every value.
    np.testing.assert_allclose(step, jnp.full_like(step, step[0, 0]), rtol=1e-4)


def test_gradients_are_clipped_by_their_global_norm(options):
    options.update({'name': 'sgd', 'weight_decay': 0.0, 'clip_norm': 1.0})
    rule, gradient = create(options, lambda step: 1.0), {'a': jnp.array([30.0]), 'b': jnp.array([40.0])}
    updates, _ = rule.update(gradient, rule.init(gradient), gradient)
    # Nesterov's first step is (1 + momentum) times the gradient.
    assert optax.tree.norm(updates) == pytest.approx(1.9)


def test_average_without_decay_equals_the_values():
    old, new = jnp.asarray(np.random.default_rng(0).standard_normal((2, 100)))
    np.testing.assert_array_equal(update_average(old, new, 100, 0.0), new)


def test_average_warms_up():
    for step, decay in ((0, 0.1), (10, 11 / 20), (10**6, 0.998)):
        average = update_average(jnp.ones(()), jnp.zeros(()), jnp.int32(step), 0.998)
        assert average == pytest.approx(decay, rel=1e-4)


@pytest.mark.parametrize(
    'change',
    [
        {'name': 'adam'},
        {'learning_rate': 0.0},
        {'clip_norm': -1.0},
        {'ema_decay': 1.0},
        {'schedule': 'step'},
        {'warmup_fraction': 1.0},
    ],
)
def test_bad_values_are_refused(options, change):
    options.update(change)
    with pytest.raises(UserError, match=next(iter(change))):
        create(options, schedule(options, 10))
