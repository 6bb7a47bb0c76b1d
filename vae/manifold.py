"""Precision and recall of generated images in the features of a classifier, beside those of real ones."""

import jax
import numpy as np
from scipy.spatial.distance import cdist

from vae.swaps import quotient

NEIGHBOURS = 3  # The k of Kynkäänniemi et al. 2019, section 3.
MOST = 1000  # Images a label whose features are compared, so that the distances of a class fit in memory.


def given_label(labels: jax.Array, index: jax.Array, classes: int) -> jax.Array:
    """One wrong label for each image, by turns: int32 `[B]` from true labels and places in the split, `[B]`."""
    return (labels + 1 + index % (classes - 1)) % classes


def manifold_metrics(*, real: np.ndarray, reconstructed: np.ndarray, swapped: np.ndarray, labels: np.ndarray,
                     given: np.ndarray, names: tuple[str, ...]) -> dict[str, float]:
    """Precision and recall by label of swaps, and the means beside those of reconstructions and of real images.

    The real images of a label are halved. Three sets of equal size are compared with the real images of one half:
    swaps to the label, reconstructions of the other half, and the other half itself, which is the ceiling. Then the
    halves change places, and the two results are averaged. Of a label, at most the first 1,000 images are used.

    Args:
        real, reconstructed: features of each image and of its reconstruction, `[N, F]`. labels: the true ones, `[N]`.
        swapped: features of each image as another label, `[N, F]`. given: that label, `[N]`.
        names: of the labels.
    Returns:
        `precision` and `recall`, and each with /NAME of a label, /reconstruction, /real. NaN for a label with too few
        images; the means are of the others.
    """
    found = {'': [], '/reconstruction': [], '/real': []}
    for label in range(len(names)):
        own, to_label = np.flatnonzero(labels == label)[:MOST], np.flatnonzero(given == label)
        for kind, features in (('', swapped[to_label]), ('/reconstruction', reconstructed[own]), ('/real', real[own])):
            found[kind].append(crossed(real[own], features, min(len(own), len(to_label)) // 2))
    by_label = {f'/{name}': pair for name, pair in zip(names, found[''], strict=True)}
    means = {kind: mean_of_finite(np.array(pairs)) for kind, pairs in found.items()}
    return {f'{measure}{kind}': float(pair[i]) for i, measure in enumerate(('precision', 'recall'))
            for kind, pair in (means | by_label).items()}


def crossed(real: np.ndarray, generated: np.ndarray, count: int) -> np.ndarray:
    """Precision and recall `[2]` of `count` generated of one half against as many real of the other, both ways."""
    return np.mean([precision_recall(real[one::2][:count], generated[1 - one::2][:count]) for one in (0, 1)], axis=0)


def precision_recall(real: np.ndarray, generated: np.ndarray, neighbours: int = NEIGHBOURS) -> tuple[float, float]:
    """Improved precision and recall (Kynkäänniemi et al. 2019, arXiv:1904.06991, equations 1 and 2).

    A set's manifold is the union of the balls around its points that reach to their k-th nearest neighbour in the set.
    Precision is the share of generated points within the real ones' manifold, recall that of real points within the
    generated ones'. Both depend on the number of points: compare equal numbers alone.

    Args:
        real: `[N, F]`. generated: `[M, F]`. neighbours: k.
    Returns:
        NaN twice where either set has no k-th neighbour.
    """
    if min(len(real), len(generated)) <= neighbours:
        return float('nan'), float('nan')
    across = cdist(np.asarray(real, np.float64), np.asarray(generated, np.float64))
    within_real = across <= radii(real, neighbours)[:, None]
    within_generated = across <= radii(generated, neighbours)[None, :]
    return float(np.mean(np.any(within_real, axis=0))), float(np.mean(np.any(within_generated, axis=1)))


def radii(points: np.ndarray, neighbours: int) -> np.ndarray:
    """The distance `[N]` of each of the points `[N, F]` to its k-th nearest neighbour, itself left out."""
    points = np.asarray(points, np.float64)
    return np.partition(cdist(points, points), neighbours, axis=1)[:, neighbours]  # Itself is at distance 0, first.


def mean_of_finite(values: np.ndarray) -> np.ndarray:
    """The mean over the first axis of what is not NaN."""
    return quotient(np.nansum(values, axis=0), np.sum(~np.isnan(values), axis=0))
