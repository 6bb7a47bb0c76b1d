"""The terms of the VAE's objective, compared with closed forms, scipy and sampling."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from vae import losses, style

pytestmark = pytest.mark.usefixtures('strict_dtypes')


def normal(key, *shape):
    return jax.random.normal(jax.random.key(key), shape)


def test_kl_equals_a_sampled_estimate():
    mu, log_var = normal(0, 1, 3), 0.5 * normal(1, 1, 3)
    z = mu + jnp.exp(0.5 * log_var) * normal(2, 200_000, 3)
    log_q = jax.scipy.stats.norm.logpdf(z, mu, jnp.exp(0.5 * log_var))
    estimate = jnp.mean(jnp.sum(log_q - jax.scipy.stats.norm.logpdf(z), axis=1))
    np.testing.assert_allclose(losses.kl_divergence(mu=mu, log_var=log_var)[0], estimate, rtol=0.02)


def test_kl_is_zero_at_the_prior_and_positive_elsewhere():
    zeros = jnp.zeros((1, 4))
    assert losses.kl_divergence(mu=zeros, log_var=zeros)[0] == 0
    assert jnp.all(losses.kl_divergence(mu=normal(0, 50, 4), log_var=normal(1, 50, 4)) > 0)


def test_likelihood_equals_scipy():
    images, mean = normal(0, 2, 3, 4, 1), normal(1, 2, 3, 4, 1)
    ours = losses.gaussian_log_likelihood(images=images, mean=mean, log_scale=jnp.float32(-0.7))
    expected = scipy.stats.norm.logpdf(np.asarray(images), np.asarray(mean), np.exp(-0.7)).sum((1, 2, 3))
    np.testing.assert_allclose(ours, expected, rtol=1e-5)


def test_log_scale_has_a_floor_and_is_unchanged_above_it():
    assert losses.floored(jnp.float32(-100)) >= losses.MIN_LOG_SCALE
    np.testing.assert_allclose(losses.floored(jnp.float32(0.5)), 0.5, atol=2e-3)


def test_label_nll_equals_the_negative_log_softmax():
    logits, labels = normal(0, 3, 10), jnp.array([0, 4, 9])
    expected = -np.log(scipy.special.softmax(np.asarray(logits), axis=1)[np.arange(3), labels])
    np.testing.assert_allclose(losses.label_nll(logits=logits, labels=labels), expected, rtol=1e-5)


def test_mismatched_shapes_are_refused():
    with pytest.raises(ValueError, match='do not match'):
        losses.kl_divergence(mu=jnp.zeros((2, 3)), log_var=jnp.zeros((2, 4)))
    with pytest.raises(ValueError, match='need labels of shape'):
        losses.label_nll(logits=jnp.zeros((2, 10)), labels=jnp.zeros((2, 1), jnp.int32))


def test_slant_position_and_stroke_are_measured():
    stroke = np.zeros((3, 28, 28, 1), np.float32)
    rows = np.arange(6, 22)
    for row in rows:
        stroke[0, row, 12:14] = 1  # Upright.
        stroke[1, row, row - 1 : row + 1] = 1  # Leaning by one column a row.
        stroke[2, row, 16:22] = 1  # Broad, and further right.
    slant, width, center_x, _, _ = np.asarray(style.measures(jnp.asarray(stroke))).T
    np.testing.assert_allclose(slant, [0, 1, 0], atol=0.02)
    assert width[2] > 1.5 * width[0] and center_x[2] > center_x[0] + 0.3
