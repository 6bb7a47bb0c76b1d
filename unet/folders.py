"""Photos and masks in folders: images/ and masks/ with the same names, in one folder or in train/ and test/."""

from collections.abc import Sequence
import json
import pathlib
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageOps

from common.data import folders, images
from common.data.source import DataSet, Fault, Source
from common.errors import UserError
from unet.masks import code_of

FORMATS = (*images.FORMATS, 'GIF')  # Some photos of Oxford-IIIT Pet are GIF files named .jpg.
LAYOUT = 'images/ and masks/ with the same names, or train/ and test/ with both in each'
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # By EXIF orientation, what turns a stored picture upright.
SMALL_GREY = {'L;2': 85, 'L;4': 17}  # Pillow stretches grey of 2 and 4 bits by these.


class Described(NamedTuple):
    """What classes.json says; () where it says nothing.

    Attributes:
        names: of the classes. values: of the classes in the masks. colors: as '#rrggbb'. ignored: values.
    """

    names: tuple[str, ...] = ()
    values: tuple[str, ...] = ()
    colors: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()


class Pairs(Sequence):
    """Photos with their masks; `by_color` takes indexed masks by their colours in place of their numbers."""

    def __init__(self, photos: list[pathlib.Path], masks: list[pathlib.Path], by_color: bool):
        self.photos, self.masks, self.by_color = photos, masks, by_color

    def __len__(self):
        return len(self.photos)

    def __getitem__(self, index):
        try:
            stored = images.read_as_stored(self.photos[index], FORMATS)
            upright = images.to_rgb(ImageOps.exif_transpose(stored))
        except images.Unreadable as error:
            raise Fault(str(error)) from error
        mask, note = aligned(self.stored_mask(index), stored, upright.size)
        notes = [note] if note else []
        if 'read_as' in upright.info:
            notes.append(upright.info['read_as'])
        return {'image': np.asarray(upright), 'segmentation_mask': to_array(mask, self.by_color), 'notes': notes}

    def stored_mask(self, index: int) -> Image.Image:
        try:
            return images.read_as_stored(self.masks[index], ('PNG',))
        except images.Unreadable as error:
            raise Fault(f'its mask {self.masks[index]}: {error}') from error

    def mask(self, index: int) -> np.ndarray:
        """The mask alone, `[H, W, 1]` numbers or `[H, W, 3]` colours, not turned. Raises Fault."""
        return to_array(self.stored_mask(index), self.by_color)


def aligned(mask: Image.Image, photo: Image.Image, upright: tuple[int, int]) -> tuple[Image.Image, str]:
    """A mask turned as its photo is, and what was assumed about it; '' for nothing.

    A mask of the size of the upright photo is upright; one of the size of the stored photo is turned with it. Where
    both fit, it is taken as upright.

    Raises:
        Fault: neither fits.
    """
    orientation = images.orientation(photo)
    if mask.size not in (upright, photo.size):
        raise Fault(f'its mask is {mask.width}x{mask.height} pixels, the picture {upright[0]}x{upright[1]}')
    if orientation == images.UPRIGHT:
        return mask, ''
    turn = f'the picture is turned by EXIF orientation {orientation}, '
    if mask.size != upright:
        return mask.transpose(TURNS[orientation]), f'{turn}its mask with it'
    if photo.size == upright:
        return mask, f'{turn}its mask is taken as upright, though it fits either way'
    return mask, f'{turn}its mask is upright'


def to_array(mask: Image.Image, by_color: bool) -> np.ndarray:
    """A mask as numbers `[H, W, 1]` or colours `[H, W, 3]`."""
    if mask.mode == 'P' and by_color or mask.mode in ('RGB', 'RGBA', 'PA', 'CMYK'):
        return np.asarray(mask.convert('RGB'))
    numbers = np.asarray(mask.convert('L') if mask.mode in ('1', 'LA') else mask)
    return numbers[..., None] // SMALL_GREY.get(mask.info.get('layout', ''), 1)


def find(config: Any) -> DataSet:
    """The data set in `data.dir`. Raises UserError where it is not laid out as `LAYOUT` says."""
    root = folders.root(config)
    by_color = any(value.startswith('#') for value in (*config.mask_values, *describe(root).values))
    parts, problems = {}, list[str]()
    places = {name: root / name for name in ('train', 'test') if (root / name).is_dir()}
    for name, place in (places or {'': root}).items():
        if not all((place / kind).is_dir() for kind in ('images', 'masks')):
            raise UserError(f'{place} has no folders images and masks; {root} must hold {LAYOUT}')
        photos, more = pairs(place)
        problems += more
        parts[name] = photos
    if 'test' not in parts:
        (photos,) = parts.values()
        train, test = folders.held_out(photos, config.test_share)
        parts = {'train': {key: photos[key] for key in train}, 'test': {key: photos[key] for key in test}}
    return DataSet(
        str(root),
        {name: source(root, name, photos, by_color) for name, photos in parts.items()},
        problems=tuple(problems),
    )


