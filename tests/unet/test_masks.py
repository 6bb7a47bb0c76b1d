"""What the values of masks mean, and the colours of classes."""

import numpy as np
import pytest

from common.data.source import Fault
from common.errors import UserError
from unet import masks
from unet.palette import palette, table


def test_grey_colour_is_its_number():
    mask = np.array([[[7, 7, 7], [255, 0, 1]]], np.uint8)
    np.testing.assert_array_equal(masks.codes(mask), [[7, masks.COLOR | 0xFF0001]])
    assert [masks.name_of(code) for code in masks.codes(mask)[0]] == ['7', '#ff0001']
    assert masks.code_of('#070707') == masks.code_of('7') == 7 and masks.code_of('#ff0001') == masks.codes(mask)[0, 1]


@pytest.mark.parametrize('value', ['cat', '-1', '65536', '#ff00', '#gg0000', ''])
def test_value_that_is_none_is_refused(value):
    with pytest.raises(UserError, match='is no value of a mask'):
        masks.code_of(value)


def test_values_become_classes_in_order():
    codes = np.array([[0, 255, 9], [9, 0, 3]], np.int32)
    np.testing.assert_array_equal(masks.to_labels(codes, ('9', '0'), ('255', '3')), [[1, 255, 0], [0, 1, 255]])
    with pytest.raises(
        Fault, match=r'has the values 0, 3, which are no class .*9; data.ignore_values: 255\); configs/unet_folder.py'
    ):
        masks.to_labels(codes, ('9',), ('255',))


def test_pixels_of_each_code_are_counted():
    numbers = np.array([[1, 1, 255]], np.int32)
    assert masks.count(numbers) == {1: 2, 255: 1}
    assert masks.count(numbers | masks.COLOR) == {masks.COLOR | 1: 2, masks.COLOR | 255: 1}


@pytest.mark.parametrize(
    'found, ignored, expected',
    [
        ((0, 255), (), (('0', '255'), ())),
        ((0, 1), (), (('0', '1'), ())),
        ((1, 2, 3), (), (('1', '2', '3'), ())),
        ((1, 2, 255), (), (('1', '2'), ('255',))),
        ((0, 1, 255), ('0',), (('1', '255'), ('0',))),
        ((0, 255, masks.COLOR | 0xFF0000), (), (('0', '255', '#ff0000'), ())),
        (tuple(range(100)), (), (tuple(map(str, range(100))), ())),
    ],
)
def test_classes_are_the_values_that_masks_hold(found, ignored, expected):
    assert masks.classes_in(found, ignored) == expected


@pytest.mark.parametrize('found, message', [((0,), 'two classes or more'), (range(101), 'antialiased')])
def test_values_that_cannot_be_classes_are_refused(found, message):
    with pytest.raises(UserError, match=message):
        masks.classes_in(found, ())


@pytest.mark.parametrize('count, distance', [(2, 200), (5, 200), (37, 80), (100, 50), (254, 20)])
def test_palette_keeps_classes_apart(count, distance):
    colors = table(palette(count))[:count].astype(float)
    between = np.sqrt(((colors[:, None] - colors) ** 2) @ [2, 4, 3]) + 1e9 * np.eye(count)
    assert between.min() > distance
    assert palette(count) == palette(254)[:count]
