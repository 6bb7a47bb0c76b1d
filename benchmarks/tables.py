"""Markdown tables of measurements."""

from collections.abc import Sequence
import statistics


def speed(rows: list[dict]) -> str:
    """Images per second, and the ratios to PyTorch."""
    header = ('work', 'type', 'ours, images/s', 'PyTorch eager', 'PyTorch best', 'ours / eager', 'ours / best')
    return table(
        header,
        [
            (
                row['work'],
                row['dtype'],
                rounded(row['ours']),
                rounded(row['torch_eager']),
                f'{rounded(row["torch_best"])} ({row["torch_best_is"]})',
                ratio(row, 'ratio_to_eager'),
                ratio(row, 'ratio_to_best'),
            )
            for row in rows
        ],
    )


def rounded(value: float) -> str:
    """Three significant digits, without an exponent."""
    return f'{float(f"{value:.3g}"):.12g}'


def ratio(row: dict, name: str = 'ratio', digits: int = 2) -> str:
    """A ratio: the median over the rounds, and the range."""
    low, high = row[f'{name}_range']
    return f'{row[name]:.{digits}f} ({low:.{digits}f}-{high:.{digits}f})'


def sides(rows: list[dict]) -> str:
    """GFLOP/s and share of the ceiling for every side; for training also peak MiB and seconds of the first step."""
    names = list(dict.fromkeys(name for row in rows for name in row['images_per_second']))
    header = ('work', 'type', *names)
    return table(header, [(row['work'], row['dtype'], *(side(row, name) for name in names)) for row in rows])


def side(row: dict, name: str) -> str:
    """The cell of a side; empty if it was left out."""
    if name not in row['images_per_second']:
        return ''
    rate = statistics.median(row['images_per_second'][name]) * row['gflop_per_image']
    started = f', {row["peak_mib"][name]:.0f}, {row["first_step_seconds"][name]:.1f} s' if 'peak_mib' in row else ''
    return f'{rate:.0f} ({rate / row["ceiling_gflops"]:.0%}){started}'


def growth(rows: list[dict]) -> str:
    """Cost of an image, and GFLOP/s: if these are constant, cost is linear in images and pixels."""
    header = ('work', 'type', 'ours, ms per image', 'ours, GFLOP/s', 'ours / faster of the sides')
    return table(
        header,
        [
            (
                row['work'],
                row['dtype'],
                rounded(1e3 / row['ours']),
                rounded(row['ours'] * row['gflop_per_image']),
                ratio(row, 'ratio_to_best'),
            )
            for row in rows
        ],
    )


def loop(rows: list[dict]) -> str:
    """The whole loop compared with the bare step, and three starts."""
    header = (
        'work',
        'bare step, images/s',
        'whole loop, images/s',
        'loop / bare step',
        'first start, s',
        'second start, s',
        "with JAX's cache, s",
    )
    return table(
        header,
        [
            (
                row['work'],
                rounded(row['bare_step']),
                rounded(row['loop']),
                ratio(row, digits=3),
                f'{row["first_start_seconds"]:.1f}',
                f'{row["second_start_seconds"]:.1f}',
                f'{row["compiled_start_seconds"]:.1f}',
            )
            for row in rows
        ],
    )


def decode(rows: list[dict]) -> str:
    """Photographs per second, with all cores and with one thread."""
    header = ('work', 'all cores, images/s', 'one thread, images/s', 'all cores / one thread')
    return table(
        header, [(row['work'], rounded(row['all_cores']), rounded(row['one_thread']), ratio(row)) for row in rows]
    )


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ['---'] * len(header), *rows]
    return '\n'.join(f'| {" | ".join(line)} |' for line in lines)
