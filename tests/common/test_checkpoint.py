"""Checkpoints: saving, restoring, and detecting damage."""

import pathlib
import resource

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common.checkpoint import Checkpoints
from common.errors import UserError
from common.parallel import Devices

# When one read or write fails, the others may end after Orbax has closed its event loop.
orbax_leaves_work_behind = pytest.mark.filterwarnings(
    'ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning'
)


@pytest.fixture
def items():
    noise = np.random.default_rng(0).normal(size=(300, 300)).astype(np.float32)
    return {
        'average': {'w': jnp.asarray(noise), 'b': jnp.arange(3.0)},
        'training': {'step': jnp.int32(7), 'w': jnp.asarray(noise[::-1]), 'nested': [jnp.ones((2, 2))]},
    }


def save(workdir, items, *steps):
    with Checkpoints(workdir) as checkpoints:
        for step in steps:
            checkpoints.save(step, items)


def restore(workdir, items):
    with Checkpoints(workdir) as checkpoints:
        return checkpoints.restore(jax.tree.map(jnp.zeros_like, items))


def unknown_part(items):
    """The items, as a template that leaves a part of `training` to what is stored."""
    return items | {'training': items['training'] | {'nested': None}}


def assert_equal(tree, expected):
    assert jax.tree.structure(tree) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, tree, expected)


def test_restored_items_are_bit_equal(tmp_path, items):
    save(tmp_path, items, 7)
    assert_equal(restore(tmp_path, items), items)


def test_average_can_be_restored_alone(tmp_path, items):
    save(tmp_path, items, 7)
    part = {'average': items['average']}
    assert_equal(restore(tmp_path, part), part)


@pytest.mark.parametrize('saved, restored', [(4, 1), (1, 4)])
def test_number_of_devices_may_change(tmp_path, items, saved, restored):
    before, after = (Devices(jax.devices()[:count]) for count in (saved, restored))
    save(tmp_path, before.replicate(items), 7)
    found = restore(tmp_path, after.replicate(items))
    assert_equal(found, items)
    assert {len(leaf.devices()) for leaf in jax.tree.leaves(found)} == {restored}


def test_relative_work_directory_works(tmp_path, items, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save(pathlib.Path('runs/one'), items, 7)
    assert_equal(restore(pathlib.Path('runs/one'), items), items)


def test_newest_two_are_kept(tmp_path, items):
    save(tmp_path, items, 1, 2, 3)
    assert sorted(path.name for path in (tmp_path / 'checkpoints').iterdir()) == ['2', '3']


def test_saving_a_step_twice_changes_nothing(tmp_path, items):
    save(tmp_path, items, 7, 7)
    assert_equal(restore(tmp_path, items), items)


def test_other_structure_is_reported_as_another_version(tmp_path, items):
    save(tmp_path, items, 7)
    items['training']['new'] = jnp.zeros(3)
    with pytest.raises(UserError, match='of another version'):
        restore(tmp_path, items)


@orbax_leaves_work_behind
@pytest.mark.filterwarnings('ignore::pytest.PytestUnhandledThreadExceptionWarning')
def test_full_disk_keeps_earlier_checkpoints(tmp_path, items):
    """Simulates the full disk by a limit on the size of files, so that a write fails halfway."""
    save(tmp_path, items, 3)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with pytest.raises(UserError, match='cannot be written to .*make room and start again to resume from step 3'):
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
            save(tmp_path, items, 7)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert_equal(restore(tmp_path, items), items)


def test_missing_checkpoint_is_reported_with_advice(tmp_path, items):
    with pytest.raises(UserError, match='no checkpoint in .*train first'):
        restore(tmp_path, items)


def test_unknown_part_is_restored_as_it_was_stored(tmp_path, items):
    save(tmp_path, items, 7)
    assert_equal(restore(tmp_path, unknown_part(items)), items)


@orbax_leaves_work_behind
@pytest.mark.parametrize('damage', ['flip', 'truncate'])
@pytest.mark.parametrize('template', [dict, unknown_part])
@pytest.mark.parametrize(
    'steps, remedy',
    [
        ((7,), 'no older one; remove .*checkpoints to start again'),
        ((3, 7), 'remove .*checkpoints/7 to go on from step 3'),
    ],
)
def test_damage_is_detected_with_advice(tmp_path, items, damage, template, steps, remedy):
    save(tmp_path, items, *steps)
    largest = max((tmp_path / 'checkpoints' / '7').rglob('*'), key=lambda path: path.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 4
    largest.write_bytes(content if damage == 'flip' else content[: len(content) // 2])
    with pytest.raises(UserError, match=f'checkpoint of step 7 is damaged.*{remedy}') as caught:
        restore(tmp_path, template(items))
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('saved, read', [(np.float64, np.float32), (np.float32, np.float64)])
def test_values_of_another_type_are_not_called_damaged(tmp_path, saved, read):
    values = np.random.default_rng(0).normal(size=(3, 4))
    with jax.enable_x64(True):
        save(tmp_path, {'average': {'w': values.astype(saved)}}, 7)
        message = f'holds {np.dtype(saved)} values, .* in {np.dtype(read)}; .*JAX_ENABLE_X64'
        with pytest.raises(UserError, match=message):
            restore(tmp_path, {'average': {'w': values.astype(read)}})


def test_values_of_another_shape_are_not_called_damaged(tmp_path, items):
    save(tmp_path, items, 7)
    items['average']['b'] = jnp.arange(4.0)
    with pytest.raises(UserError, match='are of another version of this program, or not of its config.json'):
        restore(tmp_path, items)
