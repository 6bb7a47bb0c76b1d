"""Compiles the networks for accelerators that this machine does not have, and tabulates what the compilers estimate.

    make accelerators                                   all rows that docs/accelerators.json lacks, then the table
    make accelerators ACCELERATORS=--only=v5e_1         rows whose name holds this
    make accelerators ACCELERATORS=--table              the table alone

Programs come from the project's own trainer, evaluation and tasks, on described devices and with shapes in place of
arrays. Nothing runs. libtpu estimates memory, traffic, operations and cycles; CUDA's compiler reports memory alone.
"""

import os

os.environ['JAX_PLATFORMS'] = 'cpu'
os.environ.update(TPU_SKIP_MDS_QUERY='1', TPU_ACCELERATOR_TYPE='v5litepod-4', TPU_WORKER_HOSTNAMES='localhost')
os.environ['XLA_FLAGS'] = f'{os.environ.get("XLA_FLAGS", "")} --xla_gpu_autotune_level=0'  # Autotuning runs kernels.

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
import contextlib
import dataclasses
import functools
import json
import multiprocessing
import pathlib
import re
import sys
import time
from typing import Any, NamedTuple
import unittest.mock

from absl import flags
import flax.linen as nn
import jax
from jax.experimental import topologies
import jax.numpy as jnp
from ml_collections import ConfigDict
import numpy as np

from common import cli
from common.errors import notice
from common.evaluate import Evaluation
from common.keys import Keys
from common.parallel import Devices
from common.train import Trainer
from configs import (
    classifier_cifar10,
    classifier_mnist,
    judge_cifar10,
    judge_mnist,
    unet_mp_tr_ce,
    unet_strconv_ups_dice,
    vae_cifar10,
    vae_mnist,
)
from unet.task import SegmentationTask
from vae.classifier import ClassifierTask
from vae.task import VAETask

OUTPUT = pathlib.Path('docs/accelerators.json')
ONLY = flags.DEFINE_string('only', '', 'Part of the names of the rows to compile.')
TABLE = flags.DEFINE_bool('table', False, 'Compile nothing; print the table of the rows that are there.')

H100 = '''gpu_device_info { threads_per_block_limit: 1024 threads_per_warp: 32 shared_memory_per_block: 49152
shared_memory_per_core: 233472 threads_per_core_limit: 2048 core_count: 132 fpus_per_core: 128
block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535 memory_bandwidth: 3352320000000
l2_cache_size: 52428800 clock_rate_ghz: 1.98 device_memory_size: 84978434048 shared_memory_per_block_optin: 232448
cuda_compute_capability { major: 9 } registers_per_core_limit: 65536 registers_per_block_limit: 65536 }
platform_name: "CUDA" dnn_version_info { major: 9 minor: 8 patch: 0 } runtime_version { major: 12 minor: 9 patch: 0 }
device_description_str: "NVIDIA H100 80GB HBM3"'''


class Target(NamedTuple):
    """Accelerators: the platform, the topology that contains them, how many, and GiB of memory of each."""

    platform: str
    topology: str
    count: int
    gib: float

    def devices(self) -> list:
        if self.platform == 'tpu':
            described = topologies.get_topology_desc(platform='tpu', topology_name=self.topology)
        else:
            described = topologies.get_topology_desc(
                platform='cuda', topology_name='', target_config=H100, topology=self.topology
            )
        return described.devices[: self.count]


TARGETS = {
    'v5e_1': Target('tpu', 'v5e:2x2', 1, 16),
    'v5e_2x2': Target('tpu', 'v5e:2x2', 4, 16),
    'v5e_4x4': Target('tpu', 'v5e:4x4', 16, 16),
    'v6e_1': Target('tpu', 'v6e:2x2', 1, 32),
    'h100_1': Target('cuda', '1x1x1', 1, 80),
    'h100_8': Target('cuda', '1x1x8', 8, 80),
}
WORKS = {
    'unet_mp_tr': (unet_mp_tr_ce,),
    'unet_strconv_ups': (unet_strconv_ups_dice,),
    'vae_mnist': (vae_mnist, classifier_mnist, judge_mnist),
    'vae_cifar10': (vae_cifar10, classifier_cifar10, judge_cifar10),
    'classifier_cifar10': (classifier_cifar10,),
}  # The configurations; for a VAE also those of its classifiers.


