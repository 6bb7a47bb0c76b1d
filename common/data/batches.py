"""The order in which a run reads its examples, and batches of them."""

from collections.abc import Iterator
import functools
from typing import Any
import zlib

import jax
import numpy as np

from common.parallel import Devices

DEVICE_SHARE = 0.3  # The share of an accelerator's memory that a split may take.


def total_steps(config, size: int) -> int:
    """The optimizer's steps of a whole run on `size` training examples."""
    return config.num_epochs * size // config.batch_size


@functools.lru_cache(maxsize=2)  # A step needs one epoch's, or two.
def epoch_order(seed: int, epoch: int, size: int) -> np.ndarray:
    """The permutation `[size]` of the training examples in one epoch."""
    order = np.random.default_rng((seed, epoch)).permutation(size)
    order.setflags(write=False)
    return order


def batch_indices(seed: int, step: int, batch_size: int, size: int) -> np.ndarray:
    """The examples `[batch_size]` of a training step: a pure function of seed and step.

    Epochs follow each other without a gap, so every example is seen equally often whatever the batch size.
    """
    positions = np.arange(step * batch_size, (step + 1) * batch_size)
    epochs = positions // size
    return np.concatenate(
        [epoch_order(seed, int(epoch), size)[positions[epochs == epoch] % size] for epoch in np.unique(epochs)]
    )


def padded_batches(size: int, batch_size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Indices and validity `[batch_size]` that cover `size` examples exactly once."""
    for start in range(0, size, batch_size):
        index = np.arange(start, start + batch_size)
        yield np.minimum(index, size - 1), index < size


class Feed:
    """Hands out batches by index: gathered on the devices where the arrays fit there, else on the host."""

    def __init__(self, arrays: dict[str, np.ndarray], devices: Devices):
        self.devices = devices
        self.arrays: dict[str, Any] = arrays
        self.size, self.checksum = len(next(iter(arrays.values()))), checksum(arrays)
        self.resident = fits(arrays, devices)
        if self.resident:
            self.arrays = devices.replicate(arrays)
            self.gather = devices.map(gather, in_axes=(None, 0), out_axes=0)

    def __call__(self, index: np.ndarray) -> dict[str, Any]:
        """Indices `[..., B]` to arrays `[devices, ..., B / devices, ...]` of this process, with `index`."""
        rows = self.devices.split(index)
        batch = self.gather(self.arrays, rows) if self.resident else gather(self.arrays, rows)
        return {**batch, 'index': rows}

    def take(self, index: np.ndarray) -> dict[str, np.ndarray]:
        """The examples at indices `[N]` on this host, with `index`."""
        arrays = {name: array.addressable_data(0) if self.resident else array for name, array in self.arrays.items()}
        return {**jax.tree.map(np.asarray, gather(arrays, index)), 'index': index}


def checksum(arrays: dict[str, np.ndarray]) -> str:
    """CRC-32 of the arrays in the order of their names, as eight hexadecimal digits."""
    value = 0
    for name in sorted(arrays):
        value = zlib.crc32(np.ascontiguousarray(arrays[name]).data, value)
    return f'{value:08x}'


def gather(arrays, rows):
    return {name: array[rows] for name, array in arrays.items()}


def fits(arrays: dict[str, np.ndarray], devices: Devices) -> bool:
    """Whether the arrays take at most `DEVICE_SHARE` of a device's memory, where it tells its size."""
    stats = devices.devices[devices.local_rows[0]].memory_stats()
    needed = sum(array.nbytes for array in arrays.values())
    return not stats or needed < DEVICE_SHARE * stats.get('bytes_limit', float('inf'))
