"""Rows of measurements as Markdown tables."""

from collections.abc import Sequence
import statistics


def speed(rows: list[dict]) -> str:
    """Images a second, and how many times as fast as PyTorch: median and range of the rounds."""
    header = ('work', 'type', 'ours, images/s', 'PyTorch eager', 'PyTorch best', 'ours / eager',
              'ours / best')
    return table(header, [(
        row['work'], row['dtype'], f'{row["ours"]:.4g}', f'{row["torch_eager"]:.4g}',
        f'{row["torch_best"]:.4g} ({row["torch_best_is"]})', ratio(row, 'ratio_to_eager'),
        ratio(row, 'ratio_to_best'))
        for row in rows])


def ratio(row: dict, name: str = 'ratio', digits: int = 2) -> str:
    """Median and range of the rounds."""
    low, high = row[f'{name}_range']
    return f'{row[name]:.{digits}f} ({low:.{digits}f}-{high:.{digits}f})'


def sides(rows: list[dict]) -> str:
    """GFLOP/s of every side (of the ceiling); of training also the most MiB and the first step's seconds."""
    names = list(dict.fromkeys(name for row in rows for name in row['images_per_second']))
    header = ('work', 'type', *names)
    return table(header, [(row['work'], row['dtype'], *(side(row, name) for name in names)) for row in rows])


def side(row: dict, name: str) -> str:
    """A side's cell; empty where it was left out."""
    if name not in row['images_per_second']:
        return ''
    rate = statistics.median(row['images_per_second'][name]) * row['gflop_per_image']
    started = (f', {row["peak_mib"][name]:.0f}, {row["first_step_seconds"][name]:.1f} s' if 'peak_mib' in row else '')
    return f'{rate:.0f} ({rate / row["ceiling_gflops"]:.0%}){started}'


def growth(rows: list[dict]) -> str:
    """Cost of an image by its arithmetic: where it is level, cost is linear in images and pixels."""
    header = ('work', 'type', 'ours, ms an image', 'ours, GFLOP/s', 'ours / faster of the sides')
    return table(header, [(
        row['work'], row['dtype'], f'{1e3 / row["ours"]:.3g}', f'{row["ours"] * row["gflop_per_image"]:.4g}',
        ratio(row, 'ratio_to_best')) for row in rows])


def loop(rows: list[dict]) -> str:
    """The whole loop beside the bare step, and three starts."""
    header = ('work', 'bare step, images/s', 'whole loop, images/s', 'loop / bare step', 'first start, s',
              'second start, s', 'with JAX\'s cache, s')
    return table(header, [(
        row['work'], f'{row["bare_step"]:.4g}', f'{row["loop"]:.4g}', ratio(row, digits=3),
        f'{row["first_start_seconds"]:.1f}', f'{row["second_start_seconds"]:.1f}',
        f'{row["compiled_start_seconds"]:.1f}') for row in rows])


def decode(rows: list[dict]) -> str:
    """Photographs a second, by all cores and by one."""
    header = ('work', 'all cores, images/s', 'one thread, images/s', 'all cores / one thread')
    return table(header, [(row['work'], f'{row["all_cores"]:.4g}', f'{row["one_thread"]:.4g}',
                           ratio(row)) for row in rows])


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ['---'] * len(header), *rows]
    return '\n'.join(f'| {" | ".join(line)} |' for line in lines)
