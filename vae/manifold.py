"""Precision and recall of generated images in the features of a classifier, beside those of real ones."""

from typing import TypeVar

import jax
import numpy as np
from scipy.spatial.distance import cdist

Array = TypeVar('Array', np.ndarray, jax.Array)
NEIGHBOURS = 3  # The k of Kynkäänniemi et al. 2019, section 3.
MOST = 1000  # Images a label whose features are compared: time grows with their square.


def given_label(labels: Array, index: Array, classes: int) -> Array:
    """One wrong label for each image, by turns: int32 `[B]` from true labels and places in the split, `[B]`."""
    return (labels + 1 + index % (classes - 1)) % classes


def metrics(
    *,
    real: np.ndarray,
    reconstructed: np.ndarray,
    swapped: np.ndarray,
    labels: np.ndarray,
    given: np.ndarray,
    names: tuple[str, ...],
) -> dict[str, float]:
    """Precision and recall of the swaps to each label against its real images, and against their reconstructions.

    Reconstructions are as blurred as swaps are. Against them, blur does not count; against real images it counts for so
    much that a sharp pattern on a blurred image may be nearer to them than a good reconstruction.

    Args:
        real, reconstructed: features of each image and of its reconstruction, `[N, F]`. labels: the true ones, `[N]`.
        swapped: features of each image as another label, `[N, F]`. given: that label, `[N]`.
        names: of the labels.
    Returns:
        `precision` and `recall` against real images, means over labels, with /NAME of each label, /reconstruction and
        /real; against reconstructions `soft_precision` and `soft_recall`, with /NAME and /reconstruction; see
        `compared`.
    """
    soft_sets = {'': swapped, '/reconstruction': reconstructed}
    against_real = compared(real, soft_sets | {'/real': real}, labels, given, names)
    against_reconstructions = compared(reconstructed, soft_sets, labels, given, names)
    return against_real | {f'soft_{name}': value for name, value in against_reconstructions.items()}


def compared(
    reference: np.ndarray, sets: dict[str, np.ndarray], labels: np.ndarray, given: np.ndarray, names: tuple[str, ...]
) -> dict[str, float]:
    """Precision and recall of each of the sets against the reference: features `[N, F]` of one image a row.

    The reference of a label is halved. As many of each set are compared with one half: images of the other half, or,
    of the set '', swaps to the label. Then the halves change places, and the two results are averaged. Of a label, at
    most the first 1,000 images are used.

    Returns:
        `precision` and `recall` with the name of each set, means over labels; for the set '', also those of each label,
        /NAME. NaN for a label with too few images, which has no part in the means.
    """
    found, missing = {}, dict.fromkeys(sets, np.full(2, np.nan))
    for label, name in enumerate(names):
        own, to_label = np.flatnonzero(labels == label)[:MOST], np.flatnonzero(given == label)
        count = min(len(own), len(to_label)) // 2
        if count > NEIGHBOURS:
            found[name] = {
                kind: crossed(reference[own], features[own if kind else to_label], count)
                for kind, features in sets.items()
            }
    results = {ending(name): found.get(name, missing)[''] for name in names}
    results |= {kind: np.mean([pairs[kind] for pairs in found.values()] or [missing[kind]], axis=0) for kind in sets}
    return {
        f'{measure}{kind}': float(pair[i])
        for i, measure in enumerate(('precision', 'recall'))
        for kind, pair in results.items()
    }


def ending(name: str) -> str:
    """That of a label's measures; a label may be called as one of the sets whose measures stand beside them."""
    return f'/{name} (label)' if name in ('reconstruction', 'real') else f'/{name}'


def crossed(real: np.ndarray, generated: np.ndarray, count: int) -> np.ndarray:
    """Precision and recall `[2]` of `count` generated of one half against as many real of the other, both ways."""
    return np.mean([precision_recall(real[one::2][:count], generated[1 - one :: 2][:count]) for one in (0, 1)], axis=0)


def precision_recall(real: np.ndarray, generated: np.ndarray, neighbours: int = NEIGHBOURS) -> tuple[float, float]:
    """Improved precision and recall (Kynkäänniemi et al. 2019, arXiv:1904.06991, equations 1 and 2).

    A set's manifold is the union of the balls around its points that reach to their k-th nearest neighbour in the set.
    Precision is the share of generated points within the real ones' manifold, recall that of real points within the
    generated ones'. Both depend on the number of points: compare equal numbers alone.

    Args:
        real: `[N, F]`. generated: `[M, F]`. neighbours: k.
    Raises:
        ValueError: a set has no k-th neighbour.
    """
    if min(len(real), len(generated)) <= neighbours:
        raise ValueError(f'{len(real)} real and {len(generated)} generated points; {neighbours + 1} are needed of each')
    across = cdist(np.asarray(real, np.float64), np.asarray(generated, np.float64))
    within_real = across <= radii(real, neighbours)[:, None]
    within_generated = across <= radii(generated, neighbours)[None, :]
    return float(np.mean(np.any(within_real, axis=0))), float(np.mean(np.any(within_generated, axis=1)))


def radii(points: np.ndarray, neighbours: int) -> np.ndarray:
    """The distance `[N]` of each of the points `[N, F]` to its k-th nearest neighbour, itself left out."""
    points = np.asarray(points, np.float64)
    return np.partition(cdist(points, points), neighbours, axis=1)[:, neighbours]  # Itself is at distance 0, first.
