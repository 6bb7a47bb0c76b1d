"""A page about a data set before anything is trained: what is in it, and what is wrong, each file named."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
import dataclasses
import functools
import hashlib
import os
import pathlib
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from common.config import filled
from common.data.source import DataSet, Fault, Source
from common.errors import UserError
from common.report import page
from common.report.figures import figure_to_image, subplots
from common.report.report import writable
from common.task import Picture, Task

EXAMPLES, TILE = 12, 160  # Shown, and their largest side in pixels.
FEW = 10  # Examples of a class that are too few.
MOST_LINES = 200  # The longest list of faults.


class Look(NamedTuple):
    """What was seen of one example.

    Attributes:
        which: the example in words. fault: why it cannot be used, '' where it can. notes: what was assumed.
        size: (width, height). pixels: the counts of the values 0 to 255 of each channel, `[C, 256]`.
        digest: of the picture. contents: see `Task.contents`.
    """

    which: str
    fault: str = ''
    notes: tuple[str, ...] = ()
    size: tuple[int, int] = (0, 0)
    pixels: np.ndarray = np.zeros((0, 256), int)
    digest: str = ''
    contents: Counter[str] = Counter()


def write(task: Task, output: pathlib.Path) -> tuple[pathlib.Path, int]:
    """Writes data.html, data.md and a figure into `output`; returns the path of the first and the number of faults.

    Raises:
        UserError: there is no data set, or `output` cannot be written.
    """
    data_set = task.data_set()
    with writable(output):  # Before the work.
        (output / 'figures').mkdir(parents=True, exist_ok=True)
    looks = {name: look_at(task, part) for name, part in data_set.parts.items()}
    meaning, refused = {}, ''
    try:
        task = dataclasses.replace(task, config=filled(task.config, task.open_values()))
        meaning = task.meaning
    except UserError as error:
        refused = str(error)
    wrong = [*data_set.problems, *faults(looks, meaning, in_both(looks))]
    if refused and not wrong:
        wrong = [refused]
    lines = [f'# {page.escape(data_set.title)}', '', f'For {task.title}. {len(wrong)} faults.']
    lines += ['', '## What is wrong', '', *listed(wrong, 'Nothing.')]
    lines += ['', '## What is in it', *splits(looks), *classes(looks, meaning)]
    lines += ['', '## What was assumed', '', *listed(assumed(looks), 'Nothing.')]
    with writable(output):
        images = dict[str, np.ndarray]()
        if meaning:
            shown, images = page.show(examples(task, data_set), 'data', images)
            lines += ['', '## Examples', *shown]
        return page.write(output, 'data', lines, images), len(wrong)


def look_at(task: Task, part: Source) -> list[Look]:
    """What is seen of each example of a part."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(functools.partial(look_at_one, task, part), range(len(part))))


def look_at_one(task: Task, part: Source, index: int) -> Look:
    example: dict[str, Any] = {}
    try:
        example = part.read(index)
        image, contents = example['image'], task.contents(example)
    except Fault as fault:
        return Look(part.which(index, example), fault=str(fault))
    channels = np.stack([np.bincount(channel.ravel(), minlength=256) for channel in np.moveaxis(image, -1, 0)])
    digest = hashlib.sha256(repr(image.shape).encode() + np.ascontiguousarray(image).tobytes()).hexdigest()
    return Look(
        part.which(index, example),
        '',
        tuple(example.get('notes', ())),
        (image.shape[1], image.shape[0]),
        channels,
        digest,
        contents,
    )


def in_both(looks: dict[str, list[Look]]) -> list[str]:
    """Pictures of the test part that are in the training part, too."""
    trained = {look.digest: look.which for look in looks.get('train', []) if look.digest}
    return [
        f'{look.which}: the same picture is {trained[look.digest]}'
        for look in looks.get('test', [])
        if look.digest in trained
    ]


def faults(looks: dict[str, list[Look]], meaning: dict[str, str], more: list[str]) -> list[str]:
    """All that is wrong with examples, and classes with few of them; `meaning` is {} where classes are not known."""
    found = [f'{look.which}: {look.fault}' for part in looks.values() for look in part if look.fault]
    for part in looks.values() if meaning else ():
        for look in part:
            unknown = sorted(value for value in look.contents if value not in meaning)
            if unknown:
                found.append(f'{look.which}: {", ".join(unknown[:8])}{", …" if len(unknown) > 8 else ""} is no class')
    have = Counter(meaning[value] for look in looks.get('train', []) for value in set(look.contents) & set(meaning))
    few = [
        f'class {name}: {have[name]} training examples have it, fewer than {FEW}'
        for name in dict.fromkeys(meaning.values())
        if name and have[name] < FEW
    ]
    empty = [f'there is no example in {name!r}' for name in ('train', 'test') if not looks.get(name)]
    return [*found, *more, *few, *empty]


