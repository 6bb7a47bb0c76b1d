"""The statistics of the design, on data whose effects are known."""

import itertools

import numpy as np
import pytest

from unet.effects import estimate

CELLS = np.array(list(itertools.product((-0.5, 0.5), repeat=3)))
TRUE = np.array([1.0, -0.5, 0.0])


def noisy(design, rng, interaction=0.0):
    mean = 88 + design @ TRUE + interaction * 4 * design[:, 0] * design[:, 1]
    return mean + 0.3 * rng.standard_normal(len(design))


def test_noiseless_effects_are_found_exactly():
    for design in (CELLS, CELLS[:5], np.repeat(CELLS, 2, axis=0)):
        effects = estimate(design, 88 + design @ TRUE)
        np.testing.assert_allclose([effect.difference for effect in effects], TRUE, atol=1e-9)


def test_interval_of_replicated_design_is_the_textbook_one():
    design = np.repeat(CELLS, 3, axis=0)
    values = noisy(design, np.random.default_rng(0))
    within = values.reshape(8, 3).var(axis=1, ddof=1).mean()
    half = 2.1199 * np.sqrt(within * 4 / 24)  # The 97.5 % quantile of t with 24 - 8 degrees of freedom.
    for effect, column in zip(estimate(design, values), design.T, strict=True):
        assert effect.difference == pytest.approx(values[column > 0].mean() - values[column < 0].mean())
        assert effect.high - effect.difference == pytest.approx(half, rel=1e-4)


@pytest.mark.parametrize('design, interaction', [
    (np.repeat(CELLS, 3, axis=0), 0.0),
    (np.repeat(CELLS, 2, axis=0), 2.0),  # Means over the other choices, whatever they do together.
    (CELLS, 0.0),
    (np.repeat(CELLS[[0, 1, 2, 4]], 2, axis=0), 0.0),
])
def test_intervals_hold_the_truth_as_often_as_they_say(design, interaction):
    rng = np.random.default_rng(1)
    hits = [[effect.low <= true <= effect.high for effect, true in zip(
        estimate(design, noisy(design, rng, interaction)), TRUE, strict=True)] for _ in range(400)]
    assert 0.93 < np.mean(hits) < 0.97


def test_unreplicated_main_effects_take_an_interaction_for_noise():
    wide = estimate(CELLS, 88 + CELLS @ TRUE + 8 * CELLS[:, 0] * CELLS[:, 1])[0]
    assert wide.difference == pytest.approx(1.0) and wide.low < 0


def test_effects_that_change_together_cannot_be_told():
    design = np.array([[0.5, 0.5, -0.5], [0.5, -0.5, -0.5], [-0.5, -0.5, 0.5]])  # Its A, B and D.
    down, loss, up = estimate(design, np.array([89.09, 88.46, 88.38]))
    assert down is None and up is None
    assert loss.difference == pytest.approx(0.63) and np.isnan(loss.low) and np.isnan(loss.high)


def test_a_choice_that_never_changes_has_no_effect_to_tell():
    down, loss, up = estimate(CELLS[:4], np.arange(4.0))
    assert down is None and loss is not None and up is not None
