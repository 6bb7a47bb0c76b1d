"""What a report says of U-Nets alone: the reference's table, the classes, what each design choice does."""

import itertools
from typing import NamedTuple

from ml_collections import ConfigDict
import numpy as np

from common.errors import UserError
from common.report.page import spread, table
from common.report.runs import Entry, FinishedRun, essence
from common.task import Picture
from configs import unet_mp_tr_ce
from unet import figures
from unet.effects import CELLS, ERROR_RATE, FACTORS, Cell, Effect, Fit, factorial_weights, fit, verdict


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
NAMES = {
    'max_pool': 'max pooling',
    'strided_conv': 'strided convolution',
    'cross_entropy': 'cross-entropy',
    'dice': 'Dice',
    'transposed_conv': 'transposed convolution',
    'upsample': 'upsampling',
}
SHORT = {
    'max_pool': 'MP',
    'strided_conv': 'StrConv',
    'transposed_conv': 'TR',
    'upsample': 'UPS',
    'cross_entropy': 'CE',
    'dice': 'DICE',
}
MEASURES = {'pixel_accuracy': 'pixel accuracy', 'mean_iou': 'mean IoU', 'iou/border': 'border IoU'}
MOST_CLASSES = 12  # With more, a table has the means alone.
OBSERVED = (  # The two runs from which the reference concludes something of each factor.
    (('max_pool', 'cross_entropy', 'transposed_conv'), ('strided_conv', 'cross_entropy', 'transposed_conv')),
    (('max_pool', 'cross_entropy', 'transposed_conv'), ('max_pool', 'dice', 'transposed_conv')),
    (('strided_conv', 'dice', 'upsample'), ('max_pool', 'dice', 'transposed_conv')),
)


def sections(rows: list[Entry]) -> list[str | Picture]:
    """Markdown lines and a picture: class by class, and of the reference's classes, beside it and design choices."""
    if list(rows[0].config.data.classes) != list(unet_mp_tr_ce.get_config().data.classes):
        return list(by_class(rows))
    runs = [run for row in rows for run in row.runs]
    return [*beside_reference(rows), *by_class(rows), *design_choices(runs)]


def cell(config: ConfigDict) -> Cell:
    """Where a configuration is in the design: way down, loss and way up. Raises UserError for an unknown level."""
    found = config.model.down, config.loss, config.model.up
    for factor, level in zip(FACTORS, found, strict=True):
        if level not in NAMES:
            raise UserError(
                f'the report does not know {factor.key} = {level!r}; name it in unet/report.py, or choose other --runs'
            )
    return found


def variant(where: Cell) -> str:
    """A cell by the reference's name, e.g. MP+TR+CE."""
    down, loss, up = (SHORT[level] for level in where)
    return f'{down}+{up}+{loss}'


def beside_reference(rows: list[Entry]) -> list[str]:
    """The reference's table with ours in it, its variants that were not run at the end."""
    lines = [(row.name, *compared(cell(row.config), row)) for row in rows]
    name = rows[0].config.data.name
    data = '' if name == 'oxford_iiit_pet' else f' **These runs saw other data ({name}): the columns do not compare.**'
    missing = [where for where in REFERENCE if where not in {cell(row.config) for row in rows}]
    lines += [('–', *compared(where, None)) for where in missing]
    return [
        '',
        '### Beside the reference',
        '',
        'The reference trained for 25 epochs at 240x240 pixels, one run per variant. Its Dice loss has '
        'another definition, so that only losses of cross-entropy compare. It gives no IoU.' + data,
        *table(
            ('run', 'variant', 'test accuracy %', 'reference', 'train loss', 'reference', 'test loss', 'reference'),
            lines,
        ),
    ]


def compared(where: Cell, row: Entry | None) -> tuple[str, ...]:
    """The variant's name, then our figures (dashes without a row) and the reference's in turn."""
    theirs = REFERENCE.get(where, ('–', '–', '–'))
    ours = (
        ('–', '–', '–')
        if row is None
        else (
            spread(100 * row.values('pixel_accuracy'), 2),
            spread(row.values('train_loss'), 3),
            spread(row.values('loss'), 3),
        )
    )
    return variant(where), *itertools.chain(*zip(ours, map(str, theirs), strict=True))


