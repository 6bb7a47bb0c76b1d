"""Compares the speed of this project with PyTorch on the same work.

python -m benchmarks.bench                                     the networks of the main table
python -m benchmarks.bench --work=growth                       one U-Net at growing images and batches
python -m benchmarks.bench --work=loop                         the training loop against the step alone
python -m benchmarks.bench --work=decode                       decoding of photographs of full size
python -m benchmarks.bench --quick                             every kind of network at a tiny size; writes nothing
"""

import itertools
import json
import pathlib
import sys

from absl import flags

from benchmarks import compare, decode, loop, tables, works
from common import cli
from common.errors import Incomplete, UserError, check_choice, notice

WORK = flags.DEFINE_string('work', 'models', "'models', 'growth', 'loop', 'decode', or part of the name of a work.")
DTYPES = flags.DEFINE_list('dtypes', None, 'Types to measure; by default float32, on an accelerator also bfloat16.')
SIDES = flags.DEFINE_list('sides', None, 'Ways to run PyTorch; by default all. Compilation takes minutes on a CPU.')
ROUNDS = flags.DEFINE_integer('rounds', 7, 'Number of rounds; each side has one turn per round.', lower_bound=1)
SECONDS = flags.DEFINE_float('seconds', 8.0, 'Length of each turn.', lower_bound=0.0)
QUICK = flags.DEFINE_bool('quick', False, 'Run tiny works for a moment, as a check.')
OUTPUT = flags.DEFINE_string(
    'output',
    'docs',
    'Folder for speed.json (speed_some_sides.json with --sides), '
    'speed_growth.json, speed_loop.json and speed_decode.json.',
)


def main() -> None:
    rounds, seconds = (1, 0.05) if QUICK.value else (ROUNDS.value, SECONDS.value)
    if WORK.value in ('loop', 'decode') and (DTYPES.value or SIDES.value):
        raise UserError(f'--dtypes and --sides do not apply to --work={WORK.value}; leave them out')
    if WORK.value == 'decode':
        rows = [decode.measure(rounds, QUICK.value)]
        print(tables.decode(rows))
        return write('speed_decode.json', rows)
    if WORK.value == 'loop':
        rows = [loop.measure(rounds, seconds, QUICK.value)]
        print(tables.loop(rows))
        return write('speed_loop.json', rows)
    machine = probe()
    versions = ', '.join(f'{name} {version}' for name, version in machine.versions.items())
    notice(f'measuring on {machine.device}, {versions}')
    rows, failures = [], []
    for work, dtype in itertools.product(chosen(machine.accelerator), machine.ceilings):
        try:
            measured = compare.both_modes(works.in_dtype(work, dtype), machine, rounds, seconds)
        except UserError as error:
            notice(f'{work.name} in {dtype} is not measured: {error}')
            failures.append(f'{work.name} in {dtype}')
            continue
        print(tables.speed(measured), flush=True)
        write(file_of(work, machine.accelerator), measured)  # Now, because a later work may be interrupted.
        rows += measured
    print(tables.sides(rows))
    if WORK.value == 'growth':
        print(f'\n{tables.growth(rows)}')
    if failures:
        raise Incomplete(f'not measured: {"; ".join(failures)}; the reasons are above')


def probe() -> compare.Machine:
    """The machine, with the chosen sides. Raises UserError for unknown types or sides."""
    for dtype in DTYPES.value or ():
        check_choice('--dtypes', dtype, compare.TOLERANCE)
    machine = compare.probe(DTYPES.value)
    for side in SIDES.value or ():
        check_choice('--sides', side, machine.candidates)
    if not SIDES.value:
        return machine
    return machine._replace(candidates=['eager', *(side for side in SIDES.value if side != 'eager')])


def chosen(accelerator: bool) -> list[works.Work]:
    """The works that --work selects. Raises UserError if there are none."""
    if QUICK.value:
        return works.tiny()
    if WORK.value in ('models', 'growth'):
        return works.growth() if WORK.value == 'growth' else works.models(accelerator)
    found = [work for work in works.models(accelerator) + works.growth() if WORK.value in work.name]
    if not found:
        names = ', '.join(work.name for work in works.models(accelerator) + works.growth())
        raise UserError(f'--work={WORK.value} matches no work; choose from models, growth, loop, decode, {names}')
    return list({work.name: work for work in found}.values())


def file_of(work: works.Work, accelerator: bool) -> str:
    """The name of the file for the rows of a work."""
    if WORK.value == 'growth' or work.name not in [model.name for model in works.models(accelerator)]:
        return 'speed_growth.json'
    return 'speed_some_sides.json' if SIDES.value else 'speed.json'


def write(name: str, rows: list[dict]) -> None:
    """Writes the rows over earlier ones of the same work, device and type; does nothing with --quick."""

    def key(row):
        return row['work'], row['device'], row['dtype']

    if QUICK.value:
        return
    path = pathlib.Path(OUTPUT.value) / name
    earlier = json.loads(path.read_text()) if path.exists() else []
    path.parent.mkdir(parents=True, exist_ok=True)
    known = {key(row): row for row in [*earlier, *rows]}  # A row that is measured again keeps its place.
    path.write_text(json.dumps(list(known.values()), indent=1) + '\n')
    print(f'written to {path}')


if __name__ == '__main__':
    sys.exit(cli.run(main, sys.argv))
