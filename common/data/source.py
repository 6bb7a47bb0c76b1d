"""A data set as tasks see it, wherever it comes from: splits of examples that are read one by one, then decoded."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
import dataclasses
import functools
import os
from typing import Any

import numpy as np

from common.data import cache
from common.errors import UserError


class Fault(Exception):
    """What is wrong with one example, in one line; the caller adds which example it is."""


@dataclasses.dataclass(frozen=True)
class Source:
    """The examples of one split, undecoded.

    Attributes:
        title: the name of the data set and the split, for messages.
        examples: dictionaries with `image`, uint8 `[H, W, C]`, and what else the task needs; read when indexed.
        identity: all that the examples depend on; a decoded copy is used as long as it is equal.
        names: the names of the examples, where they are known without reading.
    """

    title: str
    examples: Sequence[dict[str, Any]]
    identity: Hashable
    names: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.examples)

    def read(self, index: int) -> dict[str, Any]:
        """An example. Raises Fault where it cannot be read."""
        try:
            return self.examples[index]
        except Fault:
            raise
        except Exception as error:  # Whatever TFDS and Pillow raise on damaged files.
            raise Fault(f'it cannot be read ({type(error).__name__}: {error})') from error

    def which(self, index: int, example: dict[str, Any] | None = None) -> str:
        """The example in words, for messages."""
        name = self.names[index] if self.names else name_of(example or {})
        return f'example {index} of {self.title}{name and f", {name}"}'


@dataclasses.dataclass(frozen=True)
class DataSet:
    """A data set as it is stored.

    Attributes:
        title: its name, for messages.
        parts: the stored splits, of 'train' and 'test' those that there are.
        labels: the names of the labels, in the order of their numbers; () where it has none.
        problems: what is wrong beside the examples, in lines that name a file each.
        channels: of the images, 1 or 3.
    """

    title: str
    parts: dict[str, Source]
    labels: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    channels: int = 3

    def split(self, split: str, validation_examples: int) -> Source:
        """The examples of 'train', 'test' or 'validation': the last `validation_examples` of the stored training split.

        Raises:
            UserError: there are none, or the data set has problems.
        """
        if self.problems:
            more = f'; and {len(self.problems) - 1} more' if len(self.problems) > 1 else ''
            raise UserError(f'{self.title}: {self.problems[0]}{more}; --mode=data lists all that is wrong')
        stored = self.parts.get('test' if split == 'test' else 'train')
        size = len(stored) if stored else 0
        border = size - validation_examples
        start, stop = {'test': (0, size), 'train': (0, border), 'validation': (max(border, 0), size)}[split]
        if stored is None or stop <= start or not border and split != 'test':
            raise UserError(
                f'{self.title} has no examples in split {split!r} (it has '
                f'{", ".join(f"{len(part)} in {name!r}" for name, part in self.parts.items()) or "none"}); '
                'check data.dir, data.test_share and data.validation_examples'
            )
        return dataclasses.replace(
            stored,
            title=f'{self.title} ({split})',
            examples=Slice(stored.examples, range(start, stop)),
            identity=(stored.identity, start, stop),
            names=stored.names[start:stop],
        )


class Slice(Sequence):
    """Some of the examples of a sequence, read when indexed."""

    def __init__(self, examples: Sequence[dict[str, Any]], indices: Sequence[int]):
        self.examples, self.indices = examples, indices

    def __len__(self):
        return len(self.indices)

    def __getitem__(self, index):
        return self.examples[self.indices[index]]


class Drawn(Sequence):
    """Examples that a function draws from their index."""

    def __init__(self, draw: Callable[[int], dict[str, Any]], count: int):
        self.draw, self.length = draw, count

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        return self.draw(index)


def find(
    config: Any, features: Mapping[str, tuple[int, ...]], drawn: dict[str, DataSet], folder: Callable[[Any], DataSet]
) -> DataSet:
    """The data set that `data.name` says: 'folder', a drawn one, or one of TFDS.

    Args:
        config: the `data` section.
        features: those that the task reads from TFDS, with the last axes that their shapes may have.
        drawn: the task's drawn data sets, by name.
        folder: reads the task's kind of folder.
    Raises:
        UserError: the data set is not there and cannot be had, or is of another kind.
    """
    if config.name == 'folder':
        return folder(config)
    if config.name in drawn:
        return drawn[config.name]
    from common.data import prepared  # TFDS takes a second, and is needed for nothing else.

    return prepared.find(config, features)


def load(source: Source, decode: functools.partial, config: Any, split: str) -> dict[str, np.ndarray]:
    """All examples of a split, decoded and stacked along a new first axis; a copy is kept on disk.

    Args:
        decode: an example to a dictionary of arrays; raises Fault. The function and its arguments name the copy.
        config: the `data` section. split: names the copy for people.
    Raises:
        UserError: an example is not as it must be.
    """
    identity = (decode.func.__module__, decode.func.__qualname__, sorted(decode.keywords.items()), source.identity)
    path = cache.path(f'{config.name}-{split}-{config.image_size}', identity)
    arrays = cache.read(path)
    if arrays is None:
        arrays = decode_all(source, decode)
        cache.write(path, arrays)
    return arrays


def decode_all(
    source: Source, decode: Callable[[dict[str, Any]], dict[str, np.ndarray]], threads: int | None = None
) -> dict[str, np.ndarray]:
    """Decodes in threads (Pillow works outside the interpreter's lock), by default one a core, and stacks.

    Raises:
        UserError: an example is not as it must be.
    """
    with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        examples = list(pool.map(functools.partial(decode_one, source, decode), range(len(source))))
    return {name: np.stack([example[name] for example in examples]) for name in examples[0]}


def decode_one(source: Source, decode: Callable, index: int) -> dict[str, np.ndarray]:
    """Raises UserError where the example is not as it must be."""
    example = None
    try:
        example = source.read(index)
        return decode(example)
    except Fault as fault:
        raise UserError(
            f'{source.which(index, example)}: {fault}; mend or remove it; --mode=data lists all that is wrong'
        ) from fault


def name_of(example: dict[str, Any]) -> str:
    """The name that a TFDS example carries; '' for none."""
    name = example.get('file_name', example.get('id', b''))
    return name.decode() if isinstance(name, bytes) else str(name)
