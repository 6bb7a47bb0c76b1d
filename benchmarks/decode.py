"""The speed of decoding photographs of full size, with all cores and with one thread."""

import pathlib
import statistics
import tempfile
import time
from typing import Any

from PIL import Image

from benchmarks.compare import commit
from common import cpu

COUNT, WIDTH, HEIGHT, TARGET = 256, 500, 375, 240  # Photographs, their size, and the size of the model.


def measure(rounds: int, quick: bool) -> dict[str, Any]:
    """Images per second, decoded with all cores as in training, and with one thread.

    The photographs are synthetic pets of the size of those in Oxford-IIIT Pet, read from a folder of JPEG files.
    """
    from common.data import source  # Imports JAX, which other works import only in the processes of their sides.
    from unet import data

    count = 8 if quick else COUNT
    rates = {None: [], 1: []}  # By number of threads; None for one per core.
    with tempfile.TemporaryDirectory() as folder:
        config = photographs(pathlib.Path(folder), count)
        photos, decode = data.find(config).split('test', 0), data.decoder(config)
        for turn in range(rounds):
            for threads in list(rates)[:: -1 if turn % 2 else 1]:
                start = time.perf_counter()
                source.decode_all(photos, decode, threads)
                rates[threads].append(count / (time.perf_counter() - start))
    ratios = [many / one for many, one in zip(*rates.values(), strict=True)]
    return {
        'work': f'decode_{WIDTH}x{HEIGHT}_to_{TARGET}',
        'device': cpu.name(),
        'dtype': 'uint8',
        'versions': {'commit': commit()},
        'all_cores': statistics.median(rates[None]),
        'one_thread': statistics.median(rates[1]),
        'ratio': statistics.median(ratios),
        'ratio_range': [min(ratios), max(ratios)],
    }


def photographs(folder: pathlib.Path, count: int):
    """Draws pets of full size into `folder`; the `data` section that reads them, all as the test split."""
    from configs import unet_folder
    from unet import synthetic

    for kind in ('images', 'masks'):
        (folder / kind).mkdir()
    for index in range(count):
        image, mask, _ = synthetic.example(synthetic.SEED, 'test', index, WIDTH)
        Image.fromarray(image[:HEIGHT]).save(folder / 'images' / f'{index}.jpg', quality=95)
        Image.fromarray(mask[:HEIGHT]).save(folder / 'masks' / f'{index}.png')
    config = unet_folder.get_config().data
    config.update({'dir': str(folder), 'test_share': 1.0, 'image_size': TARGET, 'mask_values': ('1', '2', '3')})
    return config
