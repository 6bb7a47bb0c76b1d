"""Segmentation metrics, compared with counting in plain Python."""

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common.evaluate import add
from unet.masks import IGNORED
from unet.metrics import confusion_matrix, summarize

CLASSES = ('pet', 'background', 'border')
MASKS = arrays(np.uint8, (3, 2, 4), elements=st.integers(0, 2))


@jax.jit
def strict_confusion_matrix(labels, predictions, valid):
    with jax.numpy_dtype_promotion('strict'):
        return confusion_matrix(labels=labels, predictions=predictions, valid=valid, classes=3)


@given(labels=MASKS, predictions=MASKS, valid=arrays(bool, 3))
def test_confusion_matrix_counts_only_valid_examples(labels, predictions, valid):
    expected = np.zeros((3, 3), int)
    for true, predicted in zip(labels[valid].flat, predictions[valid].flat, strict=True):
        expected[true, predicted] += 1
    confusion = strict_confusion_matrix(labels, predictions.astype(np.int32), valid)
    assert confusion.dtype == jnp.int32
    np.testing.assert_array_equal(confusion, expected)


@given(labels=MASKS, predictions=MASKS)
def test_summary_equals_sets_of_pixels(labels, predictions):
    summary = summarize(strict_confusion_matrix(labels, predictions, np.ones(3, bool)), CLASSES)
    iou, dice = {}, {}
    for i, name in enumerate(CLASSES):
        true, predicted = (set(np.flatnonzero(mask == i)) for mask in (labels, predictions))
        iou[name], dice[name] = np.nan, np.nan
        if true | predicted:
            iou[name] = len(true & predicted) / len(true | predicted)
            dice[name] = 2 * len(true & predicted) / (len(true) + len(predicted))
    present = [CLASSES[label] for label in np.unique(labels)]  # A class that is only predicted is in no mean.
    expected = {
        'pixel_accuracy': np.mean(labels == predictions),
        'mean_iou': np.mean([iou[name] for name in present]),
        'mean_dice': np.mean([dice[name] for name in present]),
    }
    expected |= {f'iou/{name}': x for name, x in iou.items()}
    expected |= {f'dice/{name}': x for name, x in dice.items()}
    assert summary == pytest.approx(expected, nan_ok=True)


def test_absent_class_is_nan_and_not_in_the_mean():
    summary = summarize(np.array([[3, 1, 0], [0, 4, 0], [0, 0, 0]]), CLASSES)
    assert np.isnan(summary['iou/border']) and np.isnan(summary['dice/border'])
    assert summary['mean_iou'] == pytest.approx((3 / 4 + 4 / 5) / 2)


@pytest.mark.parametrize('classes', [2, 5, 37, 100])
def test_ignored_pixels_are_not_counted(classes):
    rng = np.random.default_rng(classes)
    labels, predictions = rng.integers(0, classes, (2, 3, 40, 50), np.uint8)
    labels[:, :7] = IGNORED
    confusion = confusion_matrix(
        labels=jnp.asarray(labels),
        predictions=jnp.asarray(predictions),
        classes=classes,
        valid=jnp.array([True, False, True]),
    )
    expected = np.zeros((classes, classes), int)
    np.add.at(expected, (labels[[0, 2], 7:].ravel(), predictions[[0, 2], 7:].ravel()), 1)
    np.testing.assert_array_equal(confusion, expected)


def test_without_any_counted_pixel_nothing_is_measured():
    assert all(np.isnan(value) for value in summarize(np.zeros((3, 3)), CLASSES).values())


def test_background_everywhere_scores_its_share():
    labels = np.random.default_rng(0).choice(3, (4, 8, 8), p=[0.3, 0.6, 0.1])
    summary = summarize(strict_confusion_matrix(labels, np.ones_like(labels), np.ones(4, bool)), CLASSES)
    share = np.mean(labels == CLASSES.index('background'))
    assert summary['pixel_accuracy'] == pytest.approx(share)
    assert summary['mean_iou'] == pytest.approx(share / 3)


def test_more_pixels_than_float32_can_count_are_summed_exactly():
    totals, one = None, {'confusion': np.eye(3, dtype=np.int32)}
    for sums in ({'confusion': np.full((3, 3), 2**24, np.int32)}, one, one, one):
        totals = add(totals, sums)
    np.testing.assert_array_equal(totals['confusion'], 2**24 + 3 * np.eye(3))


@pytest.mark.parametrize(
    'labels, predictions, valid', [((2, 4, 4), (2, 4, 4, 1), 2), ((2, 4, 4), (2, 4, 4), 3), ((2, 4, 4), (1, 4, 4), 2)]
)
def test_wrong_shapes_are_refused(labels, predictions, valid):
    with pytest.raises(ValueError, match='shapes do not match'):
        confusion_matrix(
            labels=jnp.zeros(labels), predictions=jnp.zeros(predictions), valid=jnp.ones(valid, bool), classes=3
        )