def unpacked_pets(folder: pathlib.Path) -> DataSet | None:
    """Oxford-IIIT Pet as its archives unpack it, images/ and annotations/; None where these are not in `folder`.

    Raises:
        UserError: a list of examples cannot be read.
    """
    if not (folder / 'images').is_dir() or not (folder / 'annotations' / 'trimaps').is_dir():
        return None
    parts, problems = {}, list[str]()
    for part, file in {'train': 'trainval.txt', 'test': 'test.txt'}.items():
        try:
            lines = (folder / 'annotations' / file).read_text().splitlines()
        except OSError as error:
            raise UserError(f'{folder / "annotations" / file} cannot be read ({error.strerror})') from error
        listed = [line.split()[0] for line in lines if line.strip() and not line.startswith('#')]
        names = folders.in_order(listed)  # The lists are by breed, and validation takes the last examples.
        found = {
            name: (folder / 'images' / f'{name}.jpg', folder / 'annotations' / 'trimaps' / f'{name}.png')
            for name in names
        }
        problems += [f'{path}: it is missing' for files in found.values() for path in files if not path.exists()]
        if not problems:
            parts[part] = source(folder, part, found, by_color=False)
    return DataSet(str(folder), parts, problems=tuple(problems))


def pairs(place: pathlib.Path) -> tuple[dict[str, tuple[pathlib.Path, pathlib.Path]], list[str]]:
    """Photo and mask by name, in the order of `folders.place`; and what is wrong."""
    photos, problems = folders.pictures(place / 'images')
    masks, more = folders.pictures(place / 'masks', ('.png',))
    problems += more
    problems += [
        f'{photos[name]}: it has no mask {place / "masks" / name}.png' for name in sorted(set(photos) - set(masks))
    ]
    problems += [
        f'{masks[name]}: it has no picture {place / "images" / name}' for name in sorted(set(masks) - set(photos))
    ]
    return {name: (photos[name], masks[name]) for name in folders.in_order(set(photos) & set(masks))}, problems


def source(
    root: pathlib.Path, part: str, found: dict[str, tuple[pathlib.Path, pathlib.Path]], by_color: bool
) -> Source:
    photos, masks = [photo for photo, _ in found.values()], [mask for _, mask in found.values()]
    return Source(
        f'{root} ({part})',
        Pairs(photos, masks, by_color),
        (by_color, folders.state([*photos, *masks])),
        [str(photo.relative_to(root)) for photo in photos],
    )


def describe(root: pathlib.Path) -> Described:
    """What classes.json in a folder says of its masks. Raises UserError where it cannot be understood.

        {"classes": [{"name": "cat", "value": 1, "color": "#e67828"}, ...], "ignore": 255}

    `value` is a number or a colour; where it is missing in all classes, their colours are the values if the masks are
    coloured, else their places in the list.
    """
    path = root / 'classes.json'
    if not path.exists():
        return Described()
    try:
        content = json.loads(path.read_text(encoding='utf-8-sig'))
        classes = content['classes']
        names = tuple(str(entry['name']) for entry in classes)
        values, colors = ([str(entry[key]).lower() for entry in classes if key in entry] for key in ('value', 'color'))
        ignore = content.get('ignore', [])
        ignored = tuple(str(value).lower() for value in (ignore if isinstance(ignore, list) else [ignore]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f'{path} cannot be understood ({type(error).__name__}: {error}); it looks like '
            '{"classes": [{"name": "cat", "value": 1, "color": "#e67828"}, ...], "ignore": 255}'
        ) from error
    for kind, listed in (('name', names), ('value', values), ('color', colors)):
        if listed and len(listed) != len(names) or len(set(listed)) < len(listed):
            raise UserError(f'{path}: every class needs a {kind} of its own, or none has one')
    if not all(color.startswith('#') for color in colors):
        raise UserError(f'{path}: colours are written as "#e67828"')
    for value in (*values, *colors, *ignored):
        code_of(value)
    return Described(names, tuple(values), tuple(colors), ignored)
