"""Predictions that are averaged with those for the mirror image."""

import jax
import numpy as np
import pytest

from common.config import filled
from common.evaluate import Evaluation
from common.parallel import Devices
from tests.conftest import make_tiny_task
from tests.helpers import initial_of


@pytest.fixture
def averaging_task(config):
    return make_tiny_task(filled(config, {'average_mirrored': True}))


def test_probabilities_are_averaged_with_those_of_the_mirror_image(averaging_task, tiny_task):
    variables, _ = initial_of(tiny_task)
    images = averaging_task.load('test')['image'][:3]
    single, single_mirrored, averaged = (
        np.asarray(jax.jit(task.predict)(variables, pixels))
        for task, pixels in ((tiny_task, images), (tiny_task, images[:, :, ::-1]), (averaging_task, images))
    )
    assert not np.allclose(single, single_mirrored[:, :, ::-1], atol=1e-4)
    np.testing.assert_allclose(averaged, (single + single_mirrored[:, :, ::-1]) / 2, atol=1e-6)


def test_evaluation_measures_both_kinds_of_prediction(averaging_task, tiny_task):
    variables, constants = initial_of(tiny_task)
    both, plain = (
        Evaluation(task, Devices()).metrics(variables, constants, lambda: None, 'test')
        for task in (averaging_task, tiny_task)
    )
    assert {name: both[f'single/{name}'] for name in plain} == pytest.approx(plain)
    assert both['loss'] != pytest.approx(plain['loss'])
