"""How fast photographs of full size become arrays, beside what the cores allow."""

from collections.abc import Callable
import statistics
import tempfile
import time
from typing import Any

COUNT, WIDTH, HEIGHT, TARGET = 256, 500, 375, 240  # Of photographs, their pixels, and those of the model.


def measure(device: str, rounds: int, seconds: float, quick: bool) -> dict[str, Any]:
    """Images a second as the product decodes them, and by one thread alone.

    The photographs are drawn pets of the size of Oxford-IIIT Pet's, stored and read through TFDS like those; every
    round takes as long as `count` of them take, whatever `seconds` says.
    """
    from common import data  # Imports JAX, which the other works need only in their sides' processes.
    from unet.task import decode_example
    count = 8 if quick else COUNT

    def decode(example):
        return decode_example(example, TARGET)

    together, alone = [], []
    with tempfile.TemporaryDirectory() as folder:
        source = photographs(folder, count)
        for _ in range(rounds):
            together.append(count / elapsed(lambda: data.decode_all(source, decode)))
            alone.append(count / elapsed(lambda: [decode(data.read_example(source, i)) for i in range(count)]))
    ratios = [many / one for many, one in zip(together, alone, strict=True)]
    return {'work': f'decode_{WIDTH}x{HEIGHT}_to_{TARGET}', 'device': device, 'dtype': 'uint8',
            'all_cores': statistics.median(together), 'one_thread': statistics.median(alone),
            'ratio': statistics.median(ratios), 'ratio_range': [min(ratios), max(ratios)]}


def photographs(folder: str, count: int):
    """Prepares drawn pets of full size in `folder`; the examples, read one by one."""
    import tensorflow_datasets as tfds

    from unet import synthetic

    class LargePets(synthetic.SyntheticPets):
        """Synthetic pets, large."""

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


def elapsed(work: Callable[[], object]) -> float:
    """Seconds that `work` takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
