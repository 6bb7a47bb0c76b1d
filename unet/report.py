"""What a report says of U-Nets alone: the reference's table, the classes, what each design choice does."""

import itertools
from typing import NamedTuple

import numpy as np

from common.report.page import spread, table
from common.report.runs import Entry, FinishedRun, essence
from unet.effects import FACTORS, Effect, Factor, estimate, replicated
from unet.metrics import CLASSES


class Reference(NamedTuple):
    """A row of the reference's table, from the README of the PyTorch homework "Session 18".

    25 epochs at 240x240 pixels, test accuracy in per cent. Its Dice loss has another definition (a logarithm
    over all pixels, no class average), and the last test loss is its log's: the README has a slip, 0.7.
    """

    accuracy: float
    train_loss: float
    test_loss: float


REFERENCE = {  # By way down, loss and way up: the order of FACTORS.
    ('max_pool', 'cross_entropy', 'transposed_conv'): Reference(89.83, 0.15, 0.33),
    ('max_pool', 'dice', 'transposed_conv'): Reference(87.95, 0.06, 0.07),
    ('strided_conv', 'cross_entropy', 'transposed_conv'): Reference(88.48, 0.19, 0.35),
    ('strided_conv', 'dice', 'upsample'): Reference(86.99, 0.06, 0.072),
}
NAMES = {'max_pool': 'max pooling', 'strided_conv': 'strided convolution', 'cross_entropy': 'cross-entropy',
         'dice': 'Dice', 'transposed_conv': 'transposed convolution', 'upsample': 'upsampling'}
SHORT = {'max_pool': 'MP', 'strided_conv': 'StrConv', 'transposed_conv': 'TR', 'upsample': 'UPS',
         'cross_entropy': 'CE', 'dice': 'DICE'}
MEASURES = {'pixel_accuracy': 'pixel accuracy', 'mean_iou': 'mean IoU'}


def sections(rows: list[Entry]) -> list[str]:
    """Markdown: beside the reference, class by class, design choices."""
    runs = [run for row in rows for run in row.runs]
    return [*beside_reference(rows), *by_class(rows), *design_choices(runs)]


def cell(config) -> tuple[str, str, str]:
    """Where a configuration stands in the design: way down, loss and way up."""
    return config.model.down, config.loss, config.model.up


def beside_reference(rows: list[Entry]) -> list[str]:
    """The reference's table with ours in it, its variants that were not run at the end."""
    lines = [(row.name, *compared(cell(row.config), row)) for row in rows]
    name = rows[0].config.data.name
    data = '' if name == 'oxford_iiit_pet' else f' **These runs saw other data ({name}): the columns do not compare.**'
    missing = [where for where in REFERENCE if where not in {cell(row.config) for row in rows}]
    lines += [('–', *compared(where, None)) for where in missing]
    return ['', '### Beside the reference', '',
            'The reference trained for 25 epochs at 240x240 pixels, one run a variant. Its Dice loss has '
            'another definition, so that only losses of cross-entropy compare. It gives no IoU.' + data,
            *table(('run', 'variant', 'test accuracy %', 'reference', 'train loss', 'reference', 'test loss',
                    'reference'), lines)]


def compared(where: tuple[str, str, str], row: Entry | None) -> tuple[str, ...]:
    """The variant's name, then our figures (dashes without a row) and the reference's in turn."""
    down, loss, up = (SHORT[level] for level in where)
    theirs = REFERENCE.get(where, ('–', '–', '–'))
    ours = ('–', '–', '–') if row is None else (
        spread(100 * row.values('pixel_accuracy'), 2), spread(row.values('train_loss'), 3),
        spread(row.values('loss'), 3))
    return f'{down}+{up}+{loss}', *itertools.chain(*zip(ours, map(str, theirs), strict=True))


def by_class(rows: list[Entry]) -> list[str]:
    """IoU and Dice, on average and of each class."""
    keys = [key for metric in ('iou', 'dice')
            for key in (f'mean_{metric}', *(f'{metric}/{name}' for name in CLASSES))]
    titles = [key.replace('mean_', 'mean/').replace('/', ' ').replace('iou', 'IoU').replace('dice', 'Dice')
              for key in keys]
    return ['', '### Class by class', *table(
        ('run', *titles), [(row.name, *(spread(row.values(key), 3) for key in keys)) for row in rows])]