def by_class(rows: list[Entry]) -> list[str]:
    """IoU and Dice, on average and of each class."""
    classes = rows[0].config.data.classes
    shown = classes if len(classes) <= MOST_CLASSES else []
    keys = [key for metric in ('iou', 'dice') for key in (f'mean_{metric}', *(f'{metric}/{name}' for name in shown))]
    titles = [
        key.replace('mean_', 'mean/').replace('/', ' ').replace('iou', 'IoU').replace('dice', 'Dice') for key in keys
    ]
    return [
        '',
        '### Class by class',
        *table(('run', *titles), [(row.name, *(spread(row.values(key), 3) for key in keys)) for row in rows]),
    ]


def design_choices(runs: list[FinishedRun]) -> list[str | Picture]:
    """The contrasts that the runs can estimate, as a table and a plot, and what follows for the reference."""
    measured = [run for run in runs if all(run.results.get(m) is not None for m in MEASURES)]
    group = same_but_design([run for run in measured if cell(run.config) in CELLS])
    cells = [cell(run.config) for run in group]
    lines = ['', '### What each design choice does', '']
    if len(set(cells)) < 2:
        return [
            *lines,
            'Nothing can be concluded: no two runs differ in the way down, the loss or the way '
            'up and in nothing else but the seed.',
        ]
    fitted = fit(
        cells,
        [run.config.seed for run in group],
        100 * np.array([[run.results[metric] for metric in MEASURES] for run in group]),
    )
    effects = {
        contrast: effect
        for contrast, weights in contrasts().items()
        if (effect := fitted.estimate(weights)) is not None
    }
    lines += [f'{basis(fitted, len(runs))} {noise(fitted)}', *(effect_table(effects) if effects else [''])]
    plot: list[str | Picture] = [forest(effects), ''] if effects and fitted.freedom else []
    return [*lines, *plot, *conclusions(fitted)]


def contrasts() -> dict[tuple[str, str], dict[Cell, float]]:
    """By kind and name, the weights of the cell means in everything that is estimated."""
    main = {
        ('main effect', f'{NAMES[factor.high]} − {NAMES[factor.low]}'): factorial_weights(factor) for factor in FACTORS
    }
    interactions = {
        ('interaction', f'{NAMES[first.high]} × {NAMES[second.high]}'): factorial_weights(first, second)
        for first, second in itertools.combinations(FACTORS, 2)
    }
    simple = {
        ('simple contrast', f'{variant(one)} − {variant(other)}'): {one: 1.0, other: -1.0} for one, other in OBSERVED
    }
    return main | interactions | simple


def same_but_design(runs: list[FinishedRun]) -> list[FinishedRun]:
    """Runs that differ in design and seed alone, copies left out: of several such sets, the one with the most cells,
    then the most runs."""
    groups: dict[str, dict[tuple, FinishedRun]] = {}
    for run in runs:
        key = essence(run, *(factor.key for factor in FACTORS))
        groups.setdefault(key, {})[cell(run.config), run.config.seed] = run
    largest = max(groups.values(), key=lambda group: (len({where for where, _ in group}), len(group)), default={})
    return list(largest.values())


def basis(fitted: Fit, runs: int) -> str:
    """Which runs were used, and what can be estimated from their cells."""
    used, cells = len(fitted.values), len(fitted.cells)
    left_out = f' ({runs - used} more, with other settings or copies, are left out)' if runs > used else ''
    if cells < len(CELLS):
        return (
            f'{used} runs{left_out} in {cells} of the eight cells of the design. Without all eight cells, main '
            'effects cannot be told from interactions, so neither kind is given. A simple contrast is the '
            'difference between two cells.'
        )
    down, loss, _ = FACTORS
    return (
        f'{used} runs{left_out} in all eight cells of the design. A main effect is the mean of the differences '
        'that a choice makes in the four settings of the other two choices. An interaction, e.g. '
        f'{NAMES[down.high]} × {NAMES[loss.high]}, is the effect of {NAMES[down.high]} with {NAMES[loss.high]} '
        f'minus that with {NAMES[loss.low]}, as a mean over the third choice: where it is large, the effect in a '
        'single setting differs from the main effect. A simple contrast is the difference between two cells.'
    )


