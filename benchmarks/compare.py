"""One work on all sides: the same weights and batch, then turns in rounds, and what comes out as a row."""

import contextlib
import pathlib
import shutil
import statistics
import subprocess
from typing import Any, NamedTuple

from benchmarks import works
from benchmarks.side import Side
from common.errors import UserError, notice

TOLERANCE = {'float32': 2e-3, 'bfloat16': 5e-2}  # Relative, of the first step's loss and gradient norm.
ACCELERATOR_TOLERANCE = 2e-2  # Of float32 there, whose products have TensorFloat-32's precision.


class Machine(NamedTuple):
    """What is measured on.

    Attributes:
        device: its name. accelerator: whether it is more than a CPU.
        candidates: ways to run PyTorch. versions: of what runs.
        ceilings: the best GFLOP/s of a matrix product that either side reaches, by the types to measure.
    """

    device: str
    accelerator: bool
    candidates: list[str]
    versions: dict[str, str]
    ceilings: dict[str, float]


def probe(dtypes: list[str] | None) -> Machine:
    """Asks both sides where they run, and how fast they multiply matrices there.

    Args:
        dtypes: the types to measure; by default float32, and on an accelerator bfloat16 as well.
    Raises:
        UserError: they run on different kinds of device.
    """
    with Side('benchmarks.ours', 'Device') as ours, Side('benchmarks.theirs', 'Device') as theirs:
        here, there = ours('describe'), theirs('describe')
        accelerator = here['backend'] != 'cpu'
        if accelerator != (there['backend'] != 'cpu'):
            raise UserError(f'JAX runs on {here["backend"]} and PyTorch on {there["backend"]}; install both for '
                            'one device, or set JAX_PLATFORMS=cpu and CUDA_VISIBLE_DEVICES= to compare on CPU')
        dtypes = dtypes or (['float32', 'bfloat16'] if accelerator else ['float32'])
        ceilings = {dtype: max(side('ceiling', dtype) for side in (ours, theirs)) for dtype in dtypes}
    versions = {'commit': commit(), 'jax': here['jax'], 'torch': there['torch']}
    return Machine(here['device'], accelerator, there['candidates'], versions, ceilings)


def commit() -> str:
    """The commit that is measured, with '-dirty' where code differs from it; '' outside a repository or without git."""
    if not shutil.which('git'):
        return ''

    def git(*command):
        root = pathlib.Path(__file__).parent.parent
        return subprocess.run(['git', *command], cwd=root, capture_output=True, text=True).stdout.strip()

    changed = git('status', '--porcelain', '--untracked-files=no', '--', '.', ':!docs')
    return git('describe', '--always') + ('-dirty' if changed else '')


def both_modes(work: works.Work, machine: Machine, rounds: int, seconds: float) -> list[dict[str, Any]]:
    """Measures training steps and evaluation of one work; a row of each."""
    with contextlib.ExitStack() as stack:
        sides, first_steps, dropped = start(work, machine, stack)
        train = take_turns(work, 'train', sides, dropped, rounds, seconds)
        memory = {name: side('peak_memory') for name, side in sides.items()}
        evaluation = take_turns(work, 'eval', sides, dropped, rounds, seconds)
    common = {'device': machine.device, 'dtype': work.config.dtype, 'versions': machine.versions,
              'ceiling_gflops': machine.ceilings[work.config.dtype]}
    return [train | {'first_step_seconds': first_steps, 'peak_mib': memory} | common, evaluation | common]


def start(work: works.Work, machine: Machine, stack: contextlib.ExitStack):
    """The sides after their first step, the seconds that it took, and why others were left out, by name.

    Raises:
        UserError: PyTorch as it comes cannot run the work, or does not compute the same.
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
            # The eager candidate is PyTorch as it comes; the others may have whatever makes them fast.
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
    """Notes why a way to run PyTorch is not measured. Raises UserError for the one that all is compared with."""
    if name == 'eager':
        raise UserError(f'PyTorch cannot run {work.name}: {error}') from error
    dropped[name] = str(error)
    notice(f'{work.name}: PyTorch as {name!r} is left out: {error}')


def check(found: list[float], expected: list[float], tolerance: float) -> None:
    """Raises UserError unless loss and gradient norm of the first step agree."""
    for what, there, here in zip(('loss', 'gradient norm'), found, expected, strict=True):
        if not abs(there - here) <= tolerance * abs(here):
            raise UserError(f'the {what} of the first step is {here:.6g} here and {there:.6g} there; '
                            'they do not compute the same function')


def take_turns(work: works.Work, mode: str, sides: dict[str, Side], dropped: dict[str, str], rounds: int,
               seconds: float) -> dict[str, Any]:
    """Times one mode in rounds, every other one backwards, so that no side always follows the same one.

    A way to run PyTorch that fails goes from `sides` to `dropped`. Raises UserError if ours or eager fails.
    """
    speeds = {name: [] for name in sides}
    for turn in range(rounds):
        for name in list(sides)[::-1 if turn % 2 else 1]:
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
    row = {'work': f'{work.name}_{mode}', 'ours': medians['ours'], 'torch_eager': medians['eager'],
           'torch_best': medians[best], 'torch_best_is': best}
    for against, name in (('eager', 'eager'), ('best', best)):
        ratios = [here / there for here, there in zip(speeds['ours'], speeds[name], strict=True)]
        row |= {f'ratio_to_{against}': statistics.median(ratios),
                f'ratio_to_{against}_range': [min(ratios), max(ratios)]}
    return row | {'gflop_per_image': sides['eager']('gflop', mode), 'images_per_second': speeds,
                  'dropped': dict(dropped)}