class DescribedDevices(Devices):
    """Devices that cannot hold arrays: what is replicated becomes its shapes."""

    def replicate(self, tree):
        return self.placed(jax.eval_shape(lambda: tree))


@dataclasses.dataclass
class DescribedFeed:
    """Shapes in place of the batches of `common.data.Feed`; `example` has the shape and type of each array."""

    example: dict[str, jax.ShapeDtypeStruct]
    devices: Devices
    size: int = 10**4

    def __call__(self, index: np.ndarray) -> dict[str, jax.ShapeDtypeStruct]:
        rows = (self.devices.count, *index.shape[:-1], index.shape[-1] // self.devices.count)
        batch = {name: jax.ShapeDtypeStruct((*rows, *x.shape), x.dtype) for name, x in self.example.items()}
        return batch | {'index': jax.ShapeDtypeStruct(rows, jnp.int32)}


class Row(NamedTuple):
    """What is compiled: 'step', 'steps' (ten in a dispatch), 'gradient' (no optimizer), 'eval' or 'predict'."""

    target: str
    work: str
    program: str
    layers: str = 'ours'  # Or 'plain', those of Flax alone.
    dtype: str = 'bfloat16'
    batch: int = 0  # Global; 0: as configured.

    @property
    def name(self) -> str:
        return '/'.join(map(str, self))


class Programs:
    """The lowered programs of one work on the devices of a target."""

    def __init__(self, row: Row):
        self.config, *others = (module.get_config() for module in WORKS[row.work])
        for config in (self.config, *others):
            config.dtype = row.dtype
        self.devices = DescribedDevices(TARGETS[row.target].devices())
        size = batch_size(row, self.config)
        self.config.update({'batch_size': size, 'eval_batch_size': size})
        self.task = VAE(self.config, *others) if others else TASKS[self.config.task](self.config)
        self.example = example_of(self.config)
        self.trainer = Trainer(self.task, DescribedFeed(self.example, self.devices), self.devices)
        with unittest.mock.patch('common.train.run_once', lambda function, *args: function(*args)):
            state, constants = jax.eval_shape(self.trainer.init)
        self.state, self.constants = self.devices.placed((state, constants))

    def batches(self, *steps: int):
        return self.trainer.feed(np.zeros((*steps, self.config.batch_size), np.int32))

    def step(self, count: int = 1):
        return self.trainer.compiled(self.trainer.stage(0)).lower(
            self.state, self.constants, self.batches(count), self.trainer.root
        )

    def steps(self):
        return self.step(10)

    def gradient(self):
        def gradient(state, constants, batch, root):
            loss = functools.partial(self.task.loss, stage=self.trainer.stage(0))
            grads, (batch_stats, sums) = jax.grad(loss, has_aux=True)(
                state.params, state.batch_stats, constants, batch, Keys(root, state.step)
            )
            return self.devices.mean(grads), batch_stats, self.devices.sum(sums)

        mapped = self.devices.map(gradient, in_axes=(None, None, 0, None))
        return mapped.lower(self.state, self.constants, self.batches(), self.trainer.root)

    def eval(self):
        evaluation = Evaluation(self.task, self.devices)
        batch = self.trainer.feed(np.zeros(evaluation.batch_size, np.int32))
        batch['valid'] = jax.ShapeDtypeStruct(batch['index'].shape, jnp.bool)
        return evaluation.step('test').lower(self.state.average, self.constants, batch, evaluation.root)

    def predict(self):
        names = ('image', 'label') if self.task.takes_labels else ('image',)
        inputs = self.devices.placed(
            [
                jax.ShapeDtypeStruct((self.config.eval_batch_size, *self.example[name].shape), self.example[name].dtype)
                for name in names
            ]
        )
        return jax.jit(self.task.predict).lower(self.state.average, *inputs)


def example_of(config) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes and types of the arrays of one example of a configuration's data set."""
    size = config.data.image_size
    if config.task == 'unet':
        return {
            'image': jax.ShapeDtypeStruct((size, size, 3), jnp.uint8),
            'labels': jax.ShapeDtypeStruct((size, size), jnp.uint8),
        }
    return {
        'image': jax.ShapeDtypeStruct((size, size, len(config.data.mean)), jnp.uint8),
        'label': jax.ShapeDtypeStruct((), jnp.int32),
    }


@dataclasses.dataclass(frozen=True)
class VAE(VAETask):
    """The VAE's task with untrained classifiers in place of those of other runs."""

    classifier: ConfigDict
    judge: ConfigDict

    @functools.cached_property
    def classifiers(self) -> dict[str, ClassifierTask]:
        return {'frozen': ClassifierTask(self.classifier), 'judge': ClassifierTask(self.judge)}

    def constants(self) -> dict[str, Any]:
        return {name: task.init(jax.random.key(0)) for name, task in self.classifiers.items()}


TASKS = {'unet': SegmentationTask, 'classifier': ClassifierTask}


def apart(function: Callable[[Any], dict[str, Any]], argument: Any) -> dict[str, Any]:
    """What `function` returns in a process of its own, or an `error` if that process dies, as compilers may."""
    with ProcessPoolExecutor(1, multiprocessing.get_context('spawn')) as pool:
        try:
            return pool.submit(function, argument).result()
        except BrokenProcessPool:
            return {'error': 'the compiler crashed'}


def measure(row: Row) -> dict[str, Any]:
    """Compiles one row. Returns its figures, or the compiler's complaint as `error`."""
    with layers_of(row):
        lowered = getattr(Programs(row), row.program)()
    start = time.process_time()
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        return {'error': str(error).splitlines()[0][:300]}
    return figures(compiled) | {'cpu_seconds': round(time.process_time() - start, 1)}


@contextlib.contextmanager
def layers_of(row: Row):
    """Chooses the layers as on the target, not as on this machine, or Flax's own."""
    replaced: dict[str, Any] = {'common.layers.tpu.default_backend': lambda: TARGETS[row.target].platform}
    if row.layers == 'plain':
        replaced = dict.fromkeys(
            ('common.layers.default.TransposedConv', 'vae.networks.TransposedConv'), flax_transposed_conv
        )
    with contextlib.ExitStack() as stack:
        for name, value in replaced.items():
            stack.enter_context(unittest.mock.patch(name, value))
        yield


def flax_transposed_conv(features: int, dtype=jnp.float32) -> nn.Module:
    return nn.ConvTranspose(features, (2, 2), (2, 2), dtype=dtype)


def figures(compiled) -> dict[str, Any]:
    """What a compiled program needs, on each device; bytes, operations and cycles on a TPU alone."""
    memory, cost, text = compiled.memory_analysis(), compiled.cost_analysis() or {}, compiled.as_text()
    mib = 2**20
    cycles = [int(number) for number in re.findall(r'"estimated_cycles":"(\d+)"', text) if int(number) < 10**15]
    reduced = re.findall(r'= (.*?) all-reduce(?:-start)?\(', text)
    return {
        'temporary_mib': memory.temp_size_in_bytes / mib,
        'argument_mib': memory.argument_size_in_bytes / mib,
        'gigabytes': cost.get('bytes accessed', 0) / 1e9,
        'gflop': cost.get('flops', 0) / 1e9,
        'megacycles': sum(cycles) / 1e6,
        'all_reduces': len(reduced),
        'all_reduce_mib': sum(map(size_of, reduced)) / mib,
    }


def size_of(shapes: str) -> int:
    """Bytes of the arrays in a type of HLO, such as '(f32[3,3]{1,0}, bf16[8]{0})'."""
    width = {'pred': 1, 's8': 1, 'u8': 1, 'bf16': 2, 'f16': 2, 's32': 4, 'u32': 4, 'f32': 4}
    return sum(
        width[kind] * int(np.prod([int(n) for n in dims.split(',') if n]))
        for kind, dims in re.findall(r'(\w+)\[([\d,]*)\]', shapes)
        if kind in width
    )


def rows() -> list[Row]:
    """All rows, the most telling first."""
    found = [Row('v5e_1', work, 'gradient', layers) for work in WORKS for layers in ('ours', 'plain')]
    found += [Row('v5e_2x2', 'unet_mp_tr', 'step')]
    found += [Row('v5e_1', work, 'step') for work in WORKS]
    found += [Row('h100_1', 'unet_mp_tr', 'step'), Row('h100_8', 'unet_mp_tr', 'step')]
    found += [Row('v5e_1', 'unet_mp_tr', program) for program in ('steps', 'eval', 'predict')]
    found += [Row('v5e_1', 'unet_mp_tr', 'step', batch=128), Row('h100_1', 'unet_mp_tr', 'step', batch=512)]
    found += [Row('v5e_2x2', 'unet_mp_tr', 'step', batch=64), Row('v5e_4x4', 'unet_mp_tr', 'step', batch=256)]
    found += [Row('v6e_1', 'unet_mp_tr', 'step'), Row('v5e_1', 'unet_mp_tr', 'step', dtype='float32')]
    found += [
        Row(target, work, program)
        for target in ('v5e_1', 'h100_1')
        for work in WORKS
        for program in ('step', 'eval', 'predict')
    ]
    found += [Row(target, work, 'step') for target in ('v5e_2x2', 'v5e_4x4', 'v6e_1', 'h100_8') for work in WORKS]
    return list(dict.fromkeys(found))


def table(measured: dict[str, dict]) -> str:
    """The rows as Markdown, with ratios to the same network from plain layers where both are there."""
    heads = (
        'target',
        'work',
        'program',
        'layers',
        'type',
        'batch',
        'megacycles',
        'GB',
        'GFLOP',
        'memory, MiB',
        'of the device',
        'all-reduces, MiB',
        'ours / plain: cycles, GB',
        'compilation, CPU s',
    )
    lines = [f'| {" | ".join(heads)} |', '|---' * len(heads) + '|']
    for row in filter(lambda row: row.name in measured, rows()):
        values = measured[row.name]
        cells = [
            row.target,
            row.work,
            row.program,
            row.layers,
            row.dtype,
            str(batch_size(row, WORKS[row.work][0].get_config())),
        ]
        if 'error' in values:
            lines.append(f'| {" | ".join(cells)} | {values["error"]} |' + ' |' * 7)
            continue
        memory = values['temporary_mib'] + values['argument_mib']
        tpu = TARGETS[row.target].platform == 'tpu'
        cells += [f'{values[name]:.4g}' if tpu else '' for name in ('megacycles', 'gigabytes', 'gflop')]
        cells += [f'{memory:.0f}', f'{memory / 1024 / TARGETS[row.target].gib:.2f}']
        cells += [f'{values["all_reduces"]}, {values["all_reduce_mib"]:.3g}']
        plain = measured.get(row._replace(layers='plain').name)
        cells += [
            ', '.join(f'{values[name] / plain[name]:.3f}' for name in ('megacycles', 'gigabytes'))
            if tpu and plain and 'error' not in plain
            else '',
            f'{values["cpu_seconds"]:.0f}',
        ]
        lines.append(f'| {" | ".join(cells)} |')
    return '\n'.join(lines)


def batch_size(row: Row, config: ConfigDict) -> int:
    """Images of all devices together in one call."""
    configured = config.eval_batch_size if row.program in ('eval', 'predict') else config.batch_size
    return row.batch or max(configured, TARGETS[row.target].count)


def main() -> None:
    measured = json.loads(OUTPUT.read_text()) if OUTPUT.exists() else {}
    for row in [] if TABLE.value else rows():
        if row.name not in measured and ONLY.value in row.name:
            notice(f'compiling {row.name}')
            measured[row.name] = apart(measure, row)
            OUTPUT.write_text(json.dumps(measured, indent=1) + '\n')
    print(table(measured))


if __name__ == '__main__':
    sys.exit(cli.run(main, sys.argv))
