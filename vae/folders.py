"""Labelled pictures in folders: one folder for each label, on one level or in train/ and test/."""

from collections.abc import Sequence
import pathlib
from typing import Any

import numpy as np
from PIL import Image

from common.data import folders, images
from common.data.source import DataSet, Fault, Source
from common.errors import UserError

LAYOUT = 'LABEL/*.png, a folder for each label, or train/ and test/ with these in each'
GREY = ('1', 'L', 'LA', 'I', 'I;16')  # Modes of Pillow without colours.


class Labelled(Sequence):
    """Pictures with the numbers of their labels."""

    def __init__(self, paths: list[pathlib.Path], labels: list[int]):
        self.paths, self.labels = paths, labels

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        try:
            picture = images.read(self.paths[index])
        except images.Unreadable as error:
            raise Fault(str(error)) from error
        notes = [picture.info['read_as']] if 'read_as' in picture.info else []
        return {'image': np.asarray(picture), 'label': self.labels[index], 'notes': notes}


def find(config: Any) -> DataSet:
    """The data set in `data.dir`. Raises UserError where it is not laid out as `LAYOUT` says."""
    root = folders.root(config)
    places = {name: root / name for name in ('train', 'test') if (root / name).is_dir()} or {'': root}
    found, problems = {}, list[str]()
    for name, place in places.items():
        found[name], more = labelled(place)
        problems += more
    labels = in_order({label for part in found.values() for label, _ in part})
    if not labels:
        first = f' ({problems[0]})' if problems else ''
        raise UserError(f'{root} holds no pictures with labels{first}; it must hold {LAYOUT}')
    if set(found) == {'train', 'test'}:
        trained = {label for label, _ in found['train']}
        problems += [
            f'{root / "test" / label}: there is no {root / "train" / label}' for label in labels if label not in trained
        ]
    elif 'test' not in found:
        (pictures,) = found.values()
        names = {f'{label}/{name}': (label, name) for label, name in pictures}
        found = {
            part: {names[name]: pictures[names[name]] for name in chosen}
            for part, chosen in zip(('train', 'test'), folders.held_out(names, config.test_share), strict=True)
        }
    parts = {name: source(root, name, pictures, labels) for name, pictures in found.items()}
    channels = len(config.mean) or (1 if all(is_grey(part.examples) for part in parts.values()) else 3)
    return DataSet(str(root), parts, labels, tuple(problems), channels=channels)


def labelled(place: pathlib.Path) -> tuple[dict[tuple[str, str], pathlib.Path], list[str]]:
    """Pictures by label and name, in the order of `folders.place`; and what is wrong."""
    found, problems = folders.pictures(place)
    split = {full: full.partition('/') for full in folders.in_order(found)}
    pictures = {(label, name): found[full] for full, (label, _, name) in split.items() if name}
    problems += [f'{path}: it is in no folder of a label' for full, path in found.items() if '/' not in full]
    labels = {path.relative_to(place).parts[0] for path in pictures.values()}
    entries = sorted(path for path in place.glob('*') if path.is_dir() and not path.name.startswith('.'))
    problems += [f'{entry}: it holds no picture' for entry in entries if entry.name not in labels]
    return pictures, problems


def in_order(labels: set[str]) -> tuple[str, ...]:
    """Labels in alphabetical order; numbers by their values."""
    numbers = all(label.isdecimal() for label in labels)
    return tuple(sorted(labels, key=(lambda label: (int(label), label)) if numbers else None))


def source(
    root: pathlib.Path, part: str, found: dict[tuple[str, str], pathlib.Path], labels: tuple[str, ...]
) -> Source:
    paths, numbers = [*found.values()], {label: number for number, label in enumerate(labels)}
    return Source(
        f'{root} ({part})',
        Labelled(paths, [numbers[label] for label, _ in found]),
        (labels, folders.state(paths)),
        [str(path.relative_to(root)) for path in paths],
    )


def is_grey(examples: Any) -> bool:
    """Whether all pictures are stored without colours; says nothing of files that cannot be read."""
    for path in examples.paths:
        try:
            with Image.open(path, formats=images.FORMATS) as picture:
                if picture.mode not in GREY:
                    return False
        except (OSError, ValueError):
            pass
    return True
