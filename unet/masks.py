"""What the values of a mask mean: class numbers or colours, and pixels to ignore."""

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from common.data.source import Fault
from common.errors import UserError

IGNORED = 255  # The label of pixels that count in no loss and no metric.
MOST_CLASSES = 254
MOST_UNNAMED = 100  # More values than this are an antialiased mask rather than classes.
COLOR = 1 << 24  # Codes of colours; 16-bit numbers are below it.


def codes(mask: np.ndarray) -> np.ndarray:
    """Numbers `[H, W, 1]` or 8-bit colours `[H, W, 3]` to int32 codes `[H, W]`; a grey colour is its number."""
    if mask.shape[-1] == 1:
        return mask[..., 0].astype(np.int32)
    red, green, blue = np.moveaxis(mask.astype(np.int32), -1, 0)
    return np.where((red == green) & (green == blue), red, COLOR | red << 16 | green << 8 | blue)


def name_of(code: int) -> str:
    """A code as configurations have it: '7', or '#ff0000'."""
    return str(code) if code < COLOR else f'#{code - COLOR:06x}'


def code_of(value: str) -> int:
    """The code of '7' or '#ff0000'. Raises UserError for anything else."""
    try:
        if value.startswith('#') and len(value) == 7:
            color = np.frombuffer(bytes.fromhex(value[1:]), np.uint8)
            return int(codes(color.reshape(1, 1, 3))[0, 0])
        if 0 <= int(value) < 2**16:
            return int(value)
    except ValueError:
        pass
    raise UserError(f'{value!r} is no value of a mask; write a number, 7, or a colour, #ff0000')


def to_labels(codes: np.ndarray, values: Sequence[str], ignored: Sequence[str]) -> np.ndarray:
    """Codes `[H, W]` to class numbers, uint8, in the order of `values`; `IGNORED` for `ignored` ones.

    Raises:
        Fault: there are other values.
    """
    known = np.array([*map(code_of, values), *map(code_of, ignored)])
    numbers = np.array([*range(len(values)), *[IGNORED] * len(ignored)], np.uint8)
    order = np.argsort(known)
    position = order[np.searchsorted(known, codes, sorter=order).clip(max=len(known) - 1)]
    wrong = known[position] != codes
    if wrong.any():
        others = [name_of(code) for code in np.unique(codes[wrong])]
        shown = ', '.join(others[:8]) + (', …' if len(others) > 8 else '')
        raise Fault(
            f'its mask has the values {shown}, which are no class (data.mask_values: {", ".join(values)}; '
            f'data.ignore_values: {", ".join(ignored) or "none"}); configs/unet_folder.py takes classes from the data'
        )
    return numbers[position]


def count(codes: np.ndarray) -> Counter[int]:
    """The pixels of each code."""
    if codes.max(initial=0) < 2**16:
        counts = np.bincount(codes.ravel())
        return Counter({int(code): int(counts[code]) for code in np.flatnonzero(counts)})
    found, counts = np.unique(codes, return_counts=True)
    return Counter(dict(zip(found.tolist(), counts.tolist(), strict=True)))


def classes_in(found: Iterable[int], ignored: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The values of classes and those to ignore, where masks hold the codes `found`.

    Where all are numbers, 255 is ignored beside two other values or more, unless `ignored` says what is.

    Raises:
        UserError: the values cannot be classes.
    """
    names = [name_of(code) for code in sorted(found)]
    numbers = not any(name.startswith('#') for name in names)
    left_out = tuple(ignored) or (('255',) if numbers and '255' in names and len(names) > 2 else ())
    values = tuple(name for name in names if name not in left_out)
    if len(values) < 2:
        raise UserError(
            f'the masks hold {len(values)} values beside those to ignore ({", ".join(names)}); two classes '
            'or more are needed'
        )
    if len(values) > MOST_UNNAMED:
        raise UserError(
            f'the masks hold {len(values)} values; masks that were saved as JPEG or antialiased have many '
            'that are no classes. Save them as PNG with one value for each class, or name the values in '
            'classes.json'
        )
    return values, left_out


def class_names(values: Sequence[str]) -> tuple[str, ...]:
    """Names of classes that nothing names: those of their values; 'background' and 'foreground' for 0 and another."""
    return ('background', 'foreground') if len(values) == 2 and values[0] == '0' else tuple(values)
