"""Synthetic replacements of MNIST and CIFAR-10, drawn by code, without a network or TFDS.

A drawing is a string of words. Each pair of figures in a word is a point (x, y) on a grid from 0 to 8 with y
downwards. In the code, points are complex numbers x + iy: in grid units from the middle of the grid until a style
places them, then in image widths.
"""

import functools

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from common.data.source import DataSet, Drawn, Source

SEED, FINE = 0, 3
SPLITS = {'train': 2000, 'test': 500}

# The ways to write each digit; a word is one stroke of the pen.
DIGITS = {
    '0': ['401018787040', '50102768722050'],
    '1': ['4048', '5038', '22404048', '22404048 2868'],
    '2': ['121070741818 1878', '1210707408063678'],
    '3': ['1110707434747818', '107070434474781817'],
    '4': ['1010051575 5058', '60600505 0575 5058', '20101575 6068'],
    '5': ['201313737818 2070', '201414747818 2070'],
    '6': ['60101878731315', '50001878741416'],
    '7': ['1010707038', '1010707038 2464', '1210107070454548'],
    '8': ['40101375781815737040', '402024646040 441418787444'],
    '9': ['727010157571707068', '7270101575717838'],
}

# The ways to draw each object, back to front; a word is a polygon. Its first letter is its colour, b(ody), t(rim) or
# i(nk); a capital letter rounds its corners.
OBJECTS = {
    'ship': ['i30404535 t408444 t303404 b05857717', 'i31414333 i51616353 t13737515 b05858717'],
    'house': ['t044084 b14747818 i25454828 i55656656', 'i61717363 t044084 b14747818 i35555838'],
    'tree': ['i35555838 B10707616', 'i35555838 B02525606 B32828636 B20606525', 'i35555838 b406323 b417616'],
    'car': ['t21617414 i32525434 b04848606 I15353717 I55757757', 'b0262848606 t13333414 I15353717 I55757757'],
    'bird': [
        'b03053634 i36565848 B143373765727 T14545635 i618363 B41717444 I52626353',
        't040635 i638464 B1544746737 B42727545 I53636454 t251055',
    ],
    'fish': ['t54827486 B042152745627 I13232414', 't525030 t5647 t54827486 B042262745626'],
    'star': ['b40538365784618250333', 'b405282648656483606240232'],
    'cup': ['T5282865655757353 b12625727 I11616313', 'T5383875756767454 b11616818 i13636414'],
    'chair': ['b10202818 t14646515 b54646858', 'b10202818 b60707868 t11717313 t14747616'],
    'face': ['B00808808 I12323414 I52727454 I1546755737', 'B00808808 T031070836222 I13333515 I53737555 i26666727'],
}


def line(word, rounds=3, closed=False):
    """Points (64,) at equal distances along the corners of a word, in grid units from the middle of the grid.

    Cutting all corners `rounds` times makes the line smooth; it still touches every inner side at its middle.
    """
    figures = np.array([*word], int)
    points = figures[::2] + 1j * figures[1::2] - (4 + 4j)
    if closed:
        middle = (points[:1] + points[1:2]) / 2
        points = np.concatenate([middle, points[1:], points[:1], middle])
    for _ in range(rounds):
        cuts = points[:-1, None] + np.diff(points)[:, None] * [0.25, 0.75]
        points = np.concatenate([points[:1], cuts.ravel()[1:-1], points[-1:]])
    way = np.concatenate([[0], np.cumsum(abs(np.diff(points)))])
    return np.interp(np.linspace(0, way[-1], 64), way, points)


def style(rng, size, lean, turn, rough):
    """Draws a style: a function that maps points (n,) of the grid into the image.

    `size` is the range of the side of the grid in image widths. `lean` and `turn` (radians) are the standard deviations
    of the slant and of the angle. `rough` is about the largest displacement, in grid units, by smooth waves across the
    drawing.
    """
    side, aspect, slant = rng.uniform(*size), np.exp(rng.normal(0, 0.1)), rng.normal(0, lean)
    pose = side / 8 * np.exp(1j * rng.normal(0, turn))
    middle = 0.5 + 0.5j + (0.5 - side / 2) * complex(*rng.uniform(-0.7, 0.7, 2))
    waves, pushes = rng.normal(0, 0.45, (2, 4, 2)) @ [1, 1j]
    phases, pushes = rng.uniform(0, 2 * np.pi, 4), pushes * rng.uniform(0, rough)

    def place(points):
        points = points + np.sin((points[:, None] * waves.conj()).real + phases) @ pushes
        return ((points.real - slant * points.imag) * aspect + 1j * points.imag) * pose + middle

    return place


