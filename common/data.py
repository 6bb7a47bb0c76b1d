"""Data sets as arrays in memory, and the order in which a run reads them."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
import functools
import hashlib
import os
import pathlib
from typing import Any
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image
import tensorflow_datasets as tfds
from tensorflow_datasets.core.download import downloader

from common.errors import UserError, notice
from common.parallel import Devices

CACHE_FORMAT = 1  # Raise it when decoding changes, so that old caches are left aside.
DEVICE_SHARE = 0.3  # Of an accelerator's memory that a split may take.


def load(config, split: str, decode: Callable[[dict, int], dict[str, np.ndarray]],
         features: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Reads a whole split, prepares it first where that was never done, and keeps a decoded copy on disk.

    Args:
        config: the `data` section: `name`, `dir`, `manual_dir`, `image_size`, `validation_examples`.
        split: 'train', 'validation' (the last `validation_examples` of the training split) or 'test'.
        decode: one TFDS example and the image size to a dictionary of arrays.
        features: those that `decode` reads, with the last axis of their shapes, e.g. `{'image': (3,)}`.
    Returns:
        The decoded examples, stacked along a new first axis, in the data set's own order.
    Raises:
        UserError: the data set is not there and cannot be had, has no examples, or is of another kind.
    """
    builder = prepared_builder(config)
    found = {name: feature.shape[-1:] for name, feature in builder.info.features.items() if name in features}
    if found != features:
        raise UserError(f'{config.name} has other features than this task reads: {found}, not {features}; '
                        'choose another data.name or --config')
    source = open_split(builder, tfds_split(config, split))
    cache = cache_path(builder, config, split, decode)
    try:
        with cache.open('rb') as file, np.load(file) as arrays:
            return dict(arrays)
    except FileNotFoundError:
        pass
    except (zipfile.BadZipFile, ValueError, OSError, EOFError) as error:
        notice(f'decoding {config.name} again: the copy in {cache} cannot be read ({error})')
    arrays = decode_all(source, lambda example: decode(example, config.image_size))
    save_cache(cache, arrays)
    return arrays


def open_split(builder: tfds.core.DatasetBuilder, split: str):
    """The examples of a split, read one by one. Raises UserError where there are none."""
    problem = 'it is empty'
    try:
        source = builder.as_data_source(split=split)
        if len(source):
            return source
    except ValueError as error:  # An unknown split, or as many validation examples as there are.
        problem = str(error)
    raise UserError(f'{builder.name} has no examples in split {split!r} ({problem}); check data.dir and '
                    'data.validation_examples')


def tfds_split(config, split: str) -> str:
    """The TFDS name of one of our splits."""
    held_out = config.validation_examples
    if split == 'test' or not held_out:
        return split
    return {'train': f'train[:-{held_out}]', 'validation': f'train[-{held_out}:]'}[split]


def prepared_builder(config) -> tfds.core.DatasetBuilder:
    """The TFDS builder, with its data on disk. Raises UserError where they cannot be had."""
    advice = ('set data.dir to a TFDS folder that holds it, data.manual_dir to a folder with its original '
              'archives, or try it with embedded data: --config=<config file>:demo')
    try:
        builder = tfds.builder(config.name, data_dir=config.dir or None, file_format='array_record')
    except tfds.core.DatasetNotFoundError as error:
        raise UserError(f'TFDS knows no data set {config.name!r}; {advice}') from error
    except ValueError as error:
        reason = ' '.join(str(error).split())[:150]
        raise UserError(f'{config.name} in {config.dir or "the TFDS folder"} cannot be opened as array_record '
                        f'({reason}); set data.dir to an empty folder to prepare it anew') from error
    if builder.is_prepared():
        return builder
    if config.manual_dir and not tfds.core.Path(config.manual_dir).is_dir():
        raise UserError(f'data.manual_dir is {config.manual_dir!r}, which is no folder; {advice}')
    notice(f'preparing {config.name} in {builder.data_path}; this is done once')
    downloader.MAX_RETRIES = 6  # Where no host has an address, 13 seconds in place of 200.
    download = tfds.download.DownloadConfig(manual_dir=config.manual_dir or None)
    try:
        builder.download_and_prepare(download_config=download, file_format='array_record')
    except ImportError as error:
        raise UserError(f'preparing {config.name} needs TensorFlow ({error}): pip install tensorflow-cpu; '
                        f'or {advice}') from error
    except Exception as error:  # TFDS lets through whatever its downloader and the file system raise.
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f'{config.name} is not in {builder.data_path} and could not be prepared '
                        f'({reason[:200]}); {advice}') from error
    return builder


