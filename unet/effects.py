"""What each design choice of the U-Net does, from those cells of the 2x2x2 design that were run."""

import itertools
from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit

CONFIDENCE = 0.95


class Factor(NamedTuple):
    """A design choice with two levels; its effect is what changes from `low` to `high`."""

    key: str
    low: str
    high: str


class Effect(NamedTuple):
    """A difference of means and its interval, NaN where nothing tells the spread."""

    difference: float
    low: float
    high: float


# In the order of the reference's three observations; it holds each `high` for the better one.
FACTORS = (Factor('model.down', 'strided_conv', 'max_pool'), Factor('loss', 'dice', 'cross_entropy'),
           Factor('model.up', 'transposed_conv', 'upsample'))


def estimate(design: np.ndarray, values: np.ndarray) -> list[Effect | None]:
    """Main effects by ordinary least squares, with t-intervals.

    Where all eight cells are there and some more than once, interactions are fitted too, so that the noise is
    that between seeds alone and an effect is the mean over the four settings of the other two choices. With
    less, the effects are taken to add up, and what does not fit counts as noise.

    Args:
        design: -0.5 (`low`) or 0.5 (`high`), `[runs, factors]`.
        values: what was measured, `[runs]`.
    Returns:
        For each factor its effect, or None where the runs cannot tell it from the others'.
    """
    terms = np.column_stack([np.ones(len(design)), design, *interactions(design)])
    rank = np.linalg.matrix_rank(terms)
    freedom = len(values) - rank
    coefficients, *_ = np.linalg.lstsq(terms, values, rcond=None)
    residuals = values - terms @ coefficients
    variance = residuals @ residuals / freedom if freedom else np.nan
    errors = np.sqrt(np.diag(np.linalg.pinv(terms.T @ terms)) * variance)
    half = errors * (stdtrit(freedom, (1 + CONFIDENCE) / 2) if freedom else np.nan)
    found = []
    for column in range(1, 1 + design.shape[1]):
        c, h = coefficients[column], half[column]
        alone = np.linalg.matrix_rank(np.delete(terms, column, axis=1)) < rank
        found.append(Effect(c, c - h, c + h) if alone else None)
    return found


def interactions(design: np.ndarray) -> list[np.ndarray]:
    """Products of two or more factors, where the runs are enough to fit them and still to see noise."""
    runs, factors = design.shape
    if not replicated(design):
        return []
    return [design[:, list(columns)].prod(axis=1) for order in range(2, factors + 1)
            for columns in itertools.combinations(range(factors), order)]


def replicated(design: np.ndarray) -> bool:
    """Whether every cell was run, and some more than once."""
    return len(np.unique(design, axis=0)) == 2 ** design.shape[1] < len(design)
