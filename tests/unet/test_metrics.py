"""Segmentation metrics, compared with counting in plain Python."""

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common.evaluate import add
from unet.metrics import CLASSES, confusion_matrix, summarize

MASKS = arrays(np.uint8, (3, 2, 4), elements=st.integers(0, 2))


@jax.jit
def strict_confusion_matrix(labels, predictions, valid):
    with jax.numpy_dtype_promotion('strict'):
        return confusion_matrix(labels=labels, predictions=predictions, valid=valid)


@given(labels=MASKS, predictions=MASKS, valid=arrays(bool, 3))
def test_confusion_matrix_counts_only_valid_examples(labels, predictions, valid):
    expected = np.zeros((3, 3), int)
    for true, predicted in zip(labels[valid].flat, predictions[valid].flat, strict=True):
        expected[true, predicted] += 1
    confusion = strict_confusion_matrix(labels, predictions.astype(np.int32), valid)
    assert confusion.dtype == jnp.int32
    np.testing.assert_array_equal(confusion, expected)


@given(labels=MASKS, predictions=MASKS)
def test_summary_equals_metrics_of_pixel_sets(labels, predictions):
    summary = summarize(strict_confusion_matrix(labels, predictions, np.ones(3, bool)))
    iou, dice = {}, {}
    for i, name in enumerate(CLASSES):
        true, predicted = (set(np.flatnonzero(mask == i)) for mask in (labels, predictions))
        iou[name], dice[name] = np.nan, np.nan
        if true | predicted:
            iou[name] = len(true & predicted) / len(true | predicted)
            dice[name] = 2 * len(true & predicted) / (len(true) + len(predicted))
    expected = {'pixel_accuracy': np.mean(labels == predictions), 'mean_iou': np.nanmean([*iou.values()]),
                'mean_dice': np.nanmean([*dice.values()])}
    expected |= {f'iou/{name}': x for name, x in iou.items()}
    expected |= {f'dice/{name}': x for name, x in dice.items()}
    assert summary == pytest.approx(expected, nan_ok=True)


def test_absent_class_is_nan_and_left_out_of_the_mean():
    summary = summarize(np.array([[3, 1, 0], [0, 4, 0], [0, 0, 0]]))
    assert np.isnan(summary['iou/border']) and np.isnan(summary['dice/border'])
    assert summary['mean_iou'] == pytest.approx((3 / 4 + 4 / 5) / 2)


def test_predicting_only_background_scores_its_share():
    labels = np.random.default_rng(0).choice(3, (4, 8, 8), p=[0.3, 0.6, 0.1])
    summary = summarize(strict_confusion_matrix(labels, np.ones_like(labels), np.ones(4, bool)))
    share = np.mean(labels == CLASSES.index('background'))
    assert summary['pixel_accuracy'] == pytest.approx(share)
    assert summary['mean_iou'] == pytest.approx(share / 3)


def test_more_pixels_than_float32_can_count_are_summed_exactly():
    totals, one = None, {'confusion': np.eye(3, dtype=np.int32)}
    for sums in ({'confusion': np.full((3, 3), 2 ** 24, np.int32)}, one, None, one, one):
        totals = add(totals, sums)
    np.testing.assert_array_equal(totals['confusion'], 2 ** 24 + 3 * np.eye(3))


@pytest.mark.parametrize('labels, predictions, valid', [
    ((2, 4, 4), (2, 4, 4, 1), 2), ((2, 4, 4), (2, 4, 4), 3), ((2, 4, 4), (1, 4, 4), 2)])
def test_wrong_shapes_are_refused(labels, predictions, valid):
    with pytest.raises(ValueError, match='shapes do not match'):
        confusion_matrix(labels=jnp.zeros(labels), predictions=jnp.zeros(predictions),
                         valid=jnp.ones(valid, bool))
