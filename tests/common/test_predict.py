"""People's own pictures: every kind of file in, masks and swaps of the right size out, and nothing lost."""

import json
import os
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image
import pytest

from common import cli
from common.data.images import read
from common.errors import Incomplete, UserError
from common.serving import photos, predict
from main import make_task
from tests.helpers import save, save_run, usage_code
from unet.task import SegmentationTask

RED, GREEN, BLUE = np.eye(3, dtype=np.uint8) * 255


class ColorTask(SegmentationTask):
    """Takes red for pet, green for background and blue for border."""

    def logits(self, variables, images):
        return 100 * images


@pytest.fixture
def colors(config):
    return predict.Predictor(ColorTask(config), {}, 7)


def flag(height=60, width=90):
    """Red above, green below on the left and blue below on the right."""
    picture = np.empty((height, width, 3), np.uint8)
    picture[:height // 2] = RED
    picture[height // 2:, :width // 2], picture[height // 2:, width // 2:] = GREEN, BLUE
    return Image.fromarray(picture)


def expected_mask(height=60, width=90):
    return np.asarray(flag(height, width)).argmax(-1)


def with_exif(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def files_below(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob('*') if path.is_file())


@pytest.mark.parametrize('height, width', [(60, 90), (16, 16), (90, 7), (5, 4)])
def test_mask_has_the_size_and_the_classes_of_the_photo(colors, tmp_path, height, width):
    flag(height, width).save(tmp_path / 'flag.png')
    assert predict.predict_files(colors, [str(tmp_path / 'flag.png')], tmp_path / 'out', []) == 1
    with Image.open(tmp_path / 'out' / 'flag.png.mask.png') as image:
        assert image.mode == 'P' and image.size == (width, height)
        wrong = np.asarray(image) != expected_mask(height, width)
        assert np.mean(wrong) < 0.15 and np.array_equal(image.getpalette()[:3], (230, 120, 40))
    with Image.open(tmp_path / 'out' / 'flag.png.overlay.png') as image:
        assert image.size == (width, height)
    record = json.loads((tmp_path / 'out' / 'predictions.jsonl').read_text())
    assert record['width'] == width and sum(record['shares'].values()) == pytest.approx(1, abs=1e-5)


def test_mask_is_turned_as_exif_says(colors, tmp_path):
    flag().transpose(Image.Transpose.ROTATE_90).save(tmp_path / 'flag.png', exif=with_exif(6))
    predict.predict_files(colors, [str(tmp_path / 'flag.png')], tmp_path / 'out', [])
    with Image.open(tmp_path / 'out' / 'flag.png.mask.png') as image:
        assert np.mean(np.asarray(image) != expected_mask()) < 0.15
    with Image.open(tmp_path / 'flag.png') as image:  # As a notebook would.
        np.testing.assert_array_equal(colors([image]).argmax(-1), colors([flag()]).argmax(-1))


@pytest.mark.parametrize('name, picture', [
    ('rgb.jpg', lambda: Image.new('RGB', (9, 6), (90, 90, 90))),
    ('rgb.webp', lambda: Image.new('RGB', (9, 6), (90, 90, 90))),
    ('cmyk.jpg', lambda: Image.new('RGB', (9, 6), (90, 90, 90)).convert('CMYK')),
    ('grey.png', lambda: Image.new('L', (9, 6), 90)),
    ('palette.png', lambda: Image.new('RGB', (9, 6), (90, 90, 90)).quantize(4)),
    ('sixteen.png', lambda: Image.fromarray(np.full((6, 9), 90 * 256, np.uint16))),
    ('half_black.png', lambda: Image.new('LA', (9, 6), (0, 165))),
])
def test_every_kind_of_picture_becomes_rgb(tmp_path, name, picture):
    picture().save(tmp_path / name)
    image = read(tmp_path / name)
    assert image.mode == 'RGB' and image.size == (9, 6)
    np.testing.assert_allclose(np.asarray(image), 90, atol=2)


def test_bad_files_are_named_and_the_others_done(colors, tmp_path, monkeypatch, capsys):
    flag().save(tmp_path / 'good.jpg')
    whole = (tmp_path / 'good.jpg').read_bytes()
    for name, content in {'empty.jpg': b'', 'text.png': b'hello', 'cut.jpg': whole[:len(whole) // 2]}.items():
        (tmp_path / name).write_bytes(content)
    Image.new('1', (90, 61)).save(tmp_path / 'bomb.png')  # More than the limit, less than twice.
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 60 * 90)
    with pytest.raises(Incomplete, match='4 of 5'):
        predict.predict_files(colors, [str(tmp_path)], tmp_path / 'out', [])
    errors = capsys.readouterr().err
    for name in ('empty.jpg', 'text.png', 'cut.jpg', 'bomb.png'):
        assert f'skipped {tmp_path / name}: ' in errors
    assert files_below(tmp_path / 'out') == ['good.jpg.mask.png', 'good.jpg.overlay.png', 'predictions.jsonl']


def test_incomplete_predictions_have_an_exit_code_of_their_own(capsys):
    def main():
        raise Incomplete('1 of 2')
    assert cli.run(main, ['main.py']) == 3
    assert capsys.readouterr().err == 'error: 1 of 2\n'


def test_equal_names_do_not_overwrite_each_other(tmp_path):
    for name in ('a/x.jpg', 'a/sub/x.jpg', 'b/X.jpg', 'c/x.jpg'):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = photos.find([str(tmp_path / name) for name in ('a', 'b', 'c/x.jpg', 'a/x.jpg')], tmp_path / 'out')
    assert [photo.name for photo in found] == [os.path.join('sub', 'x.jpg'), 'x.jpg', 'X-2.jpg', 'x-3.jpg']


def test_hidden_files_others_and_earlier_output_are_left_out_of_folders(tmp_path, capsys):
    for name in ('x.PNG', '.hidden/x.png', '.x.jpg', 'notes.txt', 'out/x.png.mask.png'):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = photos.find([str(tmp_path)], tmp_path / 'out')
    assert [photo.name for photo in found] == ['x.PNG']
    said = capsys.readouterr().err
    assert '1 files that are not' in said and 'notes.txt' in said


@pytest.mark.parametrize('sources, output, message', [
    ([], 'out', 'name photos'),
    (['none.jpg'], 'out', 'there is no none.jpg'),
    (['empty'], 'out', 'empty holds no file'),
    (['empty'], 'empty', 'both --input and --output'),
    (['x.png'], 'x.png', 'cannot write to x.png'),
])
def test_mistakes_write_nothing(colors, tmp_path, monkeypatch, sources, output, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'empty').mkdir()
    flag().save(tmp_path / 'x.png')
    with pytest.raises(UserError, match=message):
        predict.predict_files(colors, sources, pathlib.Path(output), [])
    assert files_below(tmp_path) == ['x.png']


def test_predictor_is_what_evaluation_evaluates(config, tmp_path):
    task = make_task(config)
    predictor = predict.load(save_run(task, tmp_path), make_task)
    images = np.random.default_rng(0).integers(0, 256, (2 * config.eval_batch_size + 1, 16, 16, 3), np.uint8)
    expected = jax.nn.softmax(task.logits(predictor.variables, jnp.asarray(images) / 255))
    np.testing.assert_allclose(predictor(images), expected, atol=1e-5)
    pictures = [Image.fromarray(image) for image in images[:3]]
    np.testing.assert_allclose(predictor(pictures), expected[:3], atol=1e-5)


def test_pictures_are_resized_as_for_training(config):
    from common.data.images import resize_image
    picture = np.random.default_rng(0).integers(0, 256, (50, 33, 3), np.uint8)
    fitted = predict.Predictor(ColorTask(config), {}, 7).fit(picture)
    np.testing.assert_array_equal(fitted, resize_image(picture, 16))


@pytest.mark.parametrize('picture', [np.zeros((4, 4, 3)), np.zeros((4, 4, 2), np.uint8),
                                     np.zeros((0, 4), np.uint8)])
def test_what_is_no_picture_is_refused(colors, picture):
    with pytest.raises(UserError, match='a picture is uint8'):
        colors([picture])


def test_vae_turns_a_picture_into_the_labels(vae_predictor, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16), np.uint8)
    Image.fromarray(pixels).resize((32, 32), Image.Resampling.NEAREST).save(tmp_path / 'digit.png')
    predict.predict_files(vae_predictor, [str(tmp_path / 'digit.png')], tmp_path / 'out', ['8', '3', '8'])
    record = json.loads((tmp_path / 'out' / 'predictions.jsonl').read_text())
    assert record['labels'] == ['8', '3']
    assert files_below(tmp_path / 'out') == ['digit.png.3.png', 'digit.png.8.png', 'digit.png.grid.png',
                                             'predictions.jsonl']

    task, variables = vae_predictor.task, vae_predictor.variables
    images = jnp.asarray(pixels)[None, ..., None] / 255
    features = task.bound(variables)((images - 0.1307) / 0.3081, method='features')
    expected = np.asarray(task.all_labels(variables, features)[:, 0])
    np.testing.assert_allclose(vae_predictor([pixels] * 10, range(10)), expected, atol=1e-5)
    assert np.ptp(expected, axis=0).max() > 0.01  # The label does matter.
    with Image.open(tmp_path / 'out' / 'digit.png.3.png') as image:
        np.testing.assert_allclose(np.asarray(image), 255 * expected[3][..., 0], atol=1)


def test_labels_that_do_not_fit_are_refused(colors, vae_predictor):
    picture = np.zeros((16, 16), np.uint8)
    for labels in (None, [1, 2], [10], [-1]):
        with pytest.raises(UserError, match='a label from 0 to 9'):
            vae_predictor([picture], labels)
    with pytest.raises(UserError, match="no label '10'"):
        predict.choose_labels(vae_predictor.task, ['3', '10'])
    with pytest.raises(UserError, match='leave --labels out'):
        predict.choose_labels(colors.task, ['3'])
    with pytest.raises(UserError, match='leave the labels out'):
        colors([picture], [3])


def test_classifier_says_the_label(vae_runs):
    predictor = predict.load(vae_runs / 'judge', make_task)
    (images, record), = predictor.present([Image.new('RGB', (40, 20))], [])
    assert not images and sum(record['probabilities'].values()) == pytest.approx(1, abs=1e-4)
    assert record['label'] == max(record['probabilities'], key=record['probabilities'].get)


def test_run_without_a_checkpoint_is_refused(config, tmp_path):
    save(config, tmp_path)
    with pytest.raises(UserError, match='there is no checkpoint'):
        predict.load(tmp_path, make_task)


def test_lines_of_the_readme(config, tmp_path, monkeypatch):
    save_run(make_task(config), tmp_path / 'runs' / 'unet_mp_tr_ce')
    flag().save(tmp_path / 'photo.jpg')
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(usage_code('predict.load('), names)
    assert names['probabilities'].shape == (1, 16, 16, 3)
