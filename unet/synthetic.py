"""A synthetic replacement of Oxford-IIIT Pet, drawn by code, without a network or TFDS.

Points of outlines are complex numbers x + iy with y downwards; in the image, the unit is the image width.
A part of an animal is (outline, shade); `shade` multiplies the brightness of the fur.
"""

import functools

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from common.data.source import DataSet, Drawn, Source

SEED, SIZE = 0, 64
SPLITS = {'train': 512, 'test': 256}
PET, BACKGROUND, BORDER = 1, 2, 3
CATS, BREEDS = 12, 37
FUR = (
    np.asarray(
        [
            [236, 230, 218],
            [214, 180, 130],
            [200, 124, 60],
            [122, 82, 52],
            [70, 50, 40],
            [150, 150, 152],
            [96, 104, 116],
            [38, 36, 40],
        ],
        np.float32,
    )
    / 255
)
SCENE = np.concatenate([FUR, np.asarray([[90, 140, 66], [70, 110, 170], [170, 60, 54]], np.float32) / 255])


def ellipse(centre, width, height, angle=0.0, corners=24):
    """Outline (corners,) of an ellipse with half-axes `width` and `height`, rotated by `angle` radians."""
    t = 2 * np.pi * np.arange(corners) / corners
    return centre + (width * np.cos(t) + 1j * height * np.sin(t)) * np.exp(1j * angle)


def limb(start, bend, end, width, taper=0.6):
    """Outline (16,) of a quadratic curve whose width falls from `width` to `taper * width`."""
    t = np.linspace(0, 1, 8)
    line = (1 - t) ** 2 * start + 2 * t * (1 - t) * bend + t**2 * end
    slope = np.gradient(line)
    side = 0.5j * slope / abs(slope) * width * (1 + t * (taper - 1))
    return np.concatenate([line + side, (line - side)[::-1]])


def head(rng, centre, radius, gaze, cat):
    """Parts of a head at `centre`; a positive `gaze` moves the face to the right."""
    if cat or rng.random() < 0.3:
        ear = np.array([0.1 - 0.8j, rng.uniform(0.5, 0.75) - 1.5j, 0.95 - 0.3j])
    else:
        drop = rng.uniform(0.5, 0.85)
        ear = ellipse(0.9 + (drop - 0.6) * 1j, 0.3, drop, -0.25)
    snout = rng.uniform(0.3, 0.42) if cat else rng.uniform(0.42, 0.6)
    mouth = gaze * (0.6 if cat else 1.0) + 0.4j
    parts = [
        (-ear.conj(), 0.7),
        (ellipse(0, 1, rng.uniform(0.82, 1.05)), 1.0),
        (ear, 0.8),
        (ellipse(mouth, snout * 1.2, snout), 1.2),
        (ellipse(mouth - snout * 0.5j, 0.16, 0.11), 0.15),
        *((ellipse(gaze * 0.55 + x - 0.15j, 0.12, 0.15), 0.1) for x in (-0.36, 0.36)),
    ]
    pose = radius * np.exp(1j * rng.normal(0, 0.2))
    return [(outline * pose + centre, shade) for outline, shade in parts]


def side_view(rng, cat):
    """Parts, back to front, of an animal facing right; the unit is about half its length."""
    length, height = rng.uniform(0.6, 0.75), rng.uniform(0.27, 0.36)
    foot, thick = rng.uniform(0.45, 0.95), rng.uniform(0.22, 0.32)
    tip = -length - rng.uniform(0.1, 0.4) + rng.uniform(-0.9, 0.5) * 1j
    parts = [(limb(-length * 0.9 - 0.1j, tip.real - 0.1 - 0.2j, tip, 0.18), 0.85)]
    for hip, shade in ((-0.62, 0.65), (0.5, 0.65), (-0.72, 0.9), (0.66, 0.9)):
        toe = hip * length + rng.normal(0, 0.14) + foot * 1j
        parts += [(limb(hip * length, hip * length + foot * 0.5j, toe, thick, 0.7), shade)]
    face = length + rng.uniform(0, 0.15) + rng.uniform(-0.55, -0.15) * 1j
    parts += [
        (ellipse(0, length, height, rng.normal(0, 0.08)), 1.0),
        (limb(length * 0.6, length * 0.8 - 0.1j, face, height * 1.4), 0.95),
    ]
    return parts + head(rng, face, rng.uniform(0.27, 0.36), rng.uniform(-0.1, 0.7), cat)


def front_view(rng, cat):
    """Parts, as in `side_view`, of a sitting animal that faces the viewer."""
    width, lean = rng.uniform(0.38, 0.52), rng.normal(0, 0.12)
    tip = width + rng.uniform(0.1, 0.4) + rng.uniform(0.1, 0.7) * 1j
    parts = [
        (limb(width * 0.5 + 0.85j, width + 0.5 + 0.95j, tip, 0.2), 0.8),
        *((ellipse(x * width + 0.75j, 0.27, 0.24), 0.8) for x in (-0.8, 0.8)),
        (ellipse(0.4j, width, 0.62), 0.95),
        (ellipse(0.3j, width * 0.5, 0.36), 1.15),
        *((limb(x + 0.2j, x + 0.6j, x + 1j, 0.24, 0.8), 0.92) for x in (-0.19, 0.19)),
    ]
    return parts + head(rng, lean - 0.35j, rng.uniform(0.38, 0.5), lean * 3, cat)