def design_choices(runs: list[FinishedRun]) -> list[str]:
    """The main effects over the largest set of runs that differ in nothing else, and what follows."""
    group = same_but_design([run for run in runs if all(run.results.get(m) is not None for m in MEASURES)])
    design = np.array([[-0.5 if level == factor.low else 0.5
                        for factor, level in zip(FACTORS, cell(run.config), strict=True)] for run in group])
    lines = ['', '### What each design choice does', '']
    if len(np.unique(design, axis=0)) < 2:
        return [*lines, 'Nothing can be concluded: no two runs differ in the way down, the loss or the way '
                'up and in nothing else but the seed.']
    effects = {metric: estimate(design, 100 * np.array([run.results[metric] for run in group]))
               for metric in MEASURES}
    rows = [(NAMES[factor.low], NAMES[factor.high], *(points(effects[metric][index]) for metric in MEASURES))
            for index, factor in enumerate(FACTORS)]
    return [*lines, basis(design, len(runs)),
            *table(('from', 'to', *(f'{name}, points (95 %)' for name in MEASURES.values())), rows),
            'The reference makes three observations on pixel accuracy, each from one run a variant:', '',
            *(f'{index + 1}. {observation(factor, effects["pixel_accuracy"][index], why_not(index, design))}'
              for index, factor in enumerate(FACTORS))]


def same_but_design(runs: list[FinishedRun]) -> list[FinishedRun]:
    """The largest set of runs that differ in design and seed alone, copies left out."""
    groups: dict[str, dict[tuple, FinishedRun]] = {}
    for run in runs:
        key = essence(run, *(factor.key for factor in FACTORS))
        groups.setdefault(key, {})[cell(run.config), run.config.seed] = run
    return list(max(groups.values(), key=len, default={}).values())


def basis(design: np.ndarray, runs: int) -> str:
    """In plain words, what the intervals rest on."""
    cells = len(np.unique(design, axis=0))
    left_out = f' ({runs - len(design)} with other settings are left out)' if runs > len(design) else ''
    where = 'all' if cells == 8 else f'{cells} of the'
    text = f'Least squares over {len(design)} runs{left_out} in {where} eight cells of the design. '
    if replicated(design):
        return text + ('An effect is the mean over the four settings of the other two choices; the noise is '
                       'that between seeds.')
    noise = ('the noise is what then does not fit, seeds included' if cells < len(design) else
             'as no cell was run with a second seed, what then does not fit has to stand for the noise')
    return text + (f'The effects are taken to add up, and {noise}. Whether choices act differently together '
                   'cannot be concluded.')


def points(effect: Effect | None) -> str:
    """Percentage points with their interval, as far as they are known."""
    if effect is None:
        return '–'
    interval = 'not known' if np.isnan(effect.low) else f'{effect.low:+.2f} to {effect.high:+.2f}'
    return f'{effect.difference:+.2f} ({interval})'


def observation(factor: Factor, effect: Effect | None, otherwise: str) -> str:
    """Whether the runs support that `factor.high` is the better level; `otherwise` says why they cannot."""
    if effect is None:
        verdict, why = 'cannot be decided', otherwise
    elif np.isnan(effect.low):
        verdict, why = 'cannot be decided', (f'the difference is {effect.difference:+.2f} points, but no run '
                                             'is left over to tell it from chance')
    elif effect.low <= 0 <= effect.high:
        verdict, why = 'cannot be decided', f'the interval holds zero: {points(effect)} points'
    else:
        verdict, why = 'supported' if effect.low > 0 else 'contradicted', f'{points(effect)} points'
    return f'{NAMES[factor.high].capitalize()} over {NAMES[factor.low]}: **{verdict}**; {why}.'


def why_not(index: int, design: np.ndarray) -> str:
    """Why the effect of a factor cannot be told."""
    column = design[:, index]
    if len(np.unique(column)) == 1:
        level = FACTORS[index].high if column[0] > 0 else FACTORS[index].low
        return f'every run has {NAMES[level]}'
    return 'it never changes without another choice changing too'
