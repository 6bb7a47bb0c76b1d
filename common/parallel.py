"""The only place that knows how work is spread over devices and processes (`jax.pmap`, `jax.distributed`).

Replicated values are whole arrays that live on every device, not stacks with a device axis: a mapped function takes
and returns them with axis `None`, and the host reads them directly. Every process runs the same program on its rows of
each batch; the first one also writes the output.
"""

from collections.abc import Callable
import contextlib
import os
import pathlib
from typing import Any

import jax
from jax.experimental import multihost_utils
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec
import numpy as np

from common import cpu
from common.errors import PeerLost, UserError

AXIS = 'batch'

OWN_FAULTS = ('INVALID_ARGUMENT', 'UNIMPLEMENTED')  # Prefixes of JAX's messages.
GONE_AFTER = 30  # Seconds without a heartbeat after which a process counts as lost.


@contextlib.contextmanager
def joined(spec: str):
    """Joins the other processes of a run, before any other use of JAX, and detects when one dies.

    Args:
        spec: '' for a single process; 'auto' to read the environment of the launcher (SLURM, Open MPI,
            Kubernetes, TPU pods); or 'HOST:PORT,COUNT,ID': where process 0 listens, how many there are, which
            this one is.
    Raises:
        UserError: `spec` is none of these, the others cannot be reached, or a device has too little memory.
        PeerLost: another process of the run has died.
    """
    if spec:
        join(spec)
    check_backend()
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if str(error).startswith('RESOURCE_EXHAUSTED'):
            raise UserError(
                'the device has too little memory for this; lower batch_size or eval_batch_size, '
                'data.image_size or model.width'
            ) from error
        if jax.process_count() == 1 or str(error).startswith(OWN_FAULTS):
            raise
        raise PeerLost(
            f'another process of this run has gone ({" ".join(str(error).split())[:120]}); start them '
            f'all again to resume from the last checkpoint'
        ) from error


def check_backend() -> None:
    """Raises UserError where JAX finds no device of the kind that its environment asks for."""
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:
        asked = [name for name in ('JAX_PLATFORMS', 'JAX_PLATFORM_NAME') if os.environ.get(name)]
        said = ' '.join(str(error).split())[:150] or type(error).__name__
        variables = ' and '.join(f'{name} is {os.environ[name]!r}' for name in asked) or 'JAX_PLATFORMS is not set'
        raise UserError(
            f'JAX finds no device ({said}); {variables}: leave it out, or install JAX for that device'
        ) from error


def join(spec: str) -> None:
    """Joins the processes that `spec` names. Raises UserError if they cannot be reached."""
    address, *numbers = spec.split(',')
    try:
        count, number = map(int, numbers) if numbers else (None, None)
        jax.distributed.initialize(
            None if spec == 'auto' else address,
            count,
            number,
            heartbeat_timeout_seconds=GONE_AFTER,
            shutdown_timeout_seconds=GONE_AFTER,
        )
    except (ValueError, RuntimeError) as error:
        raise UserError(
            f'cannot join the other processes ({" ".join(str(error).split())[:200]}); give '
            '--distributed=auto under a launcher, or --distributed=HOST:PORT,COUNT,ID'
        ) from error


def is_first() -> bool:
    """Whether this process is the one that writes."""
    return jax.process_index() == 0


def largest(value: int) -> int:
    """The largest of all processes' values; all processes must call it at the same point."""
    return value if jax.process_count() == 1 else int(np.max(multihost_utils.process_allgather(np.int32(value))))


def on_first(action: Callable[[], Any]) -> Any:
    """The result of `action` on the first process, None on the others, which wait for it and fail if it fails."""
    result, failure = None, None
    try:
        result = action() if is_first() else None
    except Exception as error:  # Otherwise the other processes would wait for ever.
        failure = error
    if largest(failure is not None):
        raise failure or UserError('the first process failed; see its message')
    return result


def first_before_others(action: Callable[[], Any]) -> Any:
    """The result of `action` on each process; the others start after the first one has written its files."""
    result = on_first(action)
    return result if is_first() else action()


def run_once(function: Callable, *args):
    """The result of a pure function that runs once: on a CPU it is compiled with few optimisations."""
    return jax.jit(function, compiler_options=cpu.compiler_options())(*args)


def keep_compiled(folder: pathlib.Path) -> None:
    """Caches programs compiled for an accelerator in `folder`, unless JAX_COMPILATION_CACHE_DIR names another.

    Not on a CPU: some CPUs reject their own cached programs with pages of warnings (jax-ml/jax#38445).
    """
    if jax.default_backend() != 'cpu' and not jax.config.jax_compilation_cache_dir:  # type: ignore[attr-defined]
        jax.config.update('jax_compilation_cache_dir', str(folder))


class Devices:
    """The devices of all processes, as one axis along which batches are split."""

    def __init__(self, devices=None):
        self.devices = list(devices or jax.devices())
        self.count = len(self.devices)
        self.local_rows = [i for i, d in enumerate(self.devices) if d.process_index == jax.process_index()]
        self.replicated = NamedSharding(Mesh(np.array(self.devices), (AXIS,)), PartitionSpec())
        self.copy = jax.jit(lambda tree: jax.tree.map(jnp.copy, tree), out_shardings=self.replicated)

    def description(self) -> dict[str, Any]:
        """What and how many the devices are."""
        device = self.devices[0]
        name = cpu.name() if device.platform == 'cpu' else device.device_kind
        return {'device': name, 'devices': self.count, 'processes': jax.process_count()}

    def check_batch(self, batch_size: int) -> None:
        """Raises UserError unless the global batch divides evenly."""
        if batch_size < 1 or batch_size % self.count:
            raise UserError(
                f'batch_size {batch_size} does not divide over {self.count} devices; choose a multiple of {self.count}'
            )

    def replicate(self, tree):
        """Copies every leaf to every device.

        Always a copy, made by a compiled function: `device_put` may return one buffer for two equal leaves, and
        donating a buffer twice crashes.
        """
        return self.copy(tree)

    def placed(self, shapes):
        """The shapes of a tree of arrays, as they are on every device."""
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=self.replicated), shapes)

    def split(self, array: np.ndarray) -> np.ndarray:
        """`[..., B]` to this process's rows of `[devices, ..., B / devices]`."""
        rows = array.reshape(*array.shape[:-1], self.count, -1)
        return np.moveaxis(rows, -2, 0)[self.local_rows]

    def map(self, fn: Callable, in_axes: tuple, out_axes=None, donate: tuple = ()) -> Callable:
        """Compiles `fn` to run on all devices at once, with collectives over `AXIS`."""
        return jax.pmap(fn, AXIS, in_axes=in_axes, out_axes=out_axes, devices=self.devices, donate_argnums=donate)

    def sum(self, tree):
        """Inside a mapped function: the sum over all devices."""
        return jax.lax.psum(tree, AXIS)

    def gather(self, tree):
        """Inside a mapped function: arrays `[B / devices, ...]` of all devices as `[B, ...]`, in the batch's order."""
        return jax.lax.all_gather(tree, AXIS, tiled=True)

    def mean(self, tree):
        """Inside a mapped function: the mean over all devices."""
        return jax.lax.pmean(tree, AXIS)
