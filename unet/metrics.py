"""Segmentation metrics from a confusion matrix that is summed over a whole split."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np


def confusion_matrix(*, labels: jax.Array, predictions: jax.Array, valid: jax.Array, classes: int) -> jax.Array:
    """Counts of pixels by (true class, predicted class).

    Args:
        labels: integers `[B, H, W]`; pixels with labels from `classes` on are ignored.
        predictions: integers `[B, H, W]`.
        valid: `[B]`, False for padding examples.
    Returns:
        int32 `[C, C]`, exact up to two billion pixels; float32 is exact only up to 16 million.
    """
    if labels.shape != predictions.shape or valid.shape != labels.shape[:1]:
        raise ValueError(
            f'shapes do not match: labels {labels.shape}, predictions {predictions.shape}, valid {valid.shape}'
        )
    cells = labels.astype(jnp.int32) * classes + predictions.astype(jnp.int32)
    counted = valid[:, None, None] & (labels < classes)
    counts = jnp.zeros(classes**2 + 1, jnp.int32).at[jnp.where(counted, cells, classes**2)].add(1)
    return counts[:-1].reshape(classes, classes)


def summarize(confusion: np.ndarray, classes: Sequence[str]) -> dict[str, float]:
    """Pixel accuracy, and IoU and Dice of each class and their means.

    A class that no pixel has is left out of the means; where it is not predicted either, its IoU and Dice are NaN.
    """
    confusion = np.asarray(confusion, np.float64)
    hits, true, predicted = np.diag(confusion), confusion.sum(1), confusion.sum(0)
    present = true > 0
    with np.errstate(invalid='ignore', divide='ignore'):
        iou = hits / (true + predicted - hits)
        dice = 2 * hits / (true + predicted)
    return {
        'pixel_accuracy': float(hits.sum() / confusion.sum()) if present.any() else float('nan'),
        'mean_iou': float(np.mean(iou[present])) if present.any() else float('nan'),
        'mean_dice': float(np.mean(dice[present])) if present.any() else float('nan'),
        **{f'iou/{name}': float(x) for name, x in zip(classes, iou, strict=True)},
        **{f'dice/{name}': float(x) for name, x in zip(classes, dice, strict=True)},
    }
