"""Our side: the training and evaluation steps of this project, on arrays in memory."""

import dataclasses
import functools
import time
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import measure, works
from common import cpu
from common.data import batches
from common.data.images import standardize
from common.evaluate import Evaluation
from common.keys import Keys
from common.parallel import Devices
from common.train import Trainer, default_dispatch
from unet import task as unet_task
from vae import task as vae_task
from vae.classifier import ClassifierTask


@dataclasses.dataclass(frozen=True)
class Segmentation(unet_task.SegmentationTask):
    """The segmentation task without augmentation, on random images."""

    work: works.Work

    def load(self, split: str) -> dict[str, np.ndarray]:
        return works.arrays(self.work)

    def augment(self, batch, keys: Keys, size: int) -> tuple[jax.Array, jax.Array]:
        return standardize(batch['image'] / 255.0, self.config.data), batch['labels']


@dataclasses.dataclass(frozen=True)
class VAE(vae_task.VAETask):
    """The VAE task on random images, with an untrained frozen classifier and no judge."""

    work: works.Work

    def load(self, split: str) -> dict[str, np.ndarray]:
        return works.arrays(self.work)

    @functools.cached_property
    def classifiers(self) -> dict[str, ClassifierTask]:
        return {'frozen': ClassifierTask(self.work.classifier)}

    def constants(self) -> dict[str, Any]:
        return {'frozen': self.classifiers['frozen'].init(jax.random.key(0))}

    def inputs(self) -> tuple[jax.Array, jax.Array, jax.Array]:
        """An image, a label and noise of the shapes that the model takes."""
        size, channels = self.config.data.image_size, len(self.config.data.mean)
        return (
            jnp.zeros((1, size, size, channels)),
            jnp.zeros((1, 1), jnp.int32),
            jnp.zeros((1, self.config.model.latent)),
        )


class Device:
    """The device of our side."""

    def describe(self) -> dict[str, Any]:
        device = jax.devices()[0]
        name = cpu.name() if device.platform == 'cpu' else device.device_kind
        return {'backend': device.platform, 'device': name, 'jax': jax.__version__}

    def ceiling(self, dtype: str) -> float:
        """GFLOP/s of a large matrix product."""
        size = measure.CEILING_SIZES[jax.default_backend()]
        matrix, product = jax.random.normal(jax.random.key(0), (size, size), dtype), jax.jit(jnp.matmul)
        return measure.ceiling(lambda: jax.block_until_ready(product(matrix, matrix)), size)


class Ours:
    """Trains and evaluates one work on one device, as the loop in common/train.py does."""

    def __init__(self, work: works.Work):
        self.work = work
        self.task = (VAE if work.classifier else Segmentation)(work.config, work)
        devices = Devices(jax.devices()[:1])
        self.trainer = Trainer(self.task, batches.Feed(self.task.load('train'), devices), devices)
        self.evaluation = Evaluation(self.task, devices)
        state, self.constants = self.trainer.init()
        self.initial = jax.tree.map(np.asarray, {'params': state.params, 'batch_stats': state.batch_stats})
        self.state, self.constants = devices.replicate((state, self.constants))
        self.done, self.unread = 0, ()

    def reference(self) -> works.Reference:
        """The weights and examples that the PyTorch side starts from."""
        layers, others = in_order(self.network(), self.initial)
        frozen = in_order(self.classifier(), self.constants['frozen'])[0] if self.work.classifier else []
        return works.Reference(layers, others, frozen, self.task.load('train'), self.first_batch())

    def first_step(self) -> tuple[float, float, float]:
        """Loss and gradient norm of the first step, run in a dispatch of its own, and seconds with compilation."""
        start = time.perf_counter()
        sums = jax.tree.map(np.asarray, self.train_step(1))
        metrics = sums['metrics']
        loss = metrics['total' if self.work.classifier else 'loss'] / metrics['examples']
        return float(loss), float(sums['grad_norm']), time.perf_counter() - start

    def train_step(self, count: int):
        """Dispatches `count` steps, then waits for the previous dispatch, as the loop does."""
        self.state, sums = self.trainer(self.state, self.constants, self.done, count)
        self.done += count
        jax.block_until_ready(self.unread)
        self.unread = sums
        return sums

    def eval_step(self) -> None:
        """Dispatches the evaluation of a batch, then waits for the previous one."""
        size = self.work.config.batch_size
        batch = self.trainer.feed(np.arange(size)) | {'valid': np.ones((1, size), bool)}
        variables = self.state.average
        step = self.evaluation.step('train')
        sums = step(variables, self.constants, batch, self.evaluation.root)
        jax.block_until_ready(self.unread)
        self.unread = sums

    def speed(self, mode: str, seconds: float) -> float:
        """Images per second in mode 'train' or 'eval'."""
        count = (self.work.config.steps_per_dispatch or default_dispatch()) if mode == 'train' else 1
        step = functools.partial(self.train_step, count) if mode == 'train' else self.eval_step
        return measure.speed(
            step, lambda: jax.block_until_ready(self.unread), count * self.work.config.batch_size, seconds
        )

    def peak_memory(self) -> float:
        """Peak memory in MiB: that of the device if it is known, else that of the process."""
        stats = self.trainer.devices.devices[0].memory_stats()
        return stats['peak_bytes_in_use'] / 2**20 if stats else measure.peak_memory()

    def first_batch(self) -> dict[str, np.ndarray]:
        """The examples of the first step; for a VAE also their `given` labels and `noise`."""
        config, feed = self.work.config, self.trainer.feed
        index = batches.batch_indices(config.seed, 0, config.batch_size, feed.size)
        batch = {name: np.asarray(array[index]) for name, array in feed.arrays.items()} | {'index': index}
        if self.work.classifier:
            keys = Keys(jax.random.key(config.seed), 0)
            batch |= {'given': self.task.given_labels(batch, keys), 'noise': self.task.noise(batch, keys)}
        return jax.tree.map(np.asarray, batch)

    def network(self):
        """The network in evaluation mode, as a function of its variables."""
        if self.work.classifier:
            return lambda variables: self.task.model(train=False).apply(variables, *self.task.inputs())
        size = self.work.config.data.image_size
        return lambda variables: self.task.model.apply(variables, jnp.zeros((1, size, size, 3)), train=False)

    def classifier(self):
        return lambda variables: self.task.classifiers['frozen'].logits(variables, self.task.inputs()[0])


def in_order(network, variables) -> tuple[works.Layers, dict[str, np.ndarray]]:
    """The layers of a network in the order in which they run, and the parameters outside layers.

    Args:
        network: a function of `variables` that calls Flax modules.
        variables: `params` and, if there are any, `batch_stats`.
    Returns:
        A list with each layer's parameters and statistics by name; the parameters of the root module by name.
    """
    paths = []

    def record(call, args, kwargs, context):
        if context.method_name == '__call__' and context.module.path not in paths:
            paths.append(context.module.path)
        return call(*args, **kwargs)

    with nn.intercept_methods(record):
        jax.eval_shape(network, variables)
    layers = [
        own_arrays(variables['params'], path) | own_arrays(variables.get('batch_stats', {}), path)
        for path in paths
        if path
    ]
    return [layer for layer in layers if layer], own_arrays(variables['params'], ())


def own_arrays(tree, path: tuple[str, ...]) -> dict[str, np.ndarray]:
    """The arrays at `path` itself, without those of its submodules."""
    for name in path:
        tree = tree.get(name, {})
    return {name: np.asarray(value) for name, value in tree.items() if not isinstance(value, dict)}
