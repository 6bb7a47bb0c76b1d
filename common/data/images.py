"""Pictures: read from files, turned upright, resized, standardized."""

import pathlib
from typing import Any, BinaryIO
import warnings

import jax
import jax.numpy as jnp
import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from common.errors import UserError

FORMATS = ('JPEG', 'PNG', 'WEBP')
SUFFIXES = ('.jpg', '.jpeg', '.png', '.webp')
UPRIGHT = 1  # The EXIF orientation of a picture that needs no turn.
FULL_RANGE = 16  # Bits of a PNG's values that Pillow does not hold in 8.


class Unreadable(Exception):
    """A file that is no picture, or a damaged one; says why in one line."""


def read(file: str | pathlib.Path | BinaryIO) -> Image.Image:
    """Reads a path or a binary file.

    A picture of more than 89 million pixels (Pillow's limit) is refused: it may be made to fill the memory.

    Returns:
        An RGB picture, turned as its EXIF orientation says. `info['read_as']` says how 16-bit values were read that do
        not use their range.
    Raises:
        Unreadable: it is not a JPEG, PNG or WebP file, is damaged, or too large.
    """
    return to_rgb(ImageOps.exif_transpose(read_as_stored(file)))


def read_as_stored(file: str | pathlib.Path | BinaryIO, formats: tuple[str, ...] = FORMATS) -> Image.Image:
    """Reads a file as it is: neither turned nor converted. Raises Unreadable as `read`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # Odd metadata do not matter here.
            warnings.simplefilter('error', Image.DecompressionBombWarning)
            with Image.open(file, formats=formats) as image:
                layout = image.tile[0].args if image.tile else ''
                image.load()
                if layout == 'RGB;16B':  # Pillow keeps the upper bytes alone.
                    check_upper_bytes(image)
                return image
    except UnidentifiedImageError as error:
        raise Unreadable(f'it is not a {" or ".join(formats)} file') from error
    except Unreadable:
        raise
    except Exception as error:  # Pillow's decoders raise all kinds of exceptions on damaged files.
        raise Unreadable(' '.join(str(error).split()) or type(error).__name__) from error


def check_upper_bytes(image: Image.Image) -> None:
    """Raises Unreadable where 16-bit colours do not use their range; brings their transparent colour to 8 bits."""
    extrema: Any = image.getextrema()  # A pair for each channel.
    largest = max(high for _, high in extrema)
    if largest < 64:
        raise Unreadable(
            f'its 16-bit colours use less than a quarter of their range (up to about {256 * largest}), '
            'so that it would be dark; save it with 8 bits'
        )
    if 'transparency' in image.info:
        image.info['transparency'] = tuple(value >> 8 for value in image.info['transparency'])


def orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; `UPRIGHT` where there is none."""
    value = image.getexif().get(ExifTags.Base.Orientation, UPRIGHT)
    return value if value in range(1, 9) else UPRIGHT


def to_rgb(image: Image.Image) -> Image.Image:
    """Any mode to 8-bit RGB: 16-bit grey by the range of its values, and white where it is transparent."""
    if image.mode.startswith('I'):  # Pillow itself would clip 16-bit grey at 255.
        image = from_16_bits(image)
    info: dict[Any, Any] = {name: image.info[name] for name in ('read_as',) if name in image.info}
    if image.has_transparency_data:
        image = image.convert('RGBA')
        image = Image.alpha_composite(Image.new('RGBA', image.size, 'white'), image)
    image = image.convert('RGB')
    image.info |= info
    return image


def from_16_bits(image: Image.Image) -> Image.Image:
    """16-bit grey to 8-bit grey, with an alpha channel where a value is transparent.

    The range is that of the fewest bits, 8, 10, 12, 14 or 16, that hold the largest value: cameras and scanners store
    10 to 14 bits in 16.
    """
    values = np.asarray(image).astype(np.int64).clip(0, 2**FULL_RANGE - 1)
    largest = int(values.max())
    bits = next(bits for bits in (8, 10, 12, 14, FULL_RANGE) if largest < 2**bits)
    grey = Image.fromarray((values >> (bits - 8)).astype(np.uint8))
    if 'transparency' in image.info:
        grey.putalpha(Image.fromarray(values != image.info['transparency']).convert('L'))
    if bits < FULL_RANGE:
        grey.info['read_as'] = f'16-bit values up to {largest} are read as {bits}-bit ones'
    return grey


def resize_image(image: np.ndarray, size: int) -> np.ndarray:
    """uint8 `[H, W, C]`, C 1 or 3, to `[size, size, C]`, antialiased, whatever the aspect."""
    if image.shape[:2] == (size, size):
        return image
    shrinks = min(image.shape[:2]) >= size
    picture = Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image)
    resized = picture.resize((size, size), Image.Resampling.BOX if shrinks else Image.Resampling.BILINEAR)
    return np.asarray(resized).reshape(size, size, -1)


def resize_labels(labels: np.ndarray, size: int) -> np.ndarray:
    """uint8 `[H, W]` to `[size, size]`, nearest neighbour: no new value appears."""
    return np.asarray(Image.fromarray(labels).resize((size, size), Image.Resampling.NEAREST))


def check_standardization(config: Any) -> None:
    """Raises UserError unless `mean` and `std` of a `data` section have a value for each channel, std above 0."""
    if not len(config.mean) == len(config.std) > 0 or min(config.std) <= 0:
        raise UserError('data.mean and data.std need a value for each channel, those of std above 0')


def standardize(images: jax.Array, config: Any) -> jax.Array:
    """Images `[..., C]` in `[0, 1]` to about zero mean and unit variance, by `mean` and `std` of a `data` section."""

    def channelwise(values):
        return jnp.asarray(values, images.dtype).reshape((1,) * (images.ndim - 1) + (-1,))

    return (images - channelwise(config.mean)) / channelwise(config.std)
