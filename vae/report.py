"""What a report says of VAEs alone: the reference's figures, what a wrong label does, what style stays."""

from common.report.page import spread, table
from common.report.runs import Entry
from common.task import Picture

# From the README of the PyTorch homework "Session 18": nats per image, label loss times its weight.
REFERENCE = {
    'mnist': {'total': 686, 'reconstruction': -627, 'kl': 30, 'label_loss': 4},
    'cifar10': {'total': 1733, 'reconstruction': -1451, 'kl': 188, 'label_loss': 72},
}
LOSSES = {
    'total': 'total loss',
    'reconstruction': 'reconstruction log-likelihood',
    'kl': 'KL divergence',
    'label_loss': 'label loss, weighted',
}
QUALITY = {'mse': 'squared error, pixels 0 to 1', 'psnr': 'PSNR, dB', 'bits_per_dim': 'bits a dimension, as a density'}
LABELS = {
    'right_label_accuracy/judge': 'right label: judge predicts it',
    'swap_accuracy/judge': 'wrong label: judge predicts it',
    'swap_accuracy/frozen': 'wrong label: frozen classifier predicts it',
    'original_label_rate/judge': 'wrong label: judge predicts the original one',
}
MOST_LABELS = 20  # With more, only the overall figures.
SWAPS = (
    ('shared_change', 'shared change', 'swaps'),
    ('shared_change/real', 'shared change', 'real images instead'),
    ('kept', 'layout kept', 'swaps'),
    ('kept/reconstruction', 'layout kept', 'reconstructions'),
    *(
        (f'{measure}{key}', measure, kind)
        for measure in ('precision', 'recall')
        for key, kind in (('', 'swaps'), ('/reconstruction', 'reconstructions'), ('/real', 'other real images'))
    ),
    *(
        (f'soft_{measure}{key}', f'{measure} among reconstructions', kind)
        for measure in ('precision', 'recall')
        for key, kind in (('', 'swaps'), ('/reconstruction', 'other reconstructions'))
    ),
)
STYLE = {'kept': 'all', 'kept/ideal': 'all, ideal swaps instead', 'kept_within_labels': 'the same labels'}


def sections(rows: list[Entry]) -> list[str | Picture]:
    """Markdown: beside the reference, wrong labels, style."""
    names = tuple(row.name for row in rows)
    return [*beside_reference(rows, names), *wrong_labels(rows, names), *swaps(rows, names), *style(rows, names)]


def beside_reference(rows: list[Entry], names: tuple[str, ...]) -> list[str]:
    """The reference's table with ours in it; embedded data have no reference."""
    reference = REFERENCE.get(rows[0].config.data.name, {})
    note = (
        'The reference gives figures of single training batches with perturbed labels; ours are of the '
        'whole split, with right labels.'
        if reference
        else 'The reference has no figures on these data.'
    )
    lines = [
        (title, reference.get(key, '–'), *(spread(row.values(key), 2) for row in rows)) for key, title in LOSSES.items()
    ]
    lines += [(title, '–', *(spread(row.values(key)) for row in rows)) for key, title in QUALITY.items()]
    return [
        '',
        '### Beside the reference',
        '',
        f'Nats an image, on standardised pixels. {note}',
        *table(('measure', 'reference', *names), lines),
    ]


def wrong_labels(rows: list[Entry], names: tuple[str, ...]) -> list[str]:
    """How often a classifier predicts the given label, over all labels and for each."""
    labels = rows[0].config.data.classes
    by_label = {f'swap_accuracy/judge/{label}': f'wrong label {label}: judge predicts it' for label in labels}
    measures = LABELS | (by_label if len(labels) <= MOST_LABELS else {})
    return [
        '',
        '### What a wrong label does',
        '',
        'Per cent of the results when each image is turned into all other labels. The judge is a '
        'classifier that training never saw; the frozen one is part of the loss, so its figure is optimistic.',
        *table(
            ('results', *names),
            [(title, *(spread(100 * row.values(key), 1) for row in rows)) for key, title in measures.items()],
        ),
    ]


def swaps(rows: list[Entry], names: tuple[str, ...]) -> list[str]:
    """What images under wrong labels share, keep and resemble, each beside a bound."""
    if not any(len(row.values('swap/shared_change')) for row in rows):  # Runs of an earlier version.
        return []
    lines = [(title, kind, *(spread(row.values(f'swap/{key}'), 2) for row in rows)) for key, title, kind in SWAPS]
    return [
        '',
        '### How swaps compare with real images',
        '',
        'The shared change is the part of the change to a label that is the same in every image: 1 for a stencil. '
        'The layout is a low-pass image without its colours; what is kept of it is the correlation with the '
        'original, less that with other originals of its label. Precision is the share of results that are among '
        'the real images of the label, and recall the share of real images that are among the results, by nearest '
        "neighbours in the judge's features (Kynkäänniemi et al. 2019). Among reconstructions, which are as "
        'blurred, blur does not count. All four depend on the number of test images.',
        *table(('measure', 'measured on', *names), lines),
    ]


def style(rows: list[Entry], names: tuple[str, ...]) -> list[str]:
    """Correlation of each measure of style before and after the label changes."""
    keys = {key for row in rows for run in row.runs for key in run.results if key.startswith('style/')}
    lines = [
        (measure.replace('_', ' '), among, *(spread(row.values(f'style/{measure}/{key}'), 2) for row in rows))
        for measure in sorted({key.split('/')[1] for key in keys})
        for key, among in STYLE.items()
    ]
    return [
        '',
        '### Style that is kept',
        '',
        'Correlation of the measure between images under wrong labels and their originals: over all of them, and '
        'among those with the same true and the same given label. Part of the first may come from the labels; the '
        'second is 0 for a picture that depends on nothing else. Ideal swaps, which are no bound, have the mean of '
        "the given label and keep the original's difference from the mean of its own.",
        *table(('measure', 'among', *names), lines),
    ]
