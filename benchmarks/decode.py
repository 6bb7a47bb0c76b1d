"""The speed of decoding photographs of full size, with all cores and with one thread."""

import statistics
import tempfile
import time
from typing import Any

from benchmarks.compare import commit
from benchmarks.measure import cpu_name

COUNT, WIDTH, HEIGHT, TARGET = 256, 500, 375, 240  # Photographs, their size, and the size of the model.


def measure(rounds: int, quick: bool) -> dict[str, Any]:
    """Images a second, decoded with all cores as in training, and with one thread.

    The photographs are synthetic pets of the size of those in Oxford-IIIT Pet, also stored and read through TFDS.
    """
    from common import data  # Imports JAX, which other works import only in the processes of their sides.
    from unet.task import decode_example
    count = 8 if quick else COUNT

    def decode(example):
        return decode_example(example, TARGET)

    rates = {None: [], 1: []}  # By number of threads; None for one per core.
    with tempfile.TemporaryDirectory() as folder:
        source = photographs(folder, count)
        for turn in range(rounds):
            for threads in list(rates)[::-1 if turn % 2 else 1]:
                start = time.perf_counter()
                data.decode_all(source, decode, threads)
                rates[threads].append(count / (time.perf_counter() - start))
    ratios = [many / one for many, one in zip(*rates.values(), strict=True)]
    return {'work': f'decode_{WIDTH}x{HEIGHT}_to_{TARGET}', 'device': cpu_name(), 'dtype': 'uint8',
            'versions': {'commit': commit()},
            'all_cores': statistics.median(rates[None]), 'one_thread': statistics.median(rates[1]),
            'ratio': statistics.median(ratios), 'ratio_range': [min(ratios), max(ratios)]}


def photographs(folder: str, count: int):
    """Prepares synthetic pets of full size in `folder`; returns a data source of their examples."""
    from unet import synthetic

    class LargePets(synthetic.SyntheticPets, skip_registration=True):
        """Large synthetic pets."""

        def _split_generators(self, dl_manager):
            return {'test': self._generate_examples('test')}

        def _generate_examples(self, split):
            for index in range(count):
                image, mask, breed = synthetic.example(synthetic.SEED, split, index, WIDTH)
                yield index, {'image': image[:HEIGHT], 'segmentation_mask': mask[:HEIGHT, :, None], 'label': breed,
                              'file_name': f'{index}.jpg', 'species': 0}

    builder = LargePets(data_dir=folder, file_format='array_record')
    builder.download_and_prepare(file_format='array_record')
    return builder.as_data_source(split='test')