def assumed(looks: dict[str, list[Look]]) -> list[str]:
    return [f'{look.which}: {note}' for part in looks.values() for look in part for note in look.notes]


def listed(texts: list[str], otherwise: str) -> list[str]:
    """A Markdown list, cut where it is long."""
    lines = [f'* {page.escape(printable(text))}' for text in texts[:MOST_LINES]] or [otherwise]
    return lines + ([f'* … and {len(texts) - MOST_LINES} more'] if len(texts) > MOST_LINES else [])


def printable(text: str) -> str:
    """Text without what UTF-8 cannot hold: names of files may hold any bytes."""
    return text.encode(errors='replace').decode()


def splits(looks: dict[str, list[Look]]) -> list[str]:
    """A row for each part: how many examples, sizes, aspects, mean and deviation."""
    rows = []
    for name, part in looks.items():
        good = [look for look in part if look.digest]
        if not good:
            rows.append((name, len(part), *'–––––'))
            continue
        widths, heights = np.array([look.size for look in good]).T
        aspects = widths / heights
        counts = sum_of([look.pixels for look in good])
        total, values = counts.sum(1), np.arange(256) / 255
        mean = counts @ values / total
        deviation = np.sqrt(np.maximum(counts @ values**2 / total - mean**2, 0))
        rows.append(
            (
                name,
                len(part),
                *(f'{int(x.min())}, {int(np.median(x))}, {int(x.max())}' for x in (widths, heights)),
                f'{aspects.min():.2f}, {np.median(aspects):.2f}, {aspects.max():.2f}',
                ', '.join(f'{x:.4f}' for x in mean),
                ', '.join(f'{x:.4f}' for x in deviation),
            )
        )
    return [
        '',
        'Least, median and largest values; mean and deviation of each channel, pixels in 0 to 1.',
        *page.table(('part', 'examples', 'width', 'height', 'width / height', 'mean', 'deviation'), rows),
    ]


def sum_of(pixels: list[np.ndarray]) -> np.ndarray:
    """Summed counts; grey pictures among coloured ones count for each colour."""
    channels = max(len(counts) for counts in pixels)
    return sum((np.broadcast_to(counts, (channels, 256)) for counts in pixels), np.zeros((channels, 256), np.int64))


def classes(looks: dict[str, list[Look]], meaning: dict[str, str]) -> list[str]:
    """A row for each class: its value, its share, and how many examples have it, in each part."""
    values = [*meaning] or sorted({value for part in looks.values() for look in part for value in look.contents})
    sums = {name: sum((look.contents for look in part), Counter()) for name, part in looks.items()}
    rows = []
    for value in values:
        cells = []
        for name, part in looks.items():
            share = sums[name][value] / max(sum(sums[name].values()), 1)
            cells += [f'{share:.2%}', sum(value in look.contents for look in part)]
        rows.append((meaning.get(value, '?') or 'ignored', value, *cells))
    header = [text for name in looks for text in (f'{name}: share', f'{name}: examples')]
    return page.table(('class', 'value', *header), rows)


def examples(task: Task, data_set: DataSet) -> Picture:
    """Examples spread over the parts, with their masks or labels."""
    places = [(part, index) for part in data_set.parts.values() for index in range(len(part))]
    shown = []
    for number in np.linspace(0, len(places) - 1, min(EXAMPLES, len(places))).round().astype(int):
        part, index = places[number]
        try:
            shown.append((part.which(index), task.tiles(part.read(index))))
        except Fault:
            continue
    return Picture('Examples', 'Examples of all parts, spread evenly.', draw(shown))


def draw(shown: list[tuple[str, dict[str, np.ndarray]]]) -> np.ndarray:
    """Tiles `[H, W, 3]` by title, three examples a row."""
    across = max((len(tiles) for _, tiles in shown), default=1)
    rows = -(-len(shown) // 3) or 1
    fig, axes = subplots(rows, 3 * across, (1.6 * 3 * across, 1.9 * rows))
    for axis in axes.flat:
        axis.axis('off')
    for number, (_, tiles) in enumerate(shown):
        for column, (title, tile) in enumerate(tiles.items()):
            axis = axes[number // 3, number % 3 * across + column]
            axis.imshow(thumbnail(tile), interpolation='nearest')
            axis.set_title(title, fontsize=7)
    return figure_to_image(fig)


def thumbnail(image: np.ndarray) -> np.ndarray:
    picture = Image.fromarray(image)
    picture.thumbnail((TILE, TILE), Image.Resampling.NEAREST)
    return np.asarray(picture)