def noise(fitted: Fit) -> str:
    """What the intervals rest on."""
    if not fitted.freedom:
        return (
            'There are too few seeds to see how much the seed alone changes a result (two seeds in every cell '
            'would show it), so the differences have no intervals and cannot be told from chance.'
        )
    source = (
        'Runs with the same seed train on the same images in the same order, so each seed is a block: the noise '
        'is what remains after a mean for each cell and a mean for each seed'
        if fitted.blocks
        else 'The noise is the variation between seeds within a cell'
    )
    return (
        f'{source}, with {fitted.freedom} degrees of freedom. Its variance is taken to be the same in every cell; '
        'the standard deviations in the tables above show whether that is plausible. All runs were measured on the '
        'same test images; the choice of these images is not part of the noise.'
    )


def effect_table(effects: dict[tuple[str, str], Effect]) -> list[str]:
    """A row for each contrast, a column for each measure."""
    rows = [
        (kind, name, *map(points, effect.difference, *effect.interval())) for (kind, name), effect in effects.items()
    ]
    return table(('kind', 'contrast', *(f'{name}, points (95 %)' for name in MEASURES.values())), rows)


def forest(effects: dict[tuple[str, str], Effect]) -> Picture:
    """The effects and their intervals as a plot."""
    return Picture(
        'Effects of the design choices',
        'Estimates and 95 % intervals in percentage points. Where an interval crosses zero, the runs do not '
        'show the sign. Each interval is for one contrast, without adjustment for their number.',
        figures.forest(effects, list(MEASURES.values())),
    )


def points(difference: float, low: float, high: float, unit: str = '') -> str:
    """Percentage points with their interval, as far as they are known."""
    return f'{difference:+z.2f}{unit} ({"not known" if np.isnan(low) else f"{low:+z.2f} to {high:+z.2f}"})'


def conclusions(fitted: Fit) -> list[str]:
    """The reference's three observations: a verdict on each main effect, and the simple contrast behind it."""
    confidence = 100 * (1 - ERROR_RATE / len(FACTORS))
    intervals = (
        (
            f' The intervals in this list have {confidence:.1f} % confidence each (Bonferroni adjustment for '
            'three verdicts): all three of one kind contain the truth with a probability of at least 95 %.'
        )
        if fitted.freedom
        else ''
    )
    return [
        'The reference makes three observations on pixel accuracy, each from a simple contrast with one run a '
        'variant. A verdict here is about the main effect. A simple contrast holds for its two cells alone and '
        f'gets no verdict.{intervals}',
        '',
        *(
            f'{index + 1}. {main_effect(index, fitted)} {simple_contrast(index, fitted)}'
            for index in range(len(FACTORS))
        ),
    ]


def main_effect(index: int, fitted: Fit) -> str:
    """Whether the runs support that `high` is the better level of a factor, over the whole design."""
    factor, found = FACTORS[index], 'cannot be decided'
    effect = fitted.estimate(factorial_weights(factor))
    if len(fitted.cells) < len(CELLS):
        why = f'{len(CELLS) - len(fitted.cells)} of the eight cells were not run'
    elif effect is None:
        why = 'the seeds differ too much between the cells to compare them'
    elif not fitted.freedom:
        why = f'the main effect is {effect.difference[0]:+z.2f} points, with too few seeds to tell it from chance'
    else:
        low, high = (bound[0] for bound in effect.interval(tests=len(FACTORS)))
        found, estimate = verdict(low, high), points(effect.difference[0], low, high, ' points')
        why = (
            f'the interval of the main effect includes zero: {estimate}'
            if found == 'cannot be decided'
            else f'the main effect is {estimate}'
        )
    return f'{NAMES[factor.high].capitalize()} over {NAMES[factor.low]}: **{found}**; {why}.'


def simple_contrast(index: int, fitted: Fit) -> str:
    """The difference between the two cells that the reference compared."""
    one, other = OBSERVED[index]
    effect = fitted.estimate({one: 1.0, other: -1.0})
    ours = 'cannot be estimated from these runs'
    if effect is not None:
        low, high = (bound[0] for bound in effect.interval(tests=len(FACTORS)))
        ours = f'is {points(effect.difference[0], low, high, " points")}'
    theirs = f'{REFERENCE[one].accuracy - REFERENCE[other].accuracy:+.2f}'
    also = ''.join(
        f' It changes the {factor.name} as well, so it is not the effect of the {FACTORS[index].name} alone.'
        for factor, *levels in zip(FACTORS, one, other, strict=True)
        if factor != FACTORS[index] and len(set(levels)) > 1
    )
    return f'The simple contrast {variant(one)} minus {variant(other)} {ours}; the reference saw {theirs}.{also}'
