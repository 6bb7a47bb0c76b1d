"""Measures of style on images whose values are known."""

import jax.numpy as jnp
import numpy as np
import pytest

from vae import style


def test_colour_measures_of_known_images():
    image = np.zeros((4, 4, 3), np.float32)
    image[:2] = (0.9, 0.3, 0.0)  # Grey 0.4, saturation 0.9.
    image[2:] = (0.2, 0.2, 0.2)  # Grey 0.2, saturation 0.
    measures = dict(zip(style.names(3), np.asarray(style.measures(jnp.asarray(image)[None]))[0], strict=True))
    assert measures == pytest.approx(
        {'red': 0.55, 'green': 0.25, 'blue': 0.1, 'contrast': 0.1, 'saturation': 0.45}, abs=1e-6
    )


@pytest.fixture
def drawn(monkeypatch):
    """Measures of 300 originals [B, 1, 1, 5] of three labels, and a function that adds their sums up."""
    monkeypatch.setattr(style, 'measures', lambda images: images.reshape(len(images), -1))
    rng = np.random.default_rng(0)
    labels, valid = rng.integers(0, 3, 300), np.arange(300) < 280
    originals = (rng.normal(size=(300, 5)) + 2 * labels[:, None]).astype(np.float32).reshape(300, 1, 1, 5)

    def metrics(swaps):
        return style.metrics(
            np.asarray(style.batch_sums(originals=originals, images=swaps, labels=labels, valid=valid)), 3
        )

    return rng, labels, valid, originals, metrics


def test_style_kept_is_the_correlation_by_numpy(drawn):
    rng, labels, valid, originals, metrics = drawn
    swaps = (rng.normal(size=(3, 300, 1, 1, 5)) + originals * np.arange(5)).astype(np.float32)
    found = metrics(swaps)
    wrong = (np.arange(3)[:, None] != labels) & valid
    a, b = np.broadcast_to(originals, swaps.shape)[wrong].reshape(-1, 5), swaps[wrong].reshape(-1, 5)
    pair = (3 * np.arange(3)[:, None] + labels)[wrong]
    within = [x - np.stack([x[pair == p].mean(axis=0) for p in pair]) for x in (a, b)]
    for i, name in enumerate(style.names(3)):
        assert found[f'{name}/kept'] == pytest.approx(np.corrcoef(a[:, i], b[:, i])[0, 1], abs=1e-4)
        expected = np.corrcoef(within[0][:, i], within[1][:, i])[0, 1]
        assert found[f'{name}/kept_within_labels'] == pytest.approx(expected, abs=1e-4)


def test_prototype_of_the_labels_keeps_nothing_within_labels(drawn):
    rng, labels, _, _, metrics = drawn
    prototypes = 2 * labels[None, :, None, None, None] + np.arange(3)[:, None, None, None, None]
    found = metrics((prototypes + 0.1 * rng.normal(size=(3, 300, 1, 1, 5))).astype(np.float32))
    for name in style.names(3):
        assert found[f'{name}/kept'] > 0.7 and abs(found[f'{name}/kept_within_labels']) < 0.15


def test_ideal_swaps_take_the_mean_of_their_label_and_nothing_else(drawn):
    _, labels, valid, originals, metrics = drawn
    means = np.stack([originals[valid & (labels == label)].mean(axis=0) for label in range(3)])
    swaps = originals - means[labels] + means[:, None]
    found = metrics(swaps)
    for name in style.names(3):
        assert found[f'{name}/kept/ideal'] == pytest.approx(found[f'{name}/kept'], abs=1e-4)
        assert found[f'{name}/kept/ideal'] < 0.5
        assert found[f'{name}/kept_within_labels'] == pytest.approx(1, abs=1e-4)
    assert metrics(np.broadcast_to(originals, swaps.shape)) == pytest.approx(
        {key: value if 'ideal' in key else 1 for key, value in found.items()}, abs=1e-4
    )


def test_a_label_without_images_has_no_ideal_swaps(drawn):
    _, labels, valid, originals, _ = drawn
    images = np.broadcast_to(originals, (3, *originals.shape))
    found, without = (
        style.metrics(
            np.asarray(
                style.batch_sums(originals=originals, images=images[:count], labels=labels, valid=valid & (labels < 2))
            ),
            3,
        )
        for count in (3, 2)
    )
    for name in style.names(3):
        assert found[f'{name}/kept/ideal'] == pytest.approx(without[f'{name}/kept/ideal'], abs=1e-6)
