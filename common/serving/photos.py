"""People's own photographs: where they are, and what predictions for them are called."""

import os
import pathlib
from typing import NamedTuple

from common.data import folders
from common.data.images import SUFFIXES
from common.errors import UserError, notice


class Photo(NamedTuple):
    """A file to read.

    Attributes:
        path: where it is.
        name: what to call it below the output folder; no two photos share one.
    """

    path: pathlib.Path
    name: str


def find(sources: list[str], output: pathlib.Path) -> list[Photo]:
    """The photos that `sources` name: files as they are, folders with all that is in them.

    Names are relative to the source. Where two would be the same, upper and lower case being one, the later
    gets a number; a file that is named twice is taken once.

    Raises:
        UserError: a source does not exist, holds no photo, or is the output folder.
    """
    photos: dict[pathlib.Path, Photo] = {}
    names: set[str] = set()
    for source in map(os.path.expanduser, sources):
        if not os.path.exists(source):
            raise UserError(f'there is no {source}; --input names files and folders, separated by commas')
        root = pathlib.Path(source)
        for path in in_folder(root, output.resolve()) if root.is_dir() else [root]:
            relative = path.relative_to(root) if root.is_dir() else pathlib.Path(path.name)
            if path.resolve() not in photos:
                photos[path.resolve()] = Photo(path, unused(relative, names))
    return list(photos.values())


def in_folder(folder: pathlib.Path, output: pathlib.Path) -> list[pathlib.Path]:
    """The files that look like photos, in every folder below; says which others are left out."""
    if folder.resolve() == output:
        raise UserError(f'{folder} is both --input and --output; choose another --output')
    files, problems = folders.walk(folder)
    files = [path for path in files if output not in path.resolve().parents]
    photos = [path for path in files if path.suffix.lower() in SUFFIXES]
    others = [str(path.relative_to(folder)) for path in files if path not in set(photos)]
    if others:
        notice(
            f'left out in {folder}: {len(others)} files that are not '
            f'{", ".join(SUFFIXES)} ({", ".join(others[:5])}{", …" if len(others) > 5 else ""})'
        )
    for problem in problems:
        notice(f'left out {problem}')
    if not photos:
        raise UserError(f'{folder} holds no file that ends in {", ".join(SUFFIXES)}')
    return photos


def unused(relative: pathlib.Path, names: set[str]) -> str:
    """The name, with a number where it is in `names` already; adds it there."""
    name, number = relative, 1
    while str(name).lower() in names:
        number += 1
        name = relative.with_name(f'{relative.stem}-{number}{relative.suffix}')
    names.add(str(name).lower())
    return str(name)
