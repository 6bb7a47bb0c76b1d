"""The only place that turns a work directory into a function of pictures."""

from collections.abc import Callable, Iterator, Sequence
import errno
import json
import pathlib
import sys
from typing import Any

import jax
import numpy as np
from PIL import Image, ImageOps

from common import workdir as workdir_lib
from common.checkpoint import restore
from common.data.images import Unreadable, read, resize_image, to_rgb
from common.errors import Incomplete, UserError
from common.parallel import Devices
from common.progress import progress_bar
from common.serving import photos

REFUSED_NAMES = (errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ, errno.EISDIR)  # Errors of one file; others may work.
BATCH = 8  # Photos are held at their own size, which may be large.


class Predictor:
    """A trained model: pictures of any size go in, what `task.predict` returns comes out.

    Attributes:
        task: the task that was trained.
        variables: its averaged parameters and statistics, on one device.
        step: how many steps it was trained.
        name: the name of its work directory, where it has one.
    """

    def __init__(self, task, variables, step: int, name: str = ''):
        self.task, self.variables, self.step, self.name = task, variables, step, name
        self.compiled = jax.jit(task.predict)

    def __call__(self, pictures: Sequence | np.ndarray, labels: Any = None) -> np.ndarray:
        """Predicts for a list of pictures; a model that takes labels needs one for each.

        Args:
            pictures: uint8 arrays `[H, W]` or `[H, W, C]`, also stacked, or Pillow images; each is squashed
                to the size of the model.
            labels: integers `[B]`, what each picture is to become.
        Returns:
            `[B, ...]` at the size of the model: see the `predict` of the task.
        Raises:
            UserError: a picture is none, or the labels do not fit.
        """
        if not len(pictures):
            raise UserError('there is no picture to predict for')
        inputs = [np.stack([self.fit(picture) for picture in pictures])]
        if self.task.takes_labels:
            inputs.append(self.checked_labels(labels, len(pictures)))
        elif labels is not None:
            raise UserError('this model takes pictures alone; leave the labels out')
        size = self.task.config.eval_batch_size
        return np.concatenate(
            [
                self.compiled(self.variables, *(x[start : start + size] for x in inputs))
                for start in range(0, len(pictures), size)
            ]
        )

    def fit(self, picture) -> np.ndarray:
        """A picture as uint8 `[S, S, C]`, resized as for training."""
        if not isinstance(picture, Image.Image):
            picture = to_picture(np.asarray(picture))
        picture = to_rgb(ImageOps.exif_transpose(picture)).convert('L' if self.task.channels == 1 else 'RGB')
        array = np.asarray(picture).reshape(picture.height, picture.width, self.task.channels)
        return resize_image(array, self.task.config.data.image_size)

    def checked_labels(self, labels, count: int) -> np.ndarray:
        """Labels as int32 `[B]`. Raises UserError unless there is a known one for each picture."""
        labels = np.asarray([] if labels is None else labels)
        if labels.shape != (count,) or not np.isin(labels, np.arange(len(self.task.classes))).all():
            raise UserError(
                f'this model needs a label from 0 to {len(self.task.classes) - 1} for each of the {count} pictures'
            )
        return labels.astype(np.int32)

    def present(self, pictures: list[Image.Image], labels: Sequence[int]) -> Iterator[tuple[dict, dict]]:
        """For each picture, what to show (images by name) and what to note: see the `present` of the task.

        A model that takes labels predicts each picture once a label.
        """
        if not pictures:
            return
        fitted = np.stack([self.fit(picture) for picture in pictures])
        if self.task.takes_labels:
            outputs = self(np.repeat(fitted, len(labels), axis=0), np.tile(labels, len(pictures)))
            outputs = outputs.reshape(len(pictures), len(labels), *outputs.shape[1:])
        else:
            outputs = self(fitted)
        for picture, output in zip(pictures, outputs, strict=True):
            yield self.task.present(picture, output, labels)


def to_picture(array: np.ndarray) -> Image.Image:
    """uint8 `[H, W]` or `[H, W, C]`, 1, 3 or 4 channels, as a Pillow image. Raises UserError for others."""
    if array.dtype != np.uint8 or array.shape[2:] not in ((), (1,), (3,), (4,)) or 0 in array.shape:
        raise UserError(f'a picture is uint8 [height, width, channels], not {array.dtype} {array.shape}')
    return Image.fromarray(array[..., 0] if array.shape[2:] == (1,) else array)


