"""Times the product against PyTorch on the same work, side by side.

    python -m benchmarks.bench                                     the networks of the main table
    python -m benchmarks.bench --work=growth                       one U-Net at growing images and batches
    python -m benchmarks.bench --work=loop                         the whole loop against the bare step
    python -m benchmarks.bench --work=decode                       photographs of full size to arrays
    python -m benchmarks.bench --quick                             every kind of network, tiny; writes nothing
"""

import itertools
import json
import pathlib
import sys

from absl import flags

from benchmarks import compare, decode, loop, tables, works
from common import cli
from common.errors import Incomplete, UserError, check_choice, notice

WORK = flags.DEFINE_string('work', 'models', "'models', 'growth', 'loop', 'decode', or a part of the name of works.")
DTYPES = flags.DEFINE_list('dtypes', None, 'By default float32, and bfloat16 as well on an accelerator.')
SIDES = flags.DEFINE_list('sides', None, 'Ways to run PyTorch, by default all; compiling takes it minutes on CPU.')
ROUNDS = flags.DEFINE_integer('rounds', 7, 'How often the sides take turns.', lower_bound=1)
SECONDS = flags.DEFINE_float('seconds', 8.0, 'Of each turn.', lower_bound=0.0)
QUICK = flags.DEFINE_bool('quick', False, 'Tiny works and turns, to see that they run.')
OUTPUT = flags.DEFINE_string('output', 'docs', 'Where speed.json goes (and speed_some_sides.json with --sides, and '
                             'speed_growth.json, speed_loop.json, speed_decode.json).')


def main() -> None:
    rounds, seconds = (1, 0.05) if QUICK.value else (ROUNDS.value, SECONDS.value)
    if WORK.value in ('loop', 'decode') and (DTYPES.value or SIDES.value):
        raise UserError(f'--dtypes and --sides are not for --work={WORK.value}')
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
        write(file_of(work, machine.accelerator), measured)  # What follows may be stopped.
        rows += measured
    print(tables.sides(rows))
    if WORK.value == 'growth':
        print(f'\n{tables.growth(rows)}')
    if failures:
        raise Incomplete(f'not measured: {"; ".join(failures)}; the reasons are above')


def probe() -> compare.Machine:
    """What is measured on, with the chosen sides. Raises UserError for unknown ones."""
    for dtype in DTYPES.value or ():
        check_choice('--dtypes', dtype, compare.TOLERANCE)
    machine = compare.probe(DTYPES.value)
    for side in SIDES.value or ():
        check_choice('--sides', side, machine.candidates)
    if not SIDES.value:
        return machine
    return machine._replace(candidates=['eager', *(side for side in SIDES.value if side != 'eager')])


def chosen(accelerator: bool) -> list[works.Work]:
    """The works that --work names. Raises UserError if there is none."""
    if QUICK.value:
        return works.tiny()
    if WORK.value in ('models', 'growth'):
        return works.growth() if WORK.value == 'growth' else works.models(accelerator)
    found = [work for work in works.models(accelerator) + works.growth() if WORK.value in work.name]
    if not found:
        names = ', '.join(work.name for work in works.models(accelerator) + works.growth())
        raise UserError(f"--work={WORK.value} names no work; there are 'models', 'growth', 'loop', 'decode', {names}")
    return list({work.name: work for work in found}.values())


def file_of(work: works.Work, accelerator: bool) -> str:
    """Where the rows of a work belong."""
    if WORK.value == 'growth' or work.name not in [model.name for model in works.models(accelerator)]:
        return 'speed_growth.json'
    return 'speed_some_sides.json' if SIDES.value else 'speed.json'


def write(name: str, rows: list[dict]) -> None:
    """Puts the rows in place of earlier ones of the same work, device and type, unless --quick was given."""
    def key(row):
        return row['work'], row['device'], row['dtype']

    if QUICK.value:
        return
    path = pathlib.Path(OUTPUT.value) / name
    earlier = json.loads(path.read_text()) if path.exists() else []
    path.parent.mkdir(parents=True, exist_ok=True)
    known = {key(row): row for row in [*earlier, *rows]}  # Measured anew, a row keeps its place.
    path.write_text(json.dumps(list(known.values()), indent=1) + '\n')
    print(f'written to {path}')


if __name__ == '__main__':
    sys.exit(cli.run(main, sys.argv))
