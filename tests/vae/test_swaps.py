"""Shared change and kept layout against brute force, and where the result is known."""

import jax
import numpy as np
import pytest

from vae import figures, style, swaps

pytestmark = pytest.mark.usefixtures('strict_dtypes')
CLASSES = 4


def uniform(seed, *shape):
    return np.random.default_rng(seed).random(shape, np.float32)


def labels_of(count):
    return np.arange(count, dtype=np.int32) * 7 % 3 + 1  # Labels 1 to 3: none has label 0.


def summed(images, originals, labels, batch=8):
    """The sums over padded batches, in float64."""
    step, total = jax.jit(swaps.batch_sums), None
    for start in range(0, len(labels), batch):
        index = np.arange(start, start + batch)
        i, valid = np.minimum(index, len(labels) - 1), index < len(labels)
        sums = step(originals=originals[i], images=images[:, i], labels=labels[i], valid=valid)
        sums = jax.tree.map(lambda x: np.asarray(x, np.float64), sums)
        total = sums if total is None else jax.tree.map(np.add, total, sums)
    return total


def shared(images, labels, **options):
    return swaps.shared_change(summed(images, images[0], labels, **options))


def kept(images, originals, labels, **options):
    return swaps.layout_kept(summed(images, originals, labels, **options))


def under_labels(originals, labels, change):
    """Each original as each label: itself as the true one, else `change(label, originals)`."""
    changed = np.stack([change(label, originals) for label in range(CLASSES)])
    same = np.arange(CLASSES)[:, None] == labels
    return np.where(same[..., None, None, None], originals, changed)


def test_stencil_is_shared_whole():
    originals, labels = uniform(0, 20, 8, 8, 3), labels_of(20)
    stencils = uniform(1, CLASSES, 8, 8, 3)
    images = under_labels(originals, labels, lambda label, x: x + stencils[label])
    np.testing.assert_allclose(shared(images, labels), 1, atol=1e-4)


@pytest.mark.parametrize('count', [8, 200])
def test_independent_changes_share_nothing(count):
    """Without the correction, 6 or so changes a label would share 1 / 6."""
    labels, results = labels_of(count), []
    for seed in range(20):
        originals = uniform(seed, count, 4, 4, 3)
        noise = np.random.default_rng(100 + seed).standard_normal((CLASSES, count, 4, 4, 3), np.float32)
        images = under_labels(originals, labels, lambda label, x, noise=noise: x + noise[label])
        results.append(shared(images, labels))
    results = np.array(results)
    assert np.all(np.abs(results.mean(0)) < 4 * results.std(0) / np.sqrt(20)) and np.all(results.std(0) > 0)


def test_shared_change_is_the_mean_over_pairs():
    labels, images = labels_of(11), uniform(0, CLASSES, 11, 4, 4, 1)
    expected = []
    for given in range(CLASSES):
        changes = [(images[given, i] - images[labels[i], i]).ravel() for i in range(11) if labels[i] != given]
        pairs = [a @ b for i, a in enumerate(changes) for j, b in enumerate(changes) if i != j]
        expected.append(np.mean(pairs) / np.mean([a @ a for a in changes]))
    np.testing.assert_allclose(shared(images, labels), expected, rtol=1e-4)
    np.testing.assert_allclose(shared(images, labels, batch=3), expected, rtol=1e-4)


def test_what_does_not_change_has_no_shared_change():
    images = np.broadcast_to(uniform(0, 1, 6, 4, 4, 1), (CLASSES, 6, 4, 4, 1))
    assert np.isnan(shared(images, labels_of(6))).all()


def test_shared_change_of_real_images():
    labels = labels_of(9)
    images = uniform(0, 9, 4, 4, 1) + np.float32(0.1) * labels[:, None, None, None].astype(np.float32)
    sums = summed(np.broadcast_to(images, (CLASSES, *images.shape)), images, labels, batch=4)
    flat = images.reshape(9, -1)
    expected = [np.nan]
    for given in range(1, CLASSES):
        inside, outside = np.flatnonzero(labels == given), np.flatnonzero(labels != given)
        pairs = [
            (flat[a] - flat[x]) @ (flat[b] - flat[y])
            for a in inside
            for b in inside
            for x in outside
            for y in outside
            if a != b and x != y
        ]
        squares = [np.square(flat[a] - flat[x]).sum() for a in inside for x in outside]
        expected.append(np.mean(pairs) / np.mean(squares))
    np.testing.assert_allclose(swaps.shared_change_of_real(sums), expected, rtol=1e-4)


def test_layout_does_not_depend_on_colours_or_contrast():
    image = uniform(0, 1, 32, 32, 3)
    other = np.float32(0.3) * image + np.array([0.1, 0.4, 0.0], np.float32)
    np.testing.assert_allclose(swaps.layout(image), swaps.layout(other), atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(swaps.layout(image)), 1, atol=1e-4)
    np.testing.assert_allclose(swaps.layout(np.full((1, 28, 28, 1), 0.3, np.float32)), 0, atol=1e-3)


