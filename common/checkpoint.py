"""Checkpoints in WORKDIR/checkpoints (orbax), each with checksums of its own."""

import contextlib
import pathlib
from typing import Any
import zlib

from absl import logging
import jax
import numpy as np
import orbax.checkpoint as ocp

from common.errors import UserError, notice
from common.parallel import Devices
from common.task import Task, Variables

OTHER_VERSION = (
    'the checkpoints in {} are of another version of this program, or not of its config.json; use the '
    'version that wrote them'
)
BEST = 'best'  # The folder of the best state in a work directory, where the configuration keeps one.
KEEP = 2  # Checkpoints: if the last one is damaged, there is an older one.


class Checkpoints:
    """Saves and restores the state of a run; saves run in the background.

    A checkpoint is complete or absent. Orbax does not detect flipped bits, so a checksum of every array is stored and
    compared on reading.
    """

    def __init__(self, workdir: pathlib.Path, read_only: bool = False):
        self.directory = (workdir / 'checkpoints').absolute()
        options = {'read_only': True, 'create': False, 'save_interval_steps': 0} if read_only else {'max_to_keep': KEEP}
        with no_warnings():  # Orbax warns about read_only, which is meant here.
            self.manager = ocp.CheckpointManager(self.directory, options=ocp.CheckpointManagerOptions(**options))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with self.writing():
            self.manager.close()

    def latest_step(self) -> int | None:
        return self.manager.latest_step()

    def save(self, step: int, items: dict[str, Any]) -> None:
        """Starts writing copies of the named trees of arrays, after the previous save has ended."""
        if step != self.latest_step():
            items = jax.tree.map(np.array, items)  # Orbax refuses arrays that only one process holds, as pmap returns.
            with self.writing():
                self.manager.save(
                    step,
                    args=ocp.args.Composite(
                        **{name: ocp.args.StandardSave(tree) for name, tree in items.items()},
                        checksums=ocp.args.JsonSave(checksums(items)),
                    ),
                )

    def drop_after(self, step: int) -> None:
        """Deletes the checkpoints of later steps."""
        for later in self.manager.all_steps():
            if later > step:
                self.manager.delete(later)

    def wait(self) -> None:
        """Returns when all is written."""
        with self.writing():
            self.manager.wait_until_finished()

    @contextlib.contextmanager
    def writing(self):
        """Raises UserError if this checkpoint, or the previous one in the background, cannot be written."""
        try:
            yield
        except (OSError, ValueError) as error:
            step = last_step(self.directory.parent) or 0
            reason = ' '.join(str(error).split())[-150:]
            raise UserError(
                f'a checkpoint cannot be written to {self.directory} ({reason}); make room and start '
                f'again to resume from step {step}'
            ) from error

    def restore(self, items: dict[str, Any]) -> dict[str, Any]:
        """Reads the named trees of the latest checkpoint.

        Args:
            items: for each name a template, a dictionary of trees of arrays or of `jax.ShapeDtypeStruct` with a
                sharding. None in place of a tree stands for what is stored, which is returned as NumPy arrays.
        Raises:
            UserError: there is none, or it is damaged. An older checkpoint is never used silently.
        """
        step = self.latest_step()
        if step is None:
            raise UserError(
                f'there is no checkpoint in {self.directory}; train first: '
                'python main.py --config=<config file> --workdir=<this work directory>'
            )
        self.check_whole(step, items)
        try:
            described = {name: self.described(step, name) for name in items}
            items = {name: completed_template(tree, described[name]) for name, tree in items.items()}
            for name, tree in items.items():
                self.check_types(step, tree, described[name])
            stored = self.manager.restore(
                step,
                args=ocp.args.Composite(
                    **{name: ocp.args.StandardRestore(tree) for name, tree in items.items()},
                    checksums=ocp.args.JsonRestore(),
                ),
            )
            found = checksums({name: stored[name] for name in items})
        except (MemoryError, jax.errors.JaxRuntimeError, UserError):
            raise
        except PermissionError as error:
            raise UserError(f'{error.filename} may not be read; ask its owner') from error
        except Exception as error:  # orbax and tensorstore raise many types for unreadable files.
            if 'tree structures do not match' in str(error):
                raise UserError(OTHER_VERSION.format(self.directory)) from error
            raise self.damaged(step, f'{type(error).__name__}: {error}') from error
        wrong = sorted(name for name in found if found[name] != stored['checksums'].get(name))
        if wrong:
            raise self.damaged(step, f'the checksum of {wrong[0]} differs')
        return {name: stored[name] for name in items}

    def check_whole(self, step: int, items: dict[str, Any]) -> None:
        """Raises UserError where training would go on from a shared copy, which has averaged weights alone."""
        stored = {path.name for path in (self.directory / str(step)).iterdir()}
        if 'average' in stored and 'training' in {*items} - stored:
            raise UserError(
                f'{self.directory.parent} is a shared copy, with averaged weights alone; start a run of its own '
                f'with --config.init_from={self.directory.parent} and another --workdir'
            )

    def described(self, step: int, name: str) -> dict[str, Any]:
        """Shapes and types of the arrays in a stored tree."""
        metadata = ocp.StandardCheckpointHandler().metadata(self.directory / str(step) / name)
        return getattr(metadata, 'tree', metadata)

    def check_types(self, step: int, tree: dict[str, Any], stored: dict[str, Any]) -> None:
        """Raises UserError where an array of a template has another shape or type than the stored one."""
        kinds = [
            {
                jax.tree_util.keystr(path): (leaf.shape, np.dtype(leaf.dtype).name)
                for path, leaf in jax.tree.flatten_with_path(tree, is_leaf=lambda leaf: hasattr(leaf, 'dtype'))[0]
            }
            for tree in (stored, tree)
        ]
        for path in set(kinds[0]) & set(kinds[1]):
            (old_shape, old_type), (shape, new_type) = kinds[0][path], kinds[1][path]
            if tuple(old_shape) != tuple(shape):
                raise UserError(OTHER_VERSION.format(self.directory))
            if old_type != new_type:
                raise UserError(
                    f'the checkpoint of step {step} in {self.directory} holds {old_type} values, and '
                    f'this process computes in {new_type}; set the variable JAX_ENABLE_X64 as in '
                    'training (1 for float64, else not at all)'
                )

    def damaged(self, step: int, reason: str) -> UserError:
        older = [s for s in self.manager.all_steps() if s < step]
        remedy = (
            f'remove {self.directory / str(step)} to go on from step {max(older)}'
            if older
            else f'there is no older one; remove {self.directory} to start again'
        )
        return UserError(f'the checkpoint of step {step} is damaged ({" ".join(reason.split())[:200]}); {remedy}')


