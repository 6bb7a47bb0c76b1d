"""Folders of pictures: which files are in them, and which of these are held out for testing."""

from collections.abc import Hashable, Iterable
import hashlib
import os
import pathlib
import unicodedata

from common.data.images import SUFFIXES
from common.errors import UserError

OTHER_PICTURES = ('.avif', '.bmp', '.gif', '.heic', '.heif', '.jp2', '.tif', '.tiff')  # Not read here.


def root(config) -> pathlib.Path:
    """The folder `data.dir`. Raises UserError where it is none, or `data.test_share` is no share."""
    if not config.dir:
        raise UserError('data.dir is empty; name the folder of your pictures: --config.data.dir=DIR')
    path = pathlib.Path(config.dir).expanduser()
    if not path.is_dir():
        raise UserError(f'data.dir is {config.dir!r}, which is no folder')
    if not 0 <= config.test_share <= 1:
        raise UserError(f'data.test_share is {config.test_share}; choose it in [0, 1]')
    return path


def walk(folder: pathlib.Path) -> tuple[list[pathlib.Path], list[str]]:
    """All files below a folder, in order, hidden ones left out; and in words, what could not be followed.

    Links are followed. A folder that is reached twice, as in a loop of links, is read once.
    """
    files, problems, seen = list[pathlib.Path](), list[str](), set[pathlib.Path]()

    def visit(path: pathlib.Path) -> None:
        real = path.resolve()
        if real in seen:
            problems.append(f'{path}: it links to {real}, which is read already')
            return
        seen.add(real)
        try:
            entries = sorted(entry.name for entry in os.scandir(path) if not entry.name.startswith('.'))
        except OSError as error:
            problems.append(f'{path}: it cannot be read ({error.strerror})')
            return
        for entry in (path / name for name in entries):
            if os.path.isdir(entry):
                visit(entry)
            elif os.path.exists(entry):
                files.append(entry)
            else:
                problems.append(f'{entry}: it links to a file that is not there')

    visit(folder)
    return files, problems


def pictures(folder: pathlib.Path, suffixes: tuple[str, ...] = SUFFIXES) -> tuple[dict[str, pathlib.Path], list[str]]:
    """The pictures below a folder by name, which is their path in it without the suffix; and what is wrong.

    Pictures of other kinds and two files of one name are wrong; files that are no pictures are passed over.
    """
    files, problems = walk(folder)
    found = dict[str, pathlib.Path]()
    for path in files:
        name = unicodedata.normalize('NFC', path.relative_to(folder).with_suffix('').as_posix())
        if path.suffix.lower() not in suffixes:
            if is_picture(path):
                problems.append(f'{path}: it does not end in {" or ".join(suffixes)}')
        elif name in found:
            problems.append(f'{path}: {found[name].name} has the same name')
        else:
            found[name] = path
    return found, problems


def is_picture(path: pathlib.Path) -> bool:
    """Whether a file is named like a picture, of whatever kind."""
    return path.suffix.lower() in (*SUFFIXES, *OTHER_PICTURES)


def place(name: str) -> float:
    """A number in [0, 1) that depends on the name alone: the same whatever other files there are."""
    return int.from_bytes(hashlib.sha256(name.encode(errors='surrogateescape')).digest()[:8]) / 2**64


def in_order(names: Iterable[str]) -> list[str]:
    """Names in the order of `place`, which is as good as random."""
    return sorted(names, key=lambda name: (place(name), name))


def held_out(names: Iterable[str], share: float) -> tuple[list[str], list[str]]:
    """Names for training and for testing, about `share` of them, each in the order of `place`.

    A name stays where it is when others come or go.
    """
    ordered = in_order(names)
    return [name for name in ordered if place(name) >= share], [name for name in ordered if place(name) < share]


def state(paths: Iterable[pathlib.Path]) -> Hashable:
    """What changes when one of the files is changed, added or removed."""
    return tuple((str(path), status.st_size, status.st_mtime_ns) for path in paths for status in [path.stat()])