def load(workdir: str | pathlib.Path, make_task: Callable) -> Predictor:
    """Restores the latest checkpoint of a run; `make_task` is that of main.py.

    Raises:
        UserError: the work directory holds no run or no checkpoint, or a damaged one.
    """
    workdir = pathlib.Path(workdir)
    return restored(make_task(workdir_lib.load_config(workdir)), workdir)


def restored(task, workdir: pathlib.Path) -> Predictor:
    """A task with the latest checkpoint of its run. Raises UserError where there is none, or a damaged one."""
    variables, step = restore(task, workdir, Devices())
    variables = jax.device_put(jax.tree.map(np.asarray, variables))  # On one device.
    return Predictor(task, variables, step, workdir.resolve().name)


def choose_labels(task, names: list[str]) -> list[int]:
    """The labels that --labels names; all where it names none. Raises UserError for unknown ones."""
    if names and not task.takes_labels:
        raise UserError('this model takes pictures alone; leave --labels out')
    unknown = [name for name in names if name not in task.classes]
    if unknown:
        raise UserError(f'there is no label {unknown[0]!r}; --labels takes some of {",".join(task.classes)}')
    return [task.classes.index(name) for name in dict.fromkeys(names or task.classes)]


def predict_files(predictor: Predictor, sources: list[str], output: pathlib.Path, labels: list[str]) -> int:
    """Predicts for files and folders, and writes OUTPUT/NAME.*.png and OUTPUT/predictions.jsonl.

    Returns:
        The number of photos.
    Raises:
        UserError: there is nothing to read, or `output` cannot be written.
        Incomplete: some files are no pictures or damaged; all others are done.
    """
    if not sources:
        raise UserError('name photos or folders of them: --input=photo.jpg,folder/')
    chosen = choose_labels(predictor.task, labels)
    found = photos.find(sources, output)
    done = 0
    try:
        output.mkdir(parents=True, exist_ok=True)
        with (output / 'predictions.jsonl').open('w') as lines, progress_bar(len(found), 0, ' photos') as bar:
            for start in range(0, len(found), BATCH):
                batch = found[start : start + BATCH]
                pictures = readable(batch, bar)
                shown = predictor.present(list(pictures.values()), chosen)
                for photo, (images, record) in zip(pictures, shown, strict=True):
                    try:
                        files = save(images, output, photo.name)
                    except OSError as error:
                        if error.errno not in REFUSED_NAMES:
                            raise
                        bar.write(f'skipped {photo.path}: cannot write {error.filename} ({error.strerror})', sys.stderr)
                        continue
                    lines.write(json.dumps({'input': str(photo.path), 'files': files, **record}) + '\n')
                    done += 1
                bar.update(len(batch))
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f'cannot write to {output} ({reason}); {done} photos are done') from error
    if done < len(found):
        raise Incomplete(
            f'{len(found) - done} of {len(found)} files could not be read or written; what is predicted '
            f'for {done} is in {output}'
        )
    return done


def readable(batch: Sequence[photos.Photo], bar) -> dict[photos.Photo, Image.Image]:
    """The photos that can be read; names the others."""
    pictures = {}
    for photo in batch:
        try:
            pictures[photo] = read(photo.path)
            if 'read_as' in pictures[photo].info:
                bar.write(f'{photo.path}: {pictures[photo].info["read_as"]}', file=sys.stderr)
        except Unreadable as error:
            bar.write(f'skipped {photo.path}: {error}', file=sys.stderr)
    return pictures


def save(images: dict[str, Image.Image], output: pathlib.Path, name: str) -> dict[str, str]:
    """Writes OUTPUT/NAME.KIND.png for each kind of image; returns the paths relative to `output`."""
    files = {kind: f'{name}.{kind.replace("/", "_")}.png' for kind in images}
    for kind, file in files.items():
        (output / file).parent.mkdir(parents=True, exist_ok=True)
        images[kind].save(output / file)
    return files