def completed_template(tree: dict[str, Any], stored: dict[str, Any]) -> dict[str, Any]:
    """A template, with zeros in the shapes of what is stored in place of None."""
    return {
        key: jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), stored.get(key)) if value is None else value
        for key, value in tree.items()
    }


def last_step(workdir: pathlib.Path) -> int | None:
    """The step of the last whole checkpoint; one that is being written has more than the step in its name."""
    return max((int(path.name) for path in (workdir / 'checkpoints').glob('*') if path.name.isdecimal()), default=None)


def is_shared(workdir: pathlib.Path) -> bool:
    """Whether the last checkpoint has averaged weights alone, as shared copies do; also where there is none."""
    return not (workdir / 'checkpoints' / str(last_step(workdir)) / 'training').exists()


def restore(task: Task, workdir: pathlib.Path, devices: Devices) -> tuple[Variables, int]:
    """The averaged variables of a run, on all devices, and their step. Raises UserError without any.

    They are those of the best checkpoint where the configuration keeps one, else of the latest.
    """
    if task.config.checkpoint.best:
        if last_step(workdir / BEST) is not None:
            workdir = workdir / BEST
        elif not is_shared(workdir):  # A shared copy has the best state in place of the latest.
            notice(f'{workdir} has kept no best state yet; this is the latest')
    variables = jax.eval_shape(task.init, jax.random.key(task.config.seed))
    template = {'params': variables['params'], 'batch_stats': variables.get('batch_stats', {})}
    with Checkpoints(workdir, read_only=True) as checkpoints:
        return checkpoints.restore({'average': devices.placed(template)})['average'], checkpoints.latest_step()


@contextlib.contextmanager
def no_warnings():
    """Hides what libraries log through absl, errors excepted."""
    before = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        logging.set_verbosity(before)


def checksums(tree) -> dict[str, int]:
    """CRC-32 of the bytes of every array, by its path in the tree."""
    leaves, _ = jax.tree.flatten_with_path(tree)
    return {jax.tree_util.keystr(path): zlib.crc32(np.ascontiguousarray(leaf).tobytes()) for path, leaf in leaves}
