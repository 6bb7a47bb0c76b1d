"""The only source of randomness: keys that depend only on seed, stream, step and example."""

from functools import partial
from typing import NamedTuple
import zlib

import jax


class Keys(NamedTuple):
    """The random streams of one step. No key is carried from step to step, so checkpoints store none.

    Attributes:
        root: key of the run, `jax.random.key(seed)`.
        step: scalar; evaluation uses 0, so that its noise depends only on the example.
    """

    root: jax.Array
    step: jax.Array | int

    def stream(self, name: str) -> jax.Array:
        """The key of the stream `name` at this step."""
        return jax.random.fold_in(jax.random.fold_in(self.root, zlib.crc32(name.encode())), self.step)

    def per_example(self, name: str, index: jax.Array) -> jax.Array:
        """Keys `[B]`, one for each example index `[B]`, independent of how the batch is split."""
        return jax.vmap(partial(jax.random.fold_in, self.stream(name)))(index)
