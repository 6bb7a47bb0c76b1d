"""Precision and recall against brute force, and where the result is known."""

import numpy as np
import pytest

from vae import manifold


def normal(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def brute_force(real, generated, neighbours):
    """The definition, point by point."""

    def covers(points, x):
        for i, point in enumerate(points):
            distances = sorted(np.linalg.norm(point - other) for j, other in enumerate(points) if j != i)
            if np.linalg.norm(point - x) <= distances[neighbours - 1]:
                return True
        return False

    return np.mean([covers(real, x) for x in generated]), np.mean([covers(generated, x) for x in real])


@pytest.mark.parametrize('neighbours', [1, 3, 5])
def test_precision_and_recall_are_those_of_the_definition(neighbours):
    real, generated = normal(0, 40, 3), 1.5 * normal(1, 30, 3) + 1.5
    precision, recall = manifold.precision_recall(real, generated, neighbours)
    assert (precision, recall) == pytest.approx(brute_force(real, generated, neighbours)) and 0 < precision < 1
    assert manifold.precision_recall(generated, real, neighbours) == (recall, precision)


def test_equal_sets_have_all_and_distant_ones_nothing():
    points = normal(0, 40, 5)
    assert manifold.precision_recall(points, points[::-1]) == (1, 1)
    assert manifold.precision_recall(points, points + 100) == (0, 0)


def test_collapsed_set_is_precise_and_recalls_nothing():
    precision, recall = manifold.precision_recall(normal(0, 200, 4), 0.01 * normal(1, 200, 4))
    assert precision == 1 and recall < 0.05


def test_set_that_covers_more_recalls_all_and_is_not_precise():
    precision, recall = manifold.precision_recall(normal(0, 200, 2), 30 * normal(1, 200, 2))
    assert precision < 0.1 and recall > 0.9


@pytest.mark.parametrize('counts', [(3, 9), (9, 3)])
def test_too_few_points_have_no_manifold(counts):
    with pytest.raises(ValueError, match='4 are needed'):
        manifold.precision_recall(normal(0, counts[0], 2), normal(1, counts[1], 2))


def features(count=180, classes=3):
    """Features whose classes are far apart, with labels and given labels."""
    labels, index = np.arange(count) % classes, np.arange(count)
    given = np.asarray(manifold.given_label(labels, index // classes, classes))
    centres = 20 * normal(9, classes, 6)
    return centres[labels] + normal(0, count, 6), centres[given] + normal(1, count, 6), labels, given


def metrics(real, reconstructed, swapped, labels, given, names=('a', 'b', 'c')):
    return manifold.metrics(
        real=real, reconstructed=reconstructed, swapped=swapped, labels=labels, given=given, names=names
    )


def test_given_labels_are_wrong_and_take_turns():
    labels = np.repeat(np.arange(10), 90)
    given = manifold.given_label(labels, np.tile(np.arange(90), 10), 10)
    pairs, counts = np.unique(np.stack([labels, given]), axis=1, return_counts=True)
    assert np.all(given != labels) and pairs.shape == (2, 90) and set(counts) == {10}


def test_swaps_like_real_images_of_the_label_reach_the_ceiling():
    real, swapped, labels, given = features()
    found = metrics(real, real, swapped, labels, given)
    for measure in ('precision', 'recall'):
        assert found[f'{measure}/reconstruction'] == found[f'{measure}/real'] < 1
        assert found[measure] == pytest.approx(found[f'{measure}/real'], abs=0.12)
        assert found[measure] == pytest.approx(np.mean([found[f'{measure}/{name}'] for name in 'abc']))
    as_originals = metrics(real, real, real, labels, given)
    assert as_originals['precision'] == as_originals['recall'] == 0


def test_real_images_are_compared_with_the_other_half():
    """Reconstructions that hit their originals exactly would else be within every manifold."""
    labels = np.zeros(80, int)
    given = np.where(np.arange(80) < 40, 0, 1)
    real = normal(0, 80, 8)
    found = metrics(real, real, real, labels, given)
    expected = np.mean(
        [manifold.precision_recall(real[one::2][:20], real[1 - one :: 2][:20]) for one in (0, 1)], axis=0
    )
    assert (found['precision/real'], found['recall/real']) == pytest.approx(tuple(expected))
    assert found['precision/real'] < 1


def test_soft_measures_compare_with_reconstructions():
    """Here reconstructions are far from real images, and swaps are like the reconstructions of their label."""
    real, swapped, labels, given = features()
    found = metrics(real, real + 100, swapped + 100, labels, given)
    expected = metrics(real, real, swapped, labels, given)
    for measure in ('precision', 'recall'):
        assert found[measure] == found[f'{measure}/reconstruction'] == 0 < expected[measure]
        for kind in ('', '/reconstruction', '/b'):
            assert found[f'soft_{measure}{kind}'] == pytest.approx(expected[f'{measure}{kind}'])
    assert 'soft_precision/real' not in found


def test_label_may_be_called_as_a_set():
    arrays = features()
    found, expected = metrics(arrays[0], *arrays, ('real', 'b', 'reconstruction')), metrics(arrays[0], *arrays)
    for name, renamed in (('a', 'real'), ('c', 'reconstruction')):
        assert found[f'recall/{renamed} (label)'] == expected[f'recall/{name}'] != found[f'recall/{renamed}']
        assert found[f'recall/{renamed}'] == expected[f'recall/{renamed}']


def test_label_without_images_is_left_out_of_the_mean():
    real, swapped, labels, given = features()
    some = labels != 2
    found = metrics(real[some], real[some], swapped[some], labels[some], given[some])
    assert np.isnan(found['precision/c'])
    assert found['precision'] == pytest.approx((found['precision/a'] + found['precision/b']) / 2)
    few = metrics(real[:9], real[:9], swapped[:9], labels[:9], given[:9])
    assert set(few) == set(metrics(real, real, swapped, labels, given)) and np.isnan([*few.values()]).all()


def test_only_the_first_images_of_a_label_are_used(monkeypatch):
    monkeypatch.setattr(manifold, 'MOST', 20)
    real, swapped, labels, given = features()
    kept = np.arange(180) < 60  # 20 a label.
    shortened = swapped.copy()
    for label in range(3):
        shortened[np.flatnonzero(given == label)[20:]] = 1e3
    found = metrics(np.where(kept[:, None], real, 1e3), real, shortened, labels, given)
    assert found == metrics(real, real, swapped, labels, given)
