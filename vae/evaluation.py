"""All measures of images under every label: what classifiers predict, and those of `swaps`, `manifold`, `style`."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vae import manifold, style, swaps
from vae.classifier import ClassifierTask


def batch_sums(
    images: jax.Array, batch: Mapping[str, jax.Array], classifiers: Mapping[str, ClassifierTask], constants: Any
) -> tuple[dict[str, Any], dict[str, jax.Array]]:
    """Sums over a batch, and the judge's features of each image, its reconstruction and one swap: for `metrics`.

    Args:
        images: each original as each of K labels, `[K, B, S, S, C]` in `[0, 1]`.
        batch: the originals, `image` uint8 `[B, S, S, C]`, and `label` (the true one), `index` and `valid`, `[B]`.
        classifiers, constants: the tasks and the variables of the frozen classifiers and of the `judge`, by name.
    """
    labels, valid, originals = batch['label'], batch['valid'], batch['image'] / 255.0
    given, true = jnp.arange(len(images))[:, None], labels[None]
    wrong, right = (given != true) & valid[None], (given == true) & valid[None]
    sums: dict[str, Any] = {
        'swap_count': jnp.sum(wrong, axis=1, dtype=jnp.int32),
        'changes': swaps.batch_sums(originals=originals, images=images, labels=labels, valid=valid),
        'style': style.batch_sums(originals=originals, images=images, labels=labels, valid=valid),
    }
    for name, classifier in classifiers.items():
        logits, maps = classifier.logits_and_maps(constants[name], images.reshape(-1, *images.shape[2:]))
        predicted = jnp.argmax(logits, axis=-1).reshape(wrong.shape)
        sums[f'given/{name}'] = jnp.sum(wrong & (predicted == given), axis=1, dtype=jnp.int32)
        sums[f'original/{name}'] = jnp.sum(wrong & (predicted == true), dtype=jnp.int32)
        sums[f'right/{name}'] = jnp.sum(right & (predicted == given), dtype=jnp.int32)
        if name == 'judge':
            features = pooled(maps).reshape(*wrong.shape, -1)
    rows, one_wrong = jnp.arange(len(labels)), manifold.given_label(labels, batch['index'], len(images))
    judged = {
        'real': pooled(classifiers['judge'].logits_and_maps(constants['judge'], originals)[1]),
        'reconstructed': features[labels, rows],
        'swapped': features[one_wrong, rows],
        'labels': labels,
        'given': one_wrong,
    }
    return sums, judged


def pooled(maps: jax.Array) -> jax.Array:
    """Feature maps `[B, h, w, F]` to features `[B, F]`."""
    return jnp.mean(maps, axis=(1, 2))


def metrics(
    sums: Mapping[str, Any], judged: Mapping[str, np.ndarray], names: Sequence[str], channels: int
) -> dict[str, float]:
    """All measures, from `batch_sums` over a split; `names` are those of the labels."""
    results, count = dict[str, float](), sums['swap_count'].sum()
    for name in (key.removeprefix('given/') for key in sums if key.startswith('given/')):
        results |= {
            f'right_label_accuracy/{name}': float(sums[f'right/{name}'] / sums['changes']['count'].sum()),
            f'swap_accuracy/{name}': float(sums[f'given/{name}'].sum() / count),
            f'original_label_rate/{name}': float(sums[f'original/{name}'] / count),
        }
    by_label = swaps.quotient(sums['given/judge'], sums['swap_count'])  # NaN for a label that all images have.
    results |= {f'swap_accuracy/judge/{label}': float(x) for label, x in zip(names, by_label, strict=True)}
    measured = swaps.metrics(sums['changes']) | manifold.metrics(**judged, names=tuple(names))
    results |= {f'swap/{name}': value for name, value in measured.items()}
    return results | {f'style/{name}': value for name, value in style.metrics(sums['style'], channels).items()}