def thing(rng, low, high):
    """Outline, in image widths, of a stick or a blob with a size from `low` to `high`."""
    place = complex(*rng.random(2))
    if rng.random() < 0.3:
        return limb(place, *rng.uniform(-0.5, 1.5, (2, 2)) @ [1, 1j], low)
    radii, angle = rng.uniform(low, high, 2) / 2, rng.uniform(0, np.pi)
    return ellipse(place, *radii, angle, rng.choice([3, 4, 5, 24]))


def texture(rng, palette, size):
    """Texture (size, size, 3) in two colours of `palette`: plain, striped, spotted or patched."""
    pair = rng.choice(palette, 2) * rng.uniform(0.8, 1.2, (2, 1)).astype(np.float32)
    kind = rng.integers(4)
    knots = rng.standard_normal(((6, 5, 12, 4)[kind],) * 2, np.float32)
    blend = np.asarray(Image.fromarray(knots).resize((size, size), Image.Resampling.BICUBIC))
    if kind == 1:
        ramp = np.linspace(0, 1, size) * rng.uniform(-60, 60, (2, 1))
        blend = np.sin(blend + ramp[0] + ramp[1][:, None])
    blend = np.clip(0.4 * blend + 0.2 if kind == 0 else 2 * blend, 0, rng.uniform(0.3, 0.8))
    grain = 1 + 0.07 * rng.standard_normal((size, size, 1), np.float32)
    return np.float32((pair[0] + blend[..., None] * (pair[1] - pair[0])) * grain)


def paint(picture, outline, surface):
    """Draws a shape on `picture` (size, size, 3) in place; returns the share of each pixel that it covers."""
    canvas = Image.new('L', (3 * len(picture),) * 2)
    points = np.stack([outline.real, outline.imag], 1) * canvas.width
    ImageDraw.Draw(canvas).polygon(points.ravel().tolist(), fill=255)
    cover = canvas.reduce(3)
    alpha = np.asarray(cover, np.float32) / 255
    relief = 0.6 + np.asarray(cover.filter(ImageFilter.BoxBlur(2)), np.float32) * (0.4 / 255)
    picture += alpha[..., None] * (surface * relief[..., None] - picture)
    return alpha


def trimap(visible):
    """Mask (size, size) uint8 of PET, BACKGROUND and BORDER from the share of each pixel that the pet covers."""
    soft = Image.fromarray(np.uint8(255 * visible)).filter(ImageFilter.GaussianBlur(1.25))
    soft = np.asarray(soft) / 255
    return np.uint8(np.select([soft > 0.8, soft < 0.2], [PET, BACKGROUND], BORDER))


def example(seed, split, index, size=SIZE):
    """Image (size, size, 3) and mask (size, size), both uint8, and the breed, an int."""
    rng = np.random.default_rng((seed, list(SPLITS).index(split), index))
    breed = int(rng.integers(BREEDS))
    surfaces = [texture(rng, SCENE, size) for _ in range(5)]
    picture, horizon = surfaces[0].copy(), int(size * rng.uniform(0.4, 1.1))
    picture[horizon:] = surfaces[1][horizon:]
    for _ in range(rng.integers(2, 6)):
        paint(picture, thing(rng, 0.1, 0.5), surfaces[rng.integers(5)])

    view, mirrored = (side_view, front_view)[rng.integers(2)], rng.random() < 0.5
    pose = rng.uniform(0.37, 0.63) * np.exp(1j * rng.normal(0, 0.15))
    place = complex(*rng.uniform(0.38, 0.62, 2))
    fur, visible = texture(rng, FUR, size), 0.0
    for outline, shade in view(rng, breed < CATS):
        outline = -outline.conj() if mirrored else outline
        visible = np.maximum(visible, paint(picture, outline * pose + place, fur * shade))
    for _ in range(rng.integers(3)):
        visible = visible * (1 - paint(picture, thing(rng, 0.08, 0.4), surfaces[rng.integers(5)]))
    slope = np.linspace(-1, 1, size) * rng.normal(0, 0.15, (2, 1))
    lamp = rng.uniform(0.65, 1.2) + slope[0] + slope[1][:, None]
    picture = picture * lamp[..., None] * rng.normal(1, 0.05, 3)
    return np.uint8(255 * np.clip(picture, 0, 1)), trimap(visible), breed


def stored(split, index):
    """An example with the features of `oxford_iiit_pet` that are used here."""
    image, mask, breed = example(SEED, split, index)
    return {
        'image': image,
        'segmentation_mask': mask[..., None],
        'label': breed,
        'species': int(breed >= CATS),
        'file_name': f'breed_{breed:02}_{split}_{index}',
    }


def pets(version=1):
    """The data set; raise `version` when the drawings change, so that decoded copies are left aside."""
    return DataSet(
        'synthetic_pets',
        {
            split: Source(
                f'synthetic_pets ({split})',
                Drawn(functools.partial(stored, split), count),
                ('synthetic_pets', version, SEED, split, count),
            )
            for split, count in SPLITS.items()
        },
    )
