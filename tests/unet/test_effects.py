"""Contrasts of the design, their intervals and verdicts, on simulated results with known effects."""

import itertools
import pathlib
import types

import numpy as np
import pytest
from scipy import stats

from common.report.runs import FinishedRun
from configs import unet_mp_tr_ce
from unet import figures, report
from unet.effects import CELLS, FACTORS, Effect, factorial_weights, fit, verdict

MAIN = [factorial_weights(factor) for factor in FACTORS]
INTERACTIONS = [factorial_weights(*pair) for pair in itertools.combinations(FACTORS, 2)]
CODES = {
    cell: np.array([1 if level == factor.high else -1 for factor, level in zip(FACTORS, cell, strict=True)])
    for cell in CELLS
}
PAIRED = [(cell, seed) for seed in range(3) for cell in CELLS]
DESIGNS = {
    'same seeds in every cell': PAIRED,
    'other seeds in every cell': [(cell, 10 * CELLS.index(cell) + seed) for cell, seed in PAIRED],
    'sweep stopped in its third seed': PAIRED[:20],
}
STUDIES = 4000


def simulate(runs, mean, *, seed_deviation, deviation=1.0, studies=STUDIES):
    """Results `[runs, studies]`: the mean of the cell, a shift shared by all runs of a seed, and noise of the run."""
    rng = np.random.default_rng(0)
    shifts = {seed: seed_deviation * rng.standard_normal(studies) for seed in sorted({seed for _, seed in runs})}
    return np.stack(
        [mean(*CODES[cell]) + shifts[seed] + deviation * rng.standard_normal(studies) for cell, seed in runs]
    )


def fitted(runs, values):
    cells, seeds = zip(*runs, strict=True)
    return fit(list(cells), list(seeds), values)


@pytest.mark.parametrize('runs', [PAIRED, PAIRED[:8], PAIRED[:13], DESIGNS['other seeds in every cell'][:11]])
def test_effects_without_noise_are_exact_with_any_interactions(runs):
    def mean(down, loss, up):
        return 88 + 0.5 * down - 0.3 * loss + 0.2 * down * loss - 0.1 * loss * up + 0.7 * down * loss * up

    found = fitted(runs, simulate(runs, mean, seed_deviation=0, deviation=0, studies=1))
    for weights, true in zip(MAIN + INTERACTIONS, (1.0, -0.6, 0.0, 0.8, 0.0, -0.4), strict=True):
        assert found.estimate(weights).difference == pytest.approx(true, abs=1e-9)


def test_main_effects_need_the_whole_design():
    for count in range(1, 8):
        for cells in itertools.combinations(CELLS, count):
            runs = [(cell, seed) for cell in cells for seed in range(2)]
            found = fitted(runs, np.arange(2.0 * count)[:, None])
            assert all(found.estimate(weights) is None for weights in MAIN + INTERACTIONS)


def test_intervals_of_two_cells_equal_scipy_t_tests():
    one, other = np.random.default_rng(0).standard_normal((2, 4)) + [[88], [87]]
    values = np.concatenate([one, other])[:, None]
    for seeds, test in (([0, 1, 2, 3] * 2, stats.ttest_rel), (list(range(8)), stats.ttest_ind)):
        effect = fit([CELLS[0]] * 4 + [CELLS[5]] * 4, seeds, values).estimate({CELLS[0]: 1, CELLS[5]: -1})
        for tests, confidence in ((1, 0.95), (3, 1 - 0.05 / 3)):
            expected = test(one, other).confidence_interval(confidence)
            assert np.ravel(effect.interval(tests)) == pytest.approx([expected.low, expected.high])


def test_interval_of_replicated_cells_follows_the_formula():
    runs = DESIGNS['other seeds in every cell']
    values = simulate(runs, lambda *_: 88, seed_deviation=0, studies=1)
    within = values.reshape(3, 8).var(axis=0, ddof=1).mean()
    low, high = fitted(runs, values).estimate(MAIN[0]).interval()
    # The 97.5 % quantile of t with 24 - 8 degrees of freedom.
    assert (high - low) / 2 == pytest.approx(2.1199 * np.sqrt(within * 4 / 24), rel=1e-4)


@pytest.mark.parametrize('name', DESIGNS)
def test_intervals_have_their_stated_coverage(name):
    runs = DESIGNS[name]
    found = fitted(runs, simulate(runs, lambda down, loss, up: 0.5 * down + 2 * down * loss, seed_deviation=2))
    simple = {CELLS[7]: 1, CELLS[3]: -1}  # These differ only in the way down, with cross-entropy.
    for weights, true in ((MAIN[0], 1), (MAIN[1], 0), (INTERACTIONS[0], 8), (INTERACTIONS[1], 0), (simple, 5)):
        low, high = found.estimate(weights).interval()
        assert np.mean((low <= true) & (true <= high)) == pytest.approx(0.95, abs=0.012)


