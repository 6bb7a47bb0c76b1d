"""Measures one work on all sides, which take turns from the same weights and batch, and returns rows of results."""

import contextlib
import pathlib
import shutil
import statistics
import subprocess
from typing import Any, NamedTuple

from benchmarks import works
from benchmarks.side import Side
from common.errors import UserError, notice

TOLERANCE = {'float32': 2e-3, 'bfloat16': 5e-2}  # Relative; for loss and gradient norm of the first step.
ACCELERATOR_TOLERANCE = 2e-2  # For float32, where products have the precision of TensorFloat-32.


class Machine(NamedTuple):
    """The machine that is measured.

    Attributes:
        device: its name.
        accelerator: whether it is a GPU or TPU.
        candidates: the ways to run PyTorch.
        versions: those of the code and of both libraries.
        ceilings: for each type, the best GFLOP/s of a matrix product on either side.
    """

    device: str
    accelerator: bool
    candidates: list[str]
    versions: dict[str, str]
    ceilings: dict[str, float]


def probe(dtypes: list[str] | None) -> Machine:
    """The device and versions of both sides, and their speed in matrix products.

    Args:
        dtypes: the types to measure; by default float32, and on an accelerator bfloat16 as well.
    Raises:
        UserError: they run on different kinds of device.
    """
    with Side('benchmarks.ours', 'Device') as ours, Side('benchmarks.theirs', 'Device') as theirs:
        here, there = ours('describe'), theirs('describe')
        accelerator = here['backend'] != 'cpu'
        if accelerator != (there['backend'] != 'cpu'):
            raise UserError(
                f'JAX runs on {here["backend"]} and PyTorch on {there["backend"]}; install both for '
                'one device, or set JAX_PLATFORMS=cpu and CUDA_VISIBLE_DEVICES= to compare on CPU'
            )
        dtypes = dtypes or (['float32', 'bfloat16'] if accelerator else ['float32'])
        ceilings = {dtype: max(side('ceiling', dtype) for side in (ours, theirs)) for dtype in dtypes}
    versions = {'commit': commit(), 'jax': here['jax'], 'torch': there['torch']}
    return Machine(here['device'], accelerator, there['candidates'], versions, ceilings)


def commit() -> str:
    """The commit, with '-dirty' if the code differs from it; '' outside a repository or without git."""
    if not shutil.which('git'):
        return ''

    def git(*command):
        root = pathlib.Path(__file__).parent.parent
        return subprocess.run(['git', *command], cwd=root, capture_output=True, text=True).stdout.strip()

    changed = git('status', '--porcelain', '--untracked-files=no', '--', '.', ':!docs')
    return git('describe', '--always') + ('-dirty' if changed else '')


def both_modes(work: works.Work, machine: Machine, rounds: int, seconds: float) -> list[dict[str, Any]]:
    """Measures training and evaluation of one work; returns a row for each."""
    with contextlib.ExitStack() as stack:
        sides, first_steps, dropped = start(work, machine, stack)
        train = take_turns(work, 'train', sides, dropped, rounds, seconds)
        memory = {name: side('peak_memory') for name, side in sides.items()}
        evaluation = take_turns(work, 'eval', sides, dropped, rounds, seconds)
    common = {
        'device': machine.device,
        'dtype': work.config.dtype,
        'versions': machine.versions,
        'ceiling_gflops': machine.ceilings[work.config.dtype],
    }
    return [train | {'first_step_seconds': first_steps, 'peak_mib': memory} | common, evaluation | common]


def start(work: works.Work, machine: Machine, stack: contextlib.ExitStack):
    """Starts the sides, and runs and compares their first steps.

    Returns:
        The sides, the seconds of their first step, and the reasons why others were left out, each by name.
    Raises:
        UserError: eager PyTorch cannot run the work, or computes something else.
    """
    ours = stack.enter_context(Side('benchmarks.ours', 'Ours', work))
    reference = ours('reference')
    *expected, seconds = ours('first_step')
    sides, first_steps, dropped = {'ours': ours}, {'ours': seconds}, {}
    rough = machine.accelerator and work.config.dtype == 'float32'
    tolerance = ACCELERATOR_TOLERANCE if rough else TOLERANCE[work.config.dtype]
    for name in machine.candidates:
        side = None
        try:
            # Eager is PyTorch with its defaults; the others also get huge pages.
            side = stack.enter_context(Side('benchmarks.theirs', 'Theirs', work, name, huge_pages=name != 'eager'))
            side('load', reference)
            *found, seconds = side('first_step', reference)
            check(found, expected, tolerance)
            sides[name], first_steps[name] = side, seconds
        except UserError as error:
            if side:
                side.close()
            leave_out(work, name, error, dropped)
    return sides, first_steps, dropped


def leave_out(work: works.Work, name: str, error: UserError, dropped: dict[str, str]) -> None:
    """Records why a way to run PyTorch is not measured. Raises UserError for eager, which every ratio needs."""
    if name == 'eager':
        raise UserError(f'PyTorch cannot run {work.name}: {error}') from error
    dropped[name] = str(error)
    notice(f'{work.name}: {name!r} of PyTorch is left out: {error}')


def check(found: list[float], expected: list[float], tolerance: float) -> None:
    """Raises UserError unless loss and gradient norm of the first step agree."""
    for what, there, here in zip(('loss', 'gradient norm'), found, expected, strict=True):
        if not abs(there - here) <= tolerance * abs(here):
            raise UserError(
                f'the {what} of the first step is {here:.6g} in JAX and {there:.6g} in PyTorch; '
                'they do not compute the same function'
            )


def take_turns(
    work: works.Work, mode: str, sides: dict[str, Side], dropped: dict[str, str], rounds: int, seconds: float
) -> dict[str, Any]:
    """Times one mode. Every other round runs in reverse order, so that no side always follows the same one.

    If a way to run PyTorch fails, it is moved from `sides` to `dropped`. Raises UserError if ours or eager fails.
    """
    speeds = {name: [] for name in sides}
    for turn in range(rounds):
        for name in list(sides)[:: -1 if turn % 2 else 1]:
            try:
                speeds[name].append(sides[name]('speed', mode, seconds))
            except UserError as error:
                if name == 'ours':
                    raise
                leave_out(work, name, error, dropped)
                sides.pop(name).close()
                del speeds[name]
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    best = max((name for name in sides if name != 'ours'), key=medians.get)
    row = {
        'work': f'{work.name}_{mode}',
        'ours': medians['ours'],
        'torch_eager': medians['eager'],
        'torch_best': medians[best],
        'torch_best_is': best,
    }
    for against, name in (('eager', 'eager'), ('best', best)):
        ratios = [here / there for here, there in zip(speeds['ours'], speeds[name], strict=True)]
        row |= {
            f'ratio_to_{against}': statistics.median(ratios),
            f'ratio_to_{against}_range': [min(ratios), max(ratios)],
        }
    return row | {
        'gflop_per_image': sides['eager']('gflop', mode),
        'images_per_second': speeds,
        'dropped': dict(dropped),
    }
