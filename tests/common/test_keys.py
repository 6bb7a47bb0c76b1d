"""Random keys are a function of seed, stream, step and example."""

from itertools import combinations

import jax
import numpy as np

from common.keys import Keys


def data(key):
    return np.asarray(jax.random.key_data(key))


def test_keys_are_independent_of_the_split_of_a_batch():
    keys, index = Keys(jax.random.key(0), 5), np.array([3, 1, 4, 0])
    whole = data(keys.per_example('color', index))
    split = [data(keys.per_example('color', part)) for part in (index[:1], index[1:])]
    np.testing.assert_array_equal(whole, np.concatenate(split))


def test_keys_are_equal_inside_and_outside_jit():
    traced = jax.jit(lambda step: jax.random.key_data(Keys(jax.random.key(0), step).stream('color')))(5)
    np.testing.assert_array_equal(traced, data(Keys(jax.random.key(0), 5).stream('color')))


def test_keys_differ_by_seed_stream_step_and_example():
    cases = [
        (0, 'color', 5, 3),
        (1, 'color', 5, 3),
        (0, 'geometry', 5, 3),
        (0, 'color', 6, 3),
        (0, 'color', 5, 4),
        (0, 'color', 3, 5),
    ]
    keys = [
        data(Keys(jax.random.key(seed), step).per_example(stream, np.array([example])))
        for seed, stream, step, example in cases
    ]
    assert all(np.any(one != other) for one, other in combinations(keys, 2))
