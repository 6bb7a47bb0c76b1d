"""The only source of randomness: keys that depend on (seed, stream, step, example) and nothing else."""

from functools import partial
from typing import NamedTuple
import zlib

import jax


class Keys(NamedTuple):
    """The random streams of one step. Never split or carried, so resuming needs no stored key.

    Attributes:
        root: key of the run, `jax.random.key(seed)`.
        step: scalar; evaluation uses 0, so that noise there depends on the example alone.
    """

    root: jax.Array
    step: jax.Array | int

    def stream(self, name: str) -> jax.Array:
        """The key of the stream `name` at this step."""
        return jax.random.fold_in(jax.random.fold_in(self.root, zlib.crc32(name.encode())), self.step)

    def per_example(self, name: str, index: jax.Array) -> jax.Array:
        """Keys `[B]`, one for each example index `[B]`: the same however the batch is split."""
        return jax.vmap(partial(jax.random.fold_in, self.stream(name)))(index)
