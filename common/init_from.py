"""Initial values from another run: its averaged weights and statistics, as far as the shapes agree."""

import pathlib

from flax import traverse_util

from common import workdir as workdir_lib
from common.checkpoint import restore
from common.config import checked
from common.errors import UserError, notice
from common.parallel import Devices, is_first
from common.task import Task, Variables


def from_run(task: Task, variables: Variables, workdir: pathlib.Path) -> Variables:
    """The variables with those of the run in `workdir` in their place; says which layers keep their drawn values.

    Args:
        variables: drawn for `task`: `params` and `batch_stats`.
    Raises:
        UserError: there is no such run, it is of another kind, or no layer of it fits.
    """
    stored = workdir_lib.load_config(workdir)
    if stored.get('task') != task.config.task:
        raise UserError(f'init_from: the run in {workdir} is a {stored.get("task")!r}, not a {task.config.task!r}')
    kind = type(task)
    found, step = restore(kind(checked(stored, kind.defaults())), workdir, Devices())
    old, new = (traverse_util.flatten_dict(dict(tree), sep='/') for tree in (found, variables))
    taken = {name: old[name] for name, value in new.items() if name in old and old[name].shape == value.shape}
    if not any(name.startswith('params/') for name in taken):
        raise UserError(f'init_from: no layer of the run in {workdir} has the shape of one of this model')
    if is_first():
        drawn = sorted({name.rpartition('/')[0].partition('/')[2] for name in set(new) - set(taken)})
        notice(
            f'init_from: {len(taken)} of {len(new)} arrays are those of {workdir} at step {step}; '
            f'drawn anew: {", ".join(drawn) or "none"}'
        )
    return traverse_util.unflatten_dict(new | taken, sep='/')
