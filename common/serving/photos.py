"""People's own photographs: where they are, and how each becomes an upright RGB picture."""

import os
import pathlib
from typing import NamedTuple
import warnings

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from common.errors import UserError, notice

FORMATS = ('JPEG', 'PNG', 'WEBP')
SUFFIXES = ('.jpg', '.jpeg', '.png', '.webp')


class Unreadable(Exception):
    """A file that is no picture, or a damaged one; says why in one line."""


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
    photos, names = {}, set()
    for source in sources:
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
    files = sorted(path for path in folder.rglob('*')
                   if path.is_file() and output not in path.resolve().parents)
    photos = [path for path in files if path.suffix.lower() in SUFFIXES
              and not any(part.startswith('.') for part in path.relative_to(folder).parts)]
    others = sorted(str(path.relative_to(folder)) for path in set(files) - set(photos))
    if others:
        notice(f'left out in {folder}: {len(others)} hidden files or files that are not '
               f'{", ".join(SUFFIXES)} ({", ".join(others[:5])}{", …" if len(others) > 5 else ""})')
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


def read(file) -> Image.Image:
    """Reads a path or a binary file.

    A picture of more than 89 million pixels (Pillow's limit) is refused: it may be made to fill the memory.

    Returns:
        An RGB picture, turned as its EXIF orientation says.
    Raises:
        Unreadable: it is not a JPEG, PNG or WebP file, is damaged, or too large.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # Of odd metadata, which do not matter here.
            warnings.simplefilter('error', Image.DecompressionBombWarning)
            with Image.open(file, formats=FORMATS) as image:
                return to_rgb(ImageOps.exif_transpose(image))
    except UnidentifiedImageError as error:
        raise Unreadable('it is not a JPEG, PNG or WebP file') from error
    except Exception as error:  # Pillow's decoders raise all kinds of things on what they cannot read.
        raise Unreadable(' '.join(str(error).split()) or type(error).__name__) from error


def to_rgb(image: Image.Image) -> Image.Image:
    """Any mode to 8-bit RGB: of 16 bits the upper eight, and white where it is transparent."""
    if image.mode.startswith('I'):  # Pillow itself would clip 16-bit grey at 255.
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert('RGBA')
        image = Image.alpha_composite(Image.new('RGBA', image.size, 'white'), image)
    return image.convert('RGB')
