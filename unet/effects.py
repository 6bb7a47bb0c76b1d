"""Effects of the U-Net's design choices: contrasts of the cell means of the 2x2x2 design, with t-intervals."""

import itertools
import math
from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit

ERROR_RATE = 0.05


class Factor(NamedTuple):
    """A design choice with two levels; its effect is the change from `low` to `high`."""

    name: str
    key: str
    low: str
    high: str


# In the order of the reference's three observations. It concludes each time that `high` is better, though its own
# figures say the opposite of the way up (-0.96 points).
FACTORS = (
    Factor('way down', 'model.down', 'strided_conv', 'max_pool'),
    Factor('loss', 'loss', 'dice', 'cross_entropy'),
    Factor('way up', 'model.up', 'transposed_conv', 'upsample'),
)
Cell = tuple[str, str, str]  # A level of each factor.
CELLS: tuple[Cell, ...] = tuple(
    (down, loss, up) for down, loss, up in itertools.product(*((factor.low, factor.high) for factor in FACTORS))
)


class Effect(NamedTuple):
    """An estimated contrast of each measure: arrays `[measures]`."""

    difference: np.ndarray
    error: np.ndarray  # The standard error, NaN without replication.
    freedom: int

    def interval(self, tests: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper bounds; `tests` such intervals hold jointly with 95 % confidence (Bonferroni)."""
        half = self.error * stdtrit(self.freedom, 1 - ERROR_RATE / tests / 2)
        return self.difference - half, self.difference + half


class Fit(NamedTuple):
    """A least-squares fit of one mean a cell and, if seeds are blocks, one shift a seed."""

    cells: list[Cell]  # Those that were run; their columns come first in `terms`.
    terms: np.ndarray  # [runs, parameters]
    inverse: np.ndarray  # [parameters, runs], the pseudo-inverse of `terms`.
    values: np.ndarray  # [runs, measures]
    variance: np.ndarray  # Noise variance, [measures]; NaN without degrees of freedom.
    freedom: int
    blocks: bool

    def estimate(self, weights: dict[Cell, float]) -> Effect | None:
        """The weighted sum of cell means; None if a cell was not run, or if no seeds link the cells."""
        if not weights.keys() <= set(self.cells):
            return None
        contrast = np.zeros(len(self.inverse))
        contrast[: len(self.cells)] = [weights.get(cell, 0) for cell in self.cells]
        run_weights = contrast @ self.inverse
        if not np.allclose(run_weights @ self.terms, contrast):
            return None
        return Effect(run_weights @ self.values, np.sqrt(self.variance * np.sum(run_weights**2)), self.freedom)


def fit(cells: list[Cell], seeds: list[int], values: np.ndarray) -> Fit:
    """Fits the cell means freely, so that no interaction can pass for a main effect.

    Runs of one seed share the order of the images, so their noise may be correlated: if a seed was run in several
    cells, seeds are blocks. Beyond that, the noise is independent with the same variance in every cell by assumption.

    Args:
        cells: of each run; no cell has the same seed twice.
        seeds: of each run.
        values: what was measured, `[runs, measures]`.
    """
    blocks = len(set(seeds)) < len(seeds)
    terms = np.hstack([indicators(cells), indicators(seeds)]) if blocks else indicators(cells)
    inverse = np.linalg.pinv(terms, rcond=1e-9)
    freedom = len(cells) - int(np.linalg.matrix_rank(terms))
    squares = np.sum((values - terms @ (inverse @ values)) ** 2, axis=0)
    variance = squares / freedom if freedom else np.full_like(squares, np.nan)
    return Fit(sorted(set(cells)), terms, inverse, values, variance, freedom, blocks)


def indicators(labels: list) -> np.ndarray:
    """1.0 where a run has the label, in the labels' order: `[runs, distinct labels]`."""
    return np.array([[label == level for level in sorted(set(labels))] for label in labels], float)


def factorial_weights(*factors: Factor) -> dict[Cell, float]:
    """The contrast that is the main effect of one factor, or the interaction of two, over all eight cells.

    A main effect is the mean of a factor's effect over the settings of the others; an interaction is the effect of
    the first factor at `high` of the second, minus that at `low`.
    """
    signs = {level: sign for factor in factors for level, sign in ((factor.low, -1), (factor.high, 1))}
    return {
        cell: math.prod(signs.get(level, 1) for level in cell) / 2 ** (len(FACTORS) - len(factors)) for cell in CELLS
    }


def verdict(low: float, high: float) -> str:
    """What an interval in percentage points, as a report shows it with two decimals, says of a positive effect."""
    if round(low, 2) > 0:
        return 'supported'
    return 'contradicted' if round(high, 2) < 0 else 'cannot be decided'
