"""A small copy of a run, for others: it predicts, evaluates, exports and initialises runs, but does not resume."""

from collections.abc import Callable
import pathlib
import shutil

from ml_collections import ConfigDict

from common import workdir as workdir_lib
from common.checkpoint import Checkpoints, restore
from common.errors import UserError
from common.parallel import Devices
from common.task import Task

TEXTS = (workdir_lib.CONFIG, workdir_lib.RESULTS, workdir_lib.RUN)


def share(workdir: pathlib.Path, folder: pathlib.Path, make_task: Callable[[ConfigDict], Task]) -> pathlib.Path:
    """Writes the configuration, results and averaged variables of a run to `folder`, with the runs that it names.

    Raises:
        UserError: the run is not finished, or `folder` is not empty or cannot be written.
    """
    if not workdir_lib.is_finished(workdir):
        raise UserError(f'the run in {workdir} is not finished; start it again to finish it')
    try:
        if folder.exists() and any(folder.iterdir()):
            raise UserError(f'{folder} is not empty; choose another --output')
        copy(workdir, folder, make_task)
    except OSError as error:
        raise UserError(f'cannot write to {folder} ({error.strerror}); choose another --output') from error
    return folder


def copy(workdir: pathlib.Path, folder: pathlib.Path, make_task: Callable[[ConfigDict], Task]) -> None:
    """Copies a run and, below it, the runs that it names."""
    folder.mkdir(parents=True, exist_ok=True)
    config = workdir_lib.load_config(workdir)
    variables, step = restore(make_task(config), workdir, Devices())
    with Checkpoints(folder) as checkpoints:
        checkpoints.save(step, {'average': variables})
    for marker in folder.rglob('commit_success.txt'):
        marker.unlink()  # Only cloud storage needs it, and it contains the path of `folder`.
    for name in TEXTS:
        if (workdir / name).exists():
            shutil.copy(workdir / name, folder)
    for named in workdir_lib.copies(config, workdir).values():
        copy(named, folder / named.name, make_task)