def digit(rng, label):
    """Image (28, 28, 1) of a handwritten digit, white on black, in [0, 1]."""
    place = style(rng, (0.52, 0.72), 0.22, 0.08, 0.7)
    canvas = Image.new('L', (28 * FINE,) * 2)
    pen, width = ImageDraw.Draw(canvas), FINE * rng.uniform(1.4, 3.4)
    press = 1 + rng.uniform(0, 0.3) * np.cos(rng.uniform(0, 6) + np.linspace(0, 4, 64))
    for word in rng.choice(list(DIGITS.values())[label]).split():
        for spot, reach in zip(place(line(word)) * canvas.width, width / 2 * press, strict=True):
            x, y = spot.real, spot.imag
            pen.ellipse((x - reach, y - reach, x + reach, y + reach), fill=255)
    soft = canvas.filter(ImageFilter.GaussianBlur(FINE * rng.uniform(0.2, 0.6))).reduce(FINE)
    grain = rng.uniform(0.6, 1) + rng.uniform(0, 0.06) * rng.standard_normal((28, 28, 1))
    return np.asarray(soft)[..., None] / 255 * grain


def palette(rng):
    """Colours (4, 3), in [0, 1], of scene, body, trim and ink, all clearly different.

    All four have the same distribution, so colours carry no information on the label.
    """
    while True:
        colours = rng.random((4, 3))
        gaps = abs(colours[:, None] - colours).sum(-1) + 9 * np.eye(4)
        if gaps.min() > 0.7:
            return colours


def field(rng, knots, side):
    """Smooth noise (side, side, 1) with mean 0, interpolated from `knots` x `knots` normal numbers."""
    noise = Image.fromarray(rng.standard_normal((knots, knots), np.float32))
    return np.asarray(noise.resize((side, side), Image.Resampling.BICUBIC))[..., None]


def thing(rng, label):
    """Image (32, 32, 3) of an object in front of a scene; values may lie slightly outside [0, 1]."""
    place, mirror = style(rng, (0.6, 0.85), 0.05, 0.12, 0.6), rng.random() < 0.5
    fills = [tuple(fill) for fill in np.uint8(255 * palette(rng)).tolist()]
    canvas, mask = Image.new('RGB', (32 * FINE,) * 2, fills[0]), Image.new('L', (32 * FINE,) * 2)
    for word in rng.choice(list(OBJECTS.values())[label]).split():
        points = line(word[1:], 3 if word[0].isupper() else 0, closed=True)
        points = place(-points.conj() if mirror else points) * canvas.width
        corners = np.stack([points.real, points.imag], 1).ravel().tolist()
        ImageDraw.Draw(canvas).polygon(corners, fills['sbti'.index(word[0].lower())])
        ImageDraw.Draw(mask).polygon(corners, 255)
    cover = np.asarray(mask.reduce(FINE))[..., None] / 255
    scene = field(rng, rng.choice([2, 3, 8]), 32) * rng.normal(0, 0.1, 3)
    relief, lamp = 0.12 * field(rng, 2, 32), 1 + 0.12 * field(rng, 2, 32)
    picture = np.asarray(canvas.reduce(FINE)) / 255 + scene + cover * (relief - scene)
    return picture * lamp + 0.02 * rng.standard_normal((32, 32, 3))


def example(draw, seed, split, index):
    """Image (height, width, channels) uint8 that `draw` returns for the label `index` % 10."""
    rng = np.random.default_rng((seed, list(SPLITS).index(split), index))
    return np.uint8(255 * np.clip(draw(rng, index % 10), 0, 1))


def stored(draw, split, index):
    """An example with the features of `mnist` and `cifar10`: as many of each of the ten labels."""
    return {'image': example(draw, SEED, split, index), 'label': index % 10, 'id': f'{split}_{index:05}'}


def data_set(name, draw, labels, channels, version=1):
    """The images that `draw` makes; raise `version` when they change, so that decoded copies are left aside."""
    return DataSet(
        name,
        {
            split: Source(
                f'{name} ({split})',
                Drawn(functools.partial(stored, draw, split), count),
                (name, version, SEED, split, count),
            )
            for split, count in SPLITS.items()
        },
        tuple(labels),
        channels=channels,
    )


def digits():
    """Figures by many hands, (28, 28, 1)."""
    return data_set('synthetic_digits', digit, DIGITS, 1)


def objects():
    """Ten kinds of things in any colours, (32, 32, 3)."""
    return data_set('synthetic_objects', thing, OBJECTS, 3)