def test_kept_layout_is_the_mean_over_pairs():
    originals, images, labels = uniform(0, 11, 16, 16, 3), uniform(1, CLASSES, 11, 16, 16, 3), labels_of(11)
    images = (images + originals) / 2
    before, after = np.asarray(swaps.layout(originals)), np.asarray(swaps.layout(images))
    found = {True: [], False: []}
    for given in range(CLASSES):
        for i in range(11):
            others = [before[j] @ after[given, i] for j in range(11) if j != i and labels[j] == labels[i]]
            found[given == labels[i]].append(before[i] @ after[given, i] - np.mean(others))
    expected = np.mean(found[False]), np.mean(found[True])
    np.testing.assert_allclose(kept(images, originals, labels), expected, rtol=1e-4)
    np.testing.assert_allclose(kept(images, originals, labels, batch=5), expected, rtol=1e-4)


def test_original_keeps_its_layout_and_a_prototype_keeps_none():
    """Images of a class resemble each other, so that a prototype of the true class has a high correlation."""
    labels, themes = labels_of(60), uniform(1, CLASSES, 16, 16, 3)
    originals = (7 * themes[labels] + 3 * uniform(0, 60, 16, 16, 3)) / np.float32(10)
    swap, reconstruction = kept(np.broadcast_to(originals, (CLASSES, *originals.shape)), originals, labels)
    assert swap == pytest.approx(reconstruction) and 0.05 < swap < 0.5
    swap, _ = kept(
        under_labels(originals, labels, lambda label, x: np.broadcast_to(themes[label], x.shape)), originals, labels
    )
    assert abs(swap) < 1e-6
    swap, _ = kept(np.broadcast_to(themes[labels], (CLASSES, *originals.shape)), originals, labels)
    assert abs(swap) < 1e-6


def test_only_image_of_a_label_does_not_count():
    originals = uniform(0, 4, 16, 16, 1)
    images = np.broadcast_to(originals, (CLASSES, 4, 16, 16, 1))
    alone = kept(images, originals, np.array([1, 1, 1, 2], np.int32))
    without = kept(images[:, :3], originals[:3], np.array([1, 1, 1], np.int32))
    assert alone == pytest.approx(without, abs=1e-6)
    assert np.isnan(kept(images[:, :1], originals[:1], np.array([1], np.int32))).all()


def test_metrics_are_means_over_labels_beside_their_bounds():
    originals, images, labels = uniform(0, 11, 16, 16, 3), uniform(1, CLASSES, 11, 16, 16, 3), labels_of(11)
    sums = summed(images, originals, labels)
    found = swaps.metrics(sums)
    assert found['shared_change'] == pytest.approx(swaps.shared_change(sums).mean())
    assert found['shared_change/real'] == pytest.approx(swaps.shared_change_of_real(sums)[1:].mean())
    assert (found['kept'], found['kept/reconstruction']) == swaps.layout_kept(sums)
    one_changes = summed(
        under_labels(originals, labels, lambda label, x: 0 * x if label == 1 else x), originals, labels
    )
    assert swaps.metrics(one_changes)['shared_change'] == pytest.approx(swaps.shared_change(one_changes)[1])


def test_coarse_difference_is_blind_to_detail():
    rng = np.random.default_rng(0)
    original = rng.uniform(size=(2, 16, 16, 3)).astype(np.float32)
    checks = (np.indices((16, 16)).sum(0) % 2 - 0.5)[None, :, :, None]
    lighter = np.stack([original[0] + 0.5, original[1]])
    np.testing.assert_allclose(swaps.coarse_difference(lighter, original), [0.25 * 4 * 4 * 3, 0], rtol=1e-4)
    detail = swaps.coarse_difference(original + checks.astype(np.float32), original)
    assert np.all(detail < 0.05 * 0.25 * 4 * 4 * 3)


@pytest.mark.parametrize('module', [swaps, style])
def test_sums_are_of_full_precision_on_accelerators(module):
    arguments = {'originals': uniform(1, 8, 16, 16, 3), 'images': uniform(0, CLASSES, 8, 16, 16, 3)}
    text = jax.jit(module.batch_sums).lower(**arguments, labels=labels_of(8), valid=np.ones(8, bool)).as_text()
    products = [line for line in text.splitlines() if 'dot_general' in line]
    assert products and all('[HIGHEST, HIGHEST]' in line for line in products)


def test_nearest_real_images_come_in_order():
    rng = np.random.default_rng(0)
    image, far = rng.random((4, 4, 3)), rng.random((20, 4, 4, 3))
    real = np.concatenate([far, image[None] + 0.02, image[None], image[None] - 0.05]).clip(0, 1)
    found = figures.nearest(image, (255 * real).round().astype(np.uint8), 3)
    np.testing.assert_allclose(found, real[[21, 20, 22]], atol=1 / 255)
