"""Predictions that are averaged with those for the mirrored image."""

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


def test_prediction_for_the_mirrored_image_is_mirrored(averaging_task, tiny_task):
    variables, _ = initial_of(tiny_task)
    images = averaging_task.load('test')['image'][:3]
    for task in (averaging_task, tiny_task):
        predict = jax.jit(task.predict)
        one, other = (np.asarray(predict(variables, pixels)) for pixels in (images, images[:, :, ::-1]))
        np.testing.assert_allclose(one.sum(-1), 1, rtol=1e-5)
        assert np.allclose(one, other[:, :, ::-1], atol=1e-6) == (task is averaging_task)


def test_evaluation_measures_both_kinds_of_prediction(averaging_task, tiny_task):
    variables, constants = initial_of(tiny_task)
    both, plain = (
        Evaluation(task, Devices()).metrics(variables, constants, lambda: None, 'test')
        for task in (averaging_task, tiny_task)
    )
    assert {name: both[f'unmirrored/{name}'] for name in plain} == pytest.approx(plain)
    assert both['loss'] != pytest.approx(plain['loss'])