def decode_all(source, decode: Callable[[dict], dict[str, np.ndarray]],
               threads: int | None = None) -> dict[str, np.ndarray]:
    """Decodes in threads (Pillow works outside the interpreter's lock), by default one a core, and stacks."""
    with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        examples = list(pool.map(lambda i: decode(read_example(source, i)), range(len(source))))
    return {name: np.stack([example[name] for example in examples]) for name in examples[0]}


def read_example(source, index: int) -> dict[str, Any]:
    """Raises UserError where the stored example cannot be read or decoded."""
    try:
        return source[index]
    except Exception as error:
        raise UserError(f'example {index} of {source.dataset_info.full_name} cannot be read '
                        f'({type(error).__name__}: {error}); prepare the data set again') from error


def name_of(example: dict[str, Any]) -> str:
    """What to call an example in a message."""
    name = example.get('file_name', example.get('id', b'an example without a name'))
    return name.decode() if isinstance(name, bytes) else str(name)


def cache_path(builder: tfds.core.DatasetBuilder, config, split: str, decode: Callable) -> pathlib.Path:
    """Where the decoded split is kept, by everything it depends on."""
    files = sorted((file.name, file.stat().st_size, file.stat().st_mtime_ns)
                   for file in os.scandir(builder.data_path))
    identity = (CACHE_FORMAT, decode.__module__, decode.__qualname__, str(builder.data_path), files)
    digest = hashlib.sha256(repr(identity).encode()).hexdigest()[:12]
    name = f'{config.name}-{tfds_split(config, split)}-{config.image_size}-{digest}.npz'
    return cache_folder() / name.replace('/', '_')


def cache_folder() -> pathlib.Path:
    """What later starts find again is kept below `$XDG_CACHE_HOME` or `~/.cache`."""
    return pathlib.Path(os.environ.get('XDG_CACHE_HOME') or pathlib.Path.home() / '.cache') / 'unet_vae_jax'


def save_cache(path: pathlib.Path, arrays: dict[str, np.ndarray]) -> None:
    """Writes atomically; a full or read-only disk costs the copy, not the run."""
    partial = path.with_suffix(f'.{os.getpid()}.tmp')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open('wb') as file:
            np.savez(file, **arrays)
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        notice(f'the decoded copy of the data was not kept: {error}')


def resize_image(image: np.ndarray, size: int) -> np.ndarray:
    """uint8 `[H, W, C]`, C 1 or 3, to `[size, size, C]`, antialiased, whatever the aspect."""
    if image.shape[:2] == (size, size):
        return image
    shrinks = min(image.shape[:2]) >= size
    picture = Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image)
    resized = picture.resize((size, size), Image.Resampling.BOX if shrinks else Image.Resampling.BILINEAR)
    return np.asarray(resized).reshape(size, size, -1)


def resize_labels(labels: np.ndarray, size: int) -> np.ndarray:
    """uint8 `[H, W]` to `[size, size]`, nearest neighbour: no new value appears."""
    return np.asarray(Image.fromarray(labels).resize((size, size), Image.Resampling.NEAREST))


def check_standardization(config) -> None:
    """Raises UserError unless `mean` and `std` of a `data` section have a value for each channel, std above 0."""
    if not len(config.mean) == len(config.std) > 0 or min(config.std) <= 0:
        raise UserError('data.mean and data.std need a value for each channel, those of std above 0')


def standardize(images: jax.Array, config) -> jax.Array:
    """Images `[..., C]` in `[0, 1]` to about zero mean and unit variance, by `mean` and `std` of a `data` section."""
    def channelwise(values):
        return jnp.asarray(values, images.dtype).reshape((1,) * (images.ndim - 1) + (-1,))

    return (images - channelwise(config.mean)) / channelwise(config.std)


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
    return np.concatenate([epoch_order(seed, int(epoch), size)[positions[epochs == epoch] % size]
                           for epoch in np.unique(epochs)])


def padded_batches(size: int, batch_size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Indices and validity `[batch_size]` that cover `size` examples exactly once."""
    for start in range(0, size, batch_size):
        index = np.arange(start, start + batch_size)
        yield np.minimum(index, size - 1), index < size


class Feed:
    """Hands out batches by index: gathered on the devices where the arrays fit there, else on the host."""

    def __init__(self, arrays: dict[str, np.ndarray], devices: Devices):
        self.devices, self.arrays = devices, arrays
        self.size = len(next(iter(arrays.values())))
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


def gather(arrays, rows):
    return {name: array[rows] for name, array in arrays.items()}


def fits(arrays: dict[str, np.ndarray], devices: Devices) -> bool:
    """Whether the arrays take at most `DEVICE_SHARE` of a device's memory, where it tells its size."""
    stats = devices.devices[devices.local_rows[0]].memory_stats()
    needed = sum(array.nbytes for array in arrays.values())
    return not stats or needed < DEVICE_SHARE * stats.get('bytes_limit', float('inf'))
