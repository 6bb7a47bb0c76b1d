"""Results of an evaluation that are kept for each example."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common.evaluate import Evaluation
from common.parallel import Devices
from tests.helpers import draw_pets, initial_of
from unet.task import SegmentationTask


@dataclasses.dataclass(frozen=True)
class TaskWithRows(SegmentationTask):
    """The segmentation task, and for each image its place in the split and its mean; `rows` are those summarized."""

    rows: list = dataclasses.field(default_factory=list)
    per_example = ('rows',)

    def load(self, split):
        return draw_pets('test', 13, self.config.data.image_size)

    def eval_step(self, variables, constants, batch, keys, measures):
        means = jnp.mean(batch['image'] / 255.0, axis=(1, 2, 3))
        rows = {'index': batch['index'], 'pairs': jnp.stack([means, -means], axis=1)}
        return super().eval_step(variables, constants, batch, keys, measures) | {'rows': rows}

    def summarize(self, sums):
        self.rows.append(sums['rows'])
        return super().summarize({name: value for name, value in sums.items() if name != 'rows'})


@pytest.mark.parametrize('batch_size, devices', [(1, 1), (5, 1), (64, 1), (8, 4), (4, 2)])
def test_rows_of_examples_keep_the_order_of_the_split(config, batch_size, devices):
    config.eval_batch_size = batch_size
    task = TaskWithRows(config)
    variables, constants = initial_of(task)
    metrics = Evaluation(task, Devices(jax.devices()[:devices])).metrics(variables, constants, lambda: None, 'test')
    (rows,) = task.rows
    np.testing.assert_array_equal(rows['index'], np.arange(13))
    means = task.load('test')['image'].mean((1, 2, 3)) / 255
    np.testing.assert_allclose(rows['pairs'], np.stack([means, -means], axis=1), rtol=1e-5)
    assert metrics['loss'] > 0
