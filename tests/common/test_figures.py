"""Curves of metrics: smoothing and drawing."""

from matplotlib.figure import Figure
import numpy as np

from common.report.figures import choose_scale, draw_curve, smooth


def test_sparse_curve_is_not_smoothed():
    points = np.array([[0, 1.0], [10, 3.0], [20, -1.0]])
    np.testing.assert_allclose(smooth(points), points, atol=1e-6)


def test_smoothing_reduces_noise_without_lag():
    for count in (1000, 30_000):  # 30,000 points are first averaged in groups of 30.
        steps, noise = np.arange(count) * 1000 / count, np.random.default_rng(0).normal(size=count)
        smoothed = smooth(np.stack([steps, 0.1 * steps + noise], axis=1))
        error = (smoothed[:, 1] - 0.1 * smoothed[:, 0])[100:-100]
        assert smoothed.shape == (1000, 2) and abs(error.mean()) < 0.05 and error.std() < 0.25


def test_single_point_is_drawn():
    axis = Figure().subplots()
    draw_curve(axis, [{'step': 5, 'split': 'test', 'loss': 2.0}], 'test', 'loss', label='test')
    line = axis.lines[-1]
    assert line.get_marker() == 'o' and line.get_xydata().tolist() == [[5, 2]]


def test_scale_is_logarithmic_for_positive_values_over_two_decades():
    def scale(*values):
        axis = Figure().subplots()
        axis.plot(values)
        choose_scale([axis])
        return axis.get_yscale()

    assert scale(1000.0, 0.1) == 'log'
    for values in ((1.0, 0.1), (1000.0, -0.1), (1000.0, 0.0), (float('nan'), 1.0), ()):
        assert scale(*values) == 'linear'
