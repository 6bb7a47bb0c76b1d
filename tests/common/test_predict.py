"""People's own pictures: every kind of file in, masks and swaps of the right size out, and nothing lost."""

import json
import os
import pathlib
import struct
import zlib

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image
import pytest

from common import cli
from common.data.images import Unreadable, read
from common.errors import Incomplete, UserError
from common.serving import photos, predict
from main import make_task
from tests.helpers import run_command, save, save_run, usage_code
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
    picture[: height // 2] = RED
    picture[height // 2 :, : width // 2], picture[height // 2 :, width // 2 :] = GREEN, BLUE
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


@pytest.mark.parametrize(
    'name, picture',
    [
        ('rgb.jpg', lambda: Image.new('RGB', (9, 6), (90, 90, 90))),
        ('rgb.webp', lambda: Image.new('RGB', (9, 6), (90, 90, 90))),
        ('cmyk.jpg', lambda: Image.new('RGB', (9, 6), (90, 90, 90)).convert('CMYK')),
        ('grey.png', lambda: Image.new('L', (9, 6), 90)),
        ('palette.png', lambda: Image.new('RGB', (9, 6), (90, 90, 90)).quantize(4)),
        ('sixteen.png', lambda: Image.fromarray(np.full((6, 9), 90 * 256, np.uint16))),
        ('half_black.png', lambda: Image.new('LA', (9, 6), (0, 165))),
    ],
)
def test_every_kind_of_picture_becomes_rgb(tmp_path, name, picture):
    picture().save(tmp_path / name)
    image = read(tmp_path / name)
    assert image.mode == 'RGB' and image.size == (9, 6)
    np.testing.assert_allclose(np.asarray(image), 90, atol=2)


def test_bad_files_are_named_and_the_others_done(colors, tmp_path, monkeypatch, capsys):
    flag().save(tmp_path / 'good.jpg')
    whole = (tmp_path / 'good.jpg').read_bytes()
    for name, content in {'empty.jpg': b'', 'text.png': b'hello', 'cut.jpg': whole[: len(whole) // 2]}.items():
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


def test_hidden_files_and_earlier_output_are_left_out(tmp_path, capsys):
    for name in ('x.PNG', '.hidden/x.png', '.x.jpg', 'notes.txt', 'out/x.png.mask.png'):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = photos.find([str(tmp_path)], tmp_path / 'out')
    assert [photo.name for photo in found] == ['x.PNG']
    said = capsys.readouterr().err
    assert '1 files that are not' in said and 'notes.txt' in said


@pytest.mark.parametrize(
    'sources, output, message',
    [
        ([], 'out', 'name photos'),
        (['none.jpg'], 'out', 'there is no none.jpg'),
        (['empty'], 'out', 'empty holds no file'),
        (['empty'], 'empty', 'both --input and --output'),
        (['x.png'], 'x.png', 'cannot write to x.png'),
    ],
)
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


def test_batch_of_evaluation_may_be_a_flag(vae_runs, monkeypatch):
    """Memory may be short where the model is used."""
    sizes = []
    monkeypatch.setattr(
        predict, 'predict_files', lambda predictor, *_: sizes.append(predictor.task.config.eval_batch_size)
    )
    args = ['--mode=predict', f'--workdir={vae_runs / "vae"}', '--config.eval_batch_size=3']
    assert run_command(args) == 0 and sizes == [3]


def test_pictures_are_resized_as_for_training(config):
    from common.data.images import resize_image

    picture = np.random.default_rng(0).integers(0, 256, (50, 33, 3), np.uint8)
    fitted = predict.Predictor(ColorTask(config), {}, 7).fit(picture)
    np.testing.assert_array_equal(fitted, resize_image(picture, 16))


@pytest.mark.parametrize('picture', [np.zeros((4, 4, 3)), np.zeros((4, 4, 2), np.uint8), np.zeros((0, 4), np.uint8)])
def test_what_is_no_picture_is_refused(colors, picture):
    with pytest.raises(UserError, match='a picture is uint8'):
        colors([picture])


def test_vae_turns_a_picture_into_the_labels(vae_predictor, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16), np.uint8)
    Image.fromarray(pixels).resize((32, 32), Image.Resampling.NEAREST).save(tmp_path / 'digit.png')
    predict.predict_files(vae_predictor, [str(tmp_path / 'digit.png')], tmp_path / 'out', ['8', '3', '8'])
    record = json.loads((tmp_path / 'out' / 'predictions.jsonl').read_text())
    assert record['labels'] == ['8', '3']
    assert files_below(tmp_path / 'out') == [
        'digit.png.3.png',
        'digit.png.8.png',
        'digit.png.grid.png',
        'predictions.jsonl',
    ]

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
    ((images, record),) = predictor.present([Image.new('RGB', (40, 20))], [])
    assert not images and sum(record['probabilities'].values()) == pytest.approx(1, abs=1e-4)
    assert record['label'] == max(record['probabilities'], key=record['probabilities'].get)


def test_run_without_a_checkpoint_is_refused(config, tmp_path):
    save(config, tmp_path)
    with pytest.raises(UserError, match='there is no checkpoint'):
        predict.load(tmp_path, make_task)


def test_python_lines_of_the_guide_work_without_a_warning(config, tmp_path, monkeypatch, caplog):
    save_run(make_task(config), tmp_path / 'models' / 'pets')
    flag().save(tmp_path / 'photo.jpg')
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(usage_code('predict.load('), names)
    assert not caplog.records
    assert names['probabilities'].shape == (1, 16, 16, 3)


def test_linked_folders_are_followed(tmp_path, capsys):
    (tmp_path / 'elsewhere').mkdir()
    (tmp_path / 'elsewhere' / 'x.png').touch()
    photos_folder = tmp_path / 'photos'
    photos_folder.mkdir()
    (photos_folder / 'linked').symlink_to(tmp_path / 'elsewhere')
    (photos_folder / 'gone.png').symlink_to(tmp_path / 'nowhere.png')
    (photos_folder / 'linked' / 'loop').symlink_to(photos_folder)
    found = photos.find([str(photos_folder)], tmp_path / 'out')
    assert [photo.name for photo in found] == [os.path.join('linked', 'x.png')]
    said = capsys.readouterr().err
    assert 'gone.png: it links to a file that is not there' in said and 'loop: it links to' in said


def test_refused_output_name_does_not_stop_the_others(colors, tmp_path, capsys):
    longest = 'x' * (os.pathconf(tmp_path, 'PC_NAME_MAX') - 4) + '.png'
    for name in ('a.png', longest, 'z.png'):
        flag().save(tmp_path / name)
    with pytest.raises(Incomplete, match='1 of 3 files could not be read or written'):
        predict.predict_files(colors, [str(tmp_path)], tmp_path / 'out', [])
    assert f'skipped {tmp_path / longest}: cannot write' in capsys.readouterr().err
    assert len((tmp_path / 'out' / 'predictions.jsonl').read_text().splitlines()) == 2


@pytest.mark.parametrize('largest, bits', [(200, 8), (1000, 10), (4000, 12), (16000, 14), (65000, 16)])
def test_16_bit_grey_is_read_by_the_range_of_its_values(tmp_path, largest, bits):
    values = np.linspace(0, largest, 54).reshape(6, 9).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / 'x.png')
    picture = read(tmp_path / 'x.png')
    np.testing.assert_array_equal(np.asarray(picture)[..., 0], values >> (bits - 8))
    assert ('read_as' in picture.info) == (bits < 16)


def png(path, values, color_type, transparent):
    """Writes 16-bit values `[H, W, C]` with one transparent value, which Pillow cannot write."""

    def chunk(kind, content):
        return struct.pack('>I', len(content)) + kind + content + struct.pack('>I', zlib.crc32(kind + content))

    rows = b''.join(b'\0' + row.astype('>u2').tobytes() for row in values)
    header = struct.pack('>IIBBBBB', values.shape[1], values.shape[0], 16, color_type, 0, 0, 0)
    path.write_bytes(
        b'\x89PNG\r\n\x1a\n'
        + chunk(b'IHDR', header)
        + chunk(b'tRNS', np.array(transparent, '>u2').tobytes())
        + chunk(b'IDAT', zlib.compress(rows))
        + chunk(b'IEND', b'')
    )


@pytest.mark.parametrize('channels, color_type', [(1, 0), (3, 2)])
def test_transparent_16_bit_picture_is_white_there(tmp_path, channels, color_type):
    values = np.full((4, 5, channels), 0x5A00, np.uint16)
    values[1:3] = 0x7B40
    png(tmp_path / 'x.png', values, color_type, [0x7B40] * channels)
    found = np.asarray(read(tmp_path / 'x.png'))
    assert (found[1:3] == 255).all() and (found[[0, 3]] == 0x5A).all()


def test_dark_16_bit_colours_are_refused(tmp_path):
    values = np.full((4, 5, 3), 4000, np.uint16)
    png(tmp_path / 'x.png', values, 2, [0, 0, 0])
    with pytest.raises(Unreadable, match='16-bit colours use less than a quarter of their range'):
        read(tmp_path / 'x.png')
