"""Segmentation metrics from a confusion matrix that is summed over a whole split."""

import jax
import jax.numpy as jnp
import numpy as np

CLASSES = ('pet', 'background', 'border')


def confusion_matrix(*, labels: jax.Array, predictions: jax.Array, valid: jax.Array) -> jax.Array:
    """Counts of pixels by (true class, predicted class).

    Args:
        labels: integers `[B, H, W]`.
        predictions: integers `[B, H, W]`.
        valid: `[B]`, False for padding examples.
    Returns:
        int32 `[C, C]`, exact up to two billion pixels; float32 is exact only up to 16 million.
    """
    if labels.shape != predictions.shape or valid.shape != labels.shape[:1]:
        raise ValueError(f'shapes do not match: labels {labels.shape}, predictions {predictions.shape}, '
                         f'valid {valid.shape}')
    classes = len(CLASSES)
    cells = labels.astype(jnp.int32) * classes + predictions.astype(jnp.int32)
    hits = (cells[..., None] == jnp.arange(classes ** 2)[None, None, None]) & valid[:, None, None, None]
    return jnp.sum(hits, axis=(0, 1, 2), dtype=jnp.int32).reshape(classes, classes)


def summarize(confusion: np.ndarray) -> dict[str, float]:
    """Pixel accuracy, and IoU and Dice of each class and their means.

    IoU and Dice of a class that is neither present nor predicted anywhere are NaN and left out of the means.
    """
    confusion = np.asarray(confusion, np.float64)
    hits, true, predicted = np.diag(confusion), confusion.sum(1), confusion.sum(0)
    with np.errstate(invalid='ignore'):
        iou = hits / (true + predicted - hits)
        dice = 2 * hits / (true + predicted)
    return {
        'pixel_accuracy': float(hits.sum() / confusion.sum()),
        'mean_iou': float(np.nanmean(iou)),
        'mean_dice': float(np.nanmean(dice)),
        **{f'iou/{name}': float(x) for name, x in zip(CLASSES, iou, strict=True)},
        **{f'dice/{name}': float(x) for name, x in zip(CLASSES, dice, strict=True)},
    }
