"""Curves show what was measured."""

import numpy as np

from common.figures import smooth


def test_sparse_curve_is_left_as_it_is():
    points = np.array([[0, 1.0], [10, 3.0], [20, -1.0]])
    np.testing.assert_allclose(smooth(points), points[:, 1], atol=1e-6)


def test_smoothing_quiets_noise_without_lagging_behind():
    steps, noise = np.arange(1000.0), np.random.default_rng(0).normal(size=1000)
    rising = smooth(np.stack([steps, 0.1 * steps + noise], axis=1))
    error = (rising - 0.1 * steps)[100:-100]
    assert abs(error.mean()) < 0.05 and error.std() < 0.25


def test_single_point_is_drawn():
    np.testing.assert_array_equal(smooth(np.array([[5.0, 2.0]])), [2.0])