def false_verdicts(found):
    """The share of studies with a verdict on any main effect."""
    bounds = np.array([found.estimate(weights).interval(tests=3) for weights in MAIN])
    return np.mean(
        [any(verdict(low, high) != 'cannot be decided' for low, high in study) for study in bounds.transpose(2, 0, 1)]
    )


@pytest.mark.parametrize('interaction', [0, 3])
@pytest.mark.parametrize('name', DESIGNS)
def test_false_verdicts_occur_in_at_most_5_percent_of_studies(name, interaction):
    runs = DESIGNS[name]
    rate = false_verdicts(
        fitted(runs, simulate(runs, lambda down, loss, _: interaction * down * loss, seed_deviation=2))
    )
    assert 0.035 < rate < 0.056  # 5 % at most; the standard error of the simulated rate is 0.0034.


def test_shared_seeds_are_blocks_and_narrow_the_intervals():
    values = simulate(PAIRED, lambda *_: 88, seed_deviation=10)
    paired = fitted(PAIRED, values)
    apart = fitted(DESIGNS['other seeds in every cell'], values)
    assert (paired.blocks, paired.freedom) == (True, 14) and (apart.blocks, apart.freedom) == (False, 16)
    assert np.median(paired.estimate(MAIN[0]).error) < 0.2 * np.median(apart.estimate(MAIN[0]).error)


def test_cells_without_a_common_seed_are_not_compared():
    runs = [(CELLS[0], 0), (CELLS[1], 0), (CELLS[0], 1), (CELLS[1], 1), (CELLS[2], 2), (CELLS[2], 3)]
    found = fitted(runs, np.arange(6.0)[:, None])
    assert found.estimate({CELLS[0]: 1, CELLS[1]: -1}) is not None
    assert found.estimate({CELLS[0]: 1, CELLS[2]: -1}) is None


def test_one_run_per_cell_gives_no_interval():
    for cells in (CELLS, CELLS[3:]):
        found = fitted([(cell, 0) for cell in cells], np.arange(len(cells))[:, None])
        effect = found.estimate({CELLS[3]: 1, CELLS[4]: -1})
        assert effect.difference == pytest.approx(-1) and np.isnan(effect.interval()).all()


def test_verdict_agrees_with_the_rounded_bounds():
    assert [verdict(*bounds) for bounds in ((0.01, 2), (0.004, 2), (-1, 1), (-2, -0.004), (-2, -0.01))] == [
        'supported',
        'cannot be decided',
        'cannot be decided',
        'cannot be decided',
        'contradicted',
    ]
    found = fitted(PAIRED, np.full((24, 1), 100 * 0.5734))  # Rounding errors are not effects.
    assert all(verdict(*np.ravel(found.estimate(weights).interval(3))) == 'cannot be decided' for weights in MAIN)


def finished_run(cell, seed, accuracy):
    """A run in memory, with its results in per cent."""
    config = unet_mp_tr_ce.get_config()
    config.model.down, config.loss, config.model.up, config.seed = *cell, seed
    return FinishedRun(
        'run',
        pathlib.Path('nowhere'),
        types.SimpleNamespace(config=config),
        {'step': 1} | dict.fromkeys(report.MEASURES, accuracy / 100),
        [],
        {},
    )


def test_interaction_is_not_reported_as_a_main_effect(monkeypatch):
    # An additive model of these four variants gives "upsampling: supported" in every study.
    monkeypatch.setattr(report, 'forest', lambda _: '')
    runs = [(cell, seed) for cell in report.REFERENCE for seed in range(3)]
    values = simulate(runs, lambda down, loss, up: 88 + down * loss, seed_deviation=0, deviation=0.15, studies=50)
    for study in values.T:
        text = '\n'.join(
            report.design_choices([finished_run(*run, value) for run, value in zip(runs, study, strict=True)])
        )
        assert text.count('**cannot be decided**; 4 of the eight cells were not run') == 3
        assert '**supported**' not in text and '**contradicted**' not in text
        assert '| main effect' not in text and '| interaction' not in text
        assert text.count('| simple contrast') == 3
    assert (
        false_verdicts(
            fitted(PAIRED, simulate(PAIRED, lambda down, loss, up: 88 + down * loss, seed_deviation=0, deviation=0.15))
        )
        < 0.056
    )


def test_forest_plot_shows_positive_effects_on_the_right():
    effects = {
        ('main effect', 'a'): Effect(np.array([2.0]), np.array([0.1]), 9),
        ('interaction', 'b'): Effect(np.array([-2.0]), np.array([0.1]), 9),
    }
    image = figures.forest(effects, ['accuracy'])
    panel = image[:-60].astype(int)  # Without the legend.
    positive, negative = (
        np.nonzero(np.abs(panel - color).sum(-1) < 30)[1] for color in ((31, 119, 180), (255, 127, 14))
    )
    assert len(positive) and len(negative) and negative.max() < positive.min()
