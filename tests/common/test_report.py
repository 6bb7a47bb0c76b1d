"""The report of several runs: what is put together, what is left out, and the page that comes of it."""

import itertools
import json
import re

import numpy as np
import pytest

from common import workdir as workdir_lib
from common.errors import UserError
from common.report import page, report, runs
from configs import unet_mp_tr_ce, vae_mnist
import main
from tests.helpers import save


def make_run(folder, name, accuracy=0.9, step=9, examples=13, config=None, machine=None, measured=None, **overrides):
    """A work directory without checkpoints, as a run leaves it."""
    config = config or unet_mp_tr_ce.get_config('demo')
    config.update_from_flattened_dict({key.replace('__', '.'): value for key, value in overrides.items()})
    workdir = folder / name
    save(config, workdir)
    classes = ('pet', 'background', 'border')
    per_class = {f'{metric}/{label}': 0.5 for metric in ('iou', 'dice') for label in classes}
    workdir_lib.write_json(
        workdir / 'results.json',
        {
            'split': 'test',
            'num_examples': examples,
            'step': step,
            'finished': True,
            'loss': 0.3,
            'train_loss': 0.2,
            'pixel_accuracy': accuracy,
            'mean_iou': accuracy - 0.2,
            'mean_dice': 0.8,
            **per_class,
            **(measured or {}),
        },
    )
    lines = [
        {'step': s, 'split': split, 'loss': 1 / s, 'pixel_accuracy': 0.5, 'mean_iou': 0.4, 'seconds': 6.0 * s}
        | ({'images_per_second': 8.0} if split == 'train' else {})
        for s in range(1, step + 1)
        for split in ('train', 'test')
    ]
    (workdir / 'metrics.jsonl').write_text(''.join(json.dumps(line) + '\n' for line in lines))
    if machine:
        workdir_lib.write_json(workdir / 'run.json', machine)
    return workdir


def read(*workdirs):
    return runs.load_all([str(workdir) for workdir in workdirs], main.make_task)


def cells_of(text, first):
    """The table rows of a Markdown text that begin with `first`."""
    lines = [line for line in text.splitlines() if line.startswith(f'| {first} ')]
    return [re.split(r' *\| *', line.strip('| ')) for line in lines]


def test_page_is_self_contained_and_equals_the_markdown(tmp_path):
    make_run(tmp_path, 'a')
    make_run(tmp_path, 'b', accuracy=0.8, loss='dice')
    path = report.write([str(tmp_path / 'a'), str(tmp_path / 'b')], tmp_path / 'out', main.make_task)
    html, text = path.read_text(), (tmp_path / 'out' / 'report.md').read_text()
    assert not re.search(r'(src|href)="(?!data:image/png;base64,|#)|url\(|@import|<script|<link', html)
    shown = re.findall(r'\]\((figures/.*?)\)', text)
    assert len(shown) == html.count('<img alt="Curves') == html.count('<figcaption>') == 4
    assert all((tmp_path / 'out' / name).exists() for name in shown)
    assert html.count('<tr>') == len([line for line in text.splitlines() if re.match(r'\| (?!---)', line)])
    assert html.count('<table>') == html.count('role="region"') == html.count('tabindex="0"') - len(shown)
    labels = re.findall('role="region" aria-label="(.*?)"', html)
    assert len({*labels}) == len(labels) and 'U-Net on synthetic_pets, 64x64 pixels: All measures' in labels
    assert '<meta name="viewport"' in html and 'prefers-color-scheme' in html


def test_pictures_of_like_names_keep_files_of_their_own():
    images = {}
    for title in ('Swaps of a/b', 'Swaps of a_b', 'Swaps of A-b'):
        picture = page.Picture(title, 'caption', np.full((1, 1, 3), len(images), np.uint8))
        lines, more = page.show(picture, 'vae', images)
        assert f'figures/{next(iter(more))}.png' in lines[1]
        images |= more
    assert [image[0, 0, 0] for image in images.values()] == [0, 1, 2]


def test_losses_of_two_definitions_have_a_plot_each(tmp_path, monkeypatch):
    plots = []
    monkeypatch.setattr(report.figures, 'compare_curves', lambda lines, metric: plots.append((metric, lines)))
    make_run(tmp_path, 'a')
    make_run(tmp_path, 'b', loss='dice')
    rows = runs.entries(read(tmp_path / 'a', tmp_path / 'b'))
    titles = [picture.title for picture in report.curves(rows[0].runs[0].task, rows)]
    assert titles[:3] == ['Curves of loss (cross entropy)', 'Curves of loss (dice)', 'Curves of pixel accuracy']
    drawn = [(metric, {name for name, seeds in lines.items() if seeds}) for metric, lines in plots]
    assert drawn[:3] == [('loss', {'a'}), ('loss', {'b'}), ('pixel_accuracy', {'a', 'b'})]


def test_names_of_folders_are_shown_letter_for_letter(tmp_path):
    name = 'a|b<script>*x*[y](z)`w` _u_ v_1'
    path = report.write([str(make_run(tmp_path, name))], tmp_path / 'out', main.make_task)
    html = path.read_text()
    cell = re.search(r'<td>(a&.*?)</td>', html)[1]
    assert re.sub(r'&#(\d+);', lambda match: chr(int(match[1])), cell) == name
    assert '<script' not in html and '<em>' not in html


def test_seeds_become_one_row_with_mean_and_spread(tmp_path):
    folders = [
        make_run(tmp_path, f'ce_seed{seed}', accuracy, seed=seed) for seed, accuracy in enumerate((0.88, 0.90, 0.95))
    ]
    rows = runs.entries(read(*folders, make_run(tmp_path, 'dice', loss='dice')))
    assert [(row.name, len(row.runs)) for row in rows] == [('ce_seed*', 3), ('dice', 1)]
    assert page.spread(rows[0].values('pixel_accuracy')) == '0.9100 ± 0.0361'
    assert page.spread(rows[1].values('pixel_accuracy')) == '0.9000' and page.spread(np.array([])) == '–'
    assert runs.differing(rows) == ['loss']


def test_runs_with_other_classifiers_are_not_averaged(tmp_path):
    for seed, width in enumerate((4, 4, 8)):
        copy = make_run(tmp_path, f'seed{seed}', seed=seed) / 'classifier'
        copy.mkdir()
        (copy / 'config.json').write_text(json.dumps({'model': {'width': width}, 'seed': seed}))
    rows = runs.entries([runs.load(path, main.make_task) for path in sorted(tmp_path.iterdir())])
    assert [len(row.runs) for row in rows] == [2, 1] and runs.differing(rows) == ['classifier: model.width']


def test_copy_of_a_run_is_not_taken_for_another_seed(tmp_path):
    folders = make_run(tmp_path, 'a'), make_run(tmp_path, 'copy'), make_run(tmp_path, 'c', seed=1)
    rows = runs.entries(read(*folders))
    assert [[run.name for run in row.runs] for row in rows] == [['a', 'c'], ['copy']]


def test_unlike_training_and_unlike_examples_are_kept_apart(tmp_path):
    folders = [
        make_run(tmp_path, 'a'),
        make_run(tmp_path, 'short', step=5, seed=1),
        make_run(tmp_path, 'small', data__image_size=32, seed=2),
        make_run(tmp_path, 'more', examples=14),
    ]
    assert len(runs.entries(read(*folders))) == 4
    path = report.write([*map(str, folders)], tmp_path / 'out', main.make_task)
    text = (tmp_path / 'out' / 'report.md').read_text()
    assert len(re.findall('^## ', text, re.MULTILINE)) == 3
    assert '13 examples' in text and '14 examples' in text and path.exists()
    assert len(set(re.findall(r'\]\((figures/.*?)\)', text))) == 9


def test_runs_on_mended_data_are_kept_apart(tmp_path):
    """The same number of examples under the same name, of which some have changed."""
    folders = [
        make_run(
            tmp_path, f'run_seed{seed}', seed=seed, measured={'test_checksum': test}, machine={'train_checksum': train}
        )
        for seed, (test, train) in enumerate([('aa', 'cc'), ('aa', 'cc'), ('aa', 'dd'), ('bb', 'cc')])
    ]
    found = read(*folders)
    assert len({runs.comparable(run) for run in found}) == 2
    assert sorted(len(entry.runs) for entry in runs.entries(found[:3])) == [1, 2]
    report.write([*map(str, folders)], tmp_path / 'out', main.make_task)
    text = (tmp_path / 'out' / 'report.md').read_text()
    assert '(checksum bb). 1 run of' in text
    shown = re.findall(r'\(figures/(\w*curves\w*)\.png\)', text)
    assert len(shown) == len(set(shown)) > 1 and all(
        (tmp_path / 'out' / 'figures' / f'{x}.png').exists() for x in shown
    )


def test_same_names_in_two_folders_stay_apart(tmp_path):
    loaded = read(make_run(tmp_path, 'x/run'), make_run(tmp_path, 'y/run', loss='dice'))
    assert [run.name for run in loaded] == ['x/run', 'y/run']


def test_what_is_no_finished_run_is_left_out_in_a_line_each(tmp_path, capsys):
    good, unfinished, measured, damaged, foreign, old, odd = (
        make_run(tmp_path, name) for name in ('good', 'unfinished', 'measured', 'damaged', 'foreign', 'old', 'odd')
    )
    results = json.loads((measured / 'results.json').read_text())
    workdir_lib.write_json(measured / 'results.json', results | {'finished': False})  # By --mode=eval, on the way.
    (unfinished / 'results.json').unlink()
    (damaged / 'results.json').write_text('{"step": ')
    (foreign / 'config.json').write_text('{"task": "poetry"}')
    (odd / 'results.json').write_text('[1, 2]')
    stored = json.loads((old / 'config.json').read_text())
    stored['model']['depth'] = 3  # Another version wrote it.
    (old / 'config.json').write_text(json.dumps(stored))
    (tmp_path / 'notes.txt').write_text('hello')
    assert [run.name for run in read(*sorted(tmp_path.iterdir()))] == ['good']
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 7 and all(line.startswith('left out ') for line in lines)
    for name in ('unfinished', 'measured', 'damaged', 'foreign', 'old', 'odd', 'notes.txt'):
        assert sum(f'{name}: ' in line for line in lines) == 1
    with pytest.raises(UserError, match='none of 2 work directories'):
        read(damaged, unfinished)
    with pytest.raises(UserError, match='no such work directories'):
        read()
    assert not capsys.readouterr().err


def test_unknown_level_of_a_factor_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr('unet.task.DOWN', ('max_pool', 'strided_conv', 'average_pool'))
    folders = make_run(tmp_path, 'a'), make_run(tmp_path, 'b', model__down='average_pool')
    with pytest.raises(UserError, match="does not know model.down = 'average_pool'"):
        report.write([*map(str, folders)], tmp_path / 'out', main.make_task)


def test_unwritable_output_is_found_before_the_work(tmp_path, monkeypatch):
    (tmp_path / 'file').write_text('')
    monkeypatch.setattr(report, 'section', lambda *_: pytest.fail('worked first'))
    with pytest.raises(UserError, match='--output'):
        report.write([str(make_run(tmp_path, 'a'))], tmp_path / 'file', main.make_task)


def test_reference_stands_beside_ours(tmp_path):
    report.write([str(make_run(tmp_path, 'a', 0.8912))], tmp_path / 'out', main.make_task)
    text = (tmp_path / 'out' / 'report.md').read_text()
    (row,) = (row for row in cells_of(text, 'a') if 'MP+TR+CE' in row)
    assert row == ['a', 'MP+TR+CE', '89.12', '89.83', '0.200', '0.15', '0.300', '0.33']
    assert len(cells_of(text, '–')) == 3  # The reference's other variants.
    assert 'Nothing can be concluded' in text


def test_size_device_and_seconds_of_each_run_are_listed(tmp_path):
    one, four = (
        {'device': name, 'devices': count, 'processes': 1, 'jax': '0.10.2', 'parameters': 12345}
        for name, count in (('2 cores, a CPU', 1), ('TPU v5e', 4))
    )
    folders = [
        make_run(tmp_path, 'a_seed0', machine=one),
        make_run(tmp_path, 'a_seed1', seed=1, machine=four),
        make_run(tmp_path, 'old', loss='dice'),
    ]
    lines = report.speed(runs.entries(read(*folders)))
    # 9 steps of 16 images at 8 images per second; 54 seconds in all.
    assert [row for name in ('a&#95;seed&#42;', 'a_seed&#42;', 'old') for row in cells_of('\n'.join(lines), name)] == [
        ['a_seed&#42;', '12,345', '2 cores, a CPU or 4 x TPU v5e', '8.0 ± 0.0', '18 ± 0', '54 ± 0'],
        ['old', '–', '–', '8.0', '18', '54'],
    ]


@pytest.mark.parametrize('name', ['synthetic_pets', 'oxford_iiit_pet'])
def test_other_data_than_the_reference_is_stated(tmp_path, name):
    (run,) = read(make_run(tmp_path, 'a', data__name=name))
    text = '\n'.join(run.task.report(runs.entries([run])))
    assert ('These runs saw other data (synthetic' in text) == (name == 'synthetic_pets')


DESIGN = [
    {'model__down': down, 'model__up': up, 'loss': loss}
    for down in ('max_pool', 'strided_conv')
    for up in ('transposed_conv', 'upsample')
    for loss in ('cross_entropy', 'dice')
]


def text_about(folder):
    """What the U-Net's task says of all runs in a folder, without its pictures."""
    loaded = read(*sorted(folder.iterdir()))
    return '\n'.join(part for part in loaded[0].task.report(runs.entries(loaded)) if isinstance(part, str))


def make_design(folder, seeds=2):
    """Every cell with several seeds: 2 points for cross-entropy, 3 against upsampling, 1 for max pooling with Dice."""
    for (number, cell), seed in itertools.product(enumerate(DESIGN), range(seeds)):
        worse = (
            0.02 * (cell['loss'] == 'dice')
            + 0.03 * (cell['model__up'] == 'upsample')
            + 0.01 * (cell['model__down'] == 'strided_conv' and cell['loss'] == 'dice')
        )
        noise = 0.0002 * (-1) ** (number * (number + 1) // 2) * (-1) ** seed
        make_run(folder, f'{number}_seed{seed}', 0.9 - worse + 0.01 * seed + noise, seed=seed, **cell)


def test_whole_design_decides_the_observations(tmp_path):
    make_design(tmp_path)
    make_run(tmp_path, 'wide', 0.99, model__width=16)
    text = text_about(tmp_path)
    assert '16 runs (1 more, with other settings or copies, are left out) in all eight cells' in text
    assert 'each seed is a block' in text and 'with 7 degrees of freedom' in text
    assert 'Bonferroni adjustment for three verdicts' in text and '98.3 % confidence' in text
    for kind, contrast, effect in (
        ('main effect', 'max pooling − strided convolution', '+0.50 (+0.46 to +0.54)'),
        ('main effect', 'upsampling − transposed convolution', '-3.00 (-3.04 to -2.96)'),
        ('interaction', 'max pooling × cross-entropy', '-1.00 (-1.07 to -0.93)'),
        ('interaction', 'cross-entropy × upsampling', '+0.00 (-0.07 to +0.07)'),
        ('simple contrast', 'MP+TR+CE − MP+TR+DICE', '+2.00 (+1.93 to +2.07)'),
    ):
        assert [kind, contrast, effect, effect, '+0.00 (+0.00 to +0.00)'] in cells_of(text, kind)
    assert 'Max pooling over strided convolution: **supported**; the main effect is +0.50 points (+0.45 to' in text
    assert 'MP+TR+CE minus StrConv+TR+CE is +0.00 points (-0.09 to +0.09); the reference saw +1.35.' in text
    assert 'Cross-entropy over Dice: **supported**; the main effect is +2.50 points (+2.45 to +2.55).' in text
    assert 'Upsampling over transposed convolution: **contradicted**; the main effect is -3.00 points' in text


def test_one_run_a_cell_decides_nothing(tmp_path):
    make_design(tmp_path, seeds=1)
    text = text_about(tmp_path)
    assert 'two seeds in every cell would show it' in text and 'degrees of freedom' not in text
    assert '**cannot be decided**; the main effect is +0.50 points, with too few seeds' in text
    assert text.count('**cannot be decided**') == text.count('too few seeds to tell it from chance') == 3
    assert all(effect.endswith('(not known)') for row in cells_of(text, 'main effect') for effect in row[2:])


def test_three_variants_give_simple_contrasts_alone(tmp_path):
    for number, cell in enumerate((DESIGN[0], DESIGN[1], DESIGN[7])):
        make_run(tmp_path, str(number), 0.9 - 0.01 * number, **cell)
    for seed in range(4):
        make_run(tmp_path, f'wide{seed}', seed=seed, model__width=16)
    text = text_about(tmp_path)
    assert '3 runs (4 more, with other settings or copies, are left out) in 3 of the eight cells' in text
    assert text.count('**cannot be decided**; 5 of the eight cells were not run') == 3
    assert 'MP+TR+CE minus StrConv+TR+CE cannot be estimated from these runs; the reference saw +1.35.' in text
    assert 'MP+TR+CE minus MP+TR+DICE is +1.00 points (not known); the reference saw +1.88.' in text
    assert (
        'StrConv+UPS+DICE minus MP+TR+DICE is -1.00 points (not known); the reference saw -0.96. It changes the '
        'way down as well' in text
    )


def test_runs_on_two_folders_share_no_table(tmp_path):
    for name in ('one', 'other'):
        make_run(tmp_path / 'runs', name, data__name='folder', data__dir=str(tmp_path / name))
    report.write([str(tmp_path / 'runs')], tmp_path / 'out', main.make_task)
    text = (tmp_path / 'out' / 'report.md').read_text()
    assert text.count('1 run of 1 configuration') == 2
    assert '## U-Net on one, ' in text and '## U-Net on other, ' in text


def test_plot_of_effects_stands_in_its_section(tmp_path):
    make_design(tmp_path / 'runs')
    report.write([*map(str, (tmp_path / 'runs').iterdir())], tmp_path / 'out', main.make_task)
    text = (tmp_path / 'out' / 'report.md').read_text()
    section = text[text.index('### What each design choice does') : text.index('### Curves')]
    (name,) = re.findall(r'!\[Effects of the design choices\]\((figures/.*?)\)', section)
    assert section.index('| main effect') < section.index(name) < section.index('three observations')
    assert (tmp_path / 'out' / name).exists()
    assert '<img alt="Effects of the design choices" src="data:' in (tmp_path / 'out' / 'report.html').read_text()


def test_vae_is_compared_with_the_reference(tmp_path):
    config = vae_mnist.get_config()
    workdir = make_run(tmp_path, 'vae', config=config)
    results = {
        'split': 'test',
        'num_examples': 10000,
        'step': 9,
        'finished': True,
        'total': 650.0,
        'reconstruction': -610.0,
        'kl': 29.0,
        'label_loss': 3.0,
        'swap_accuracy/judge': 0.91,
        'style/slant/kept': 0.8,
        'style/slant/kept/ideal': 0.87,
        'style/slant/kept_within_labels': 0.71,
        'swap/shared_change': 0.36,
        'swap/shared_change/real': 0.05,
        'swap/recall/real': 0.8712,
    }
    workdir_lib.write_json(workdir / 'results.json', results)
    (run,) = read(workdir)
    text = '\n'.join(run.task.report(runs.entries([run])))
    assert cells_of(text, 'KL divergence') == [['KL divergence', '30', '29.00']]
    assert cells_of(text, 'wrong label: judge predicts it') == [['wrong label: judge predicts it', '91.0']]
    assert cells_of(text, 'slant') == [
        ['slant', 'all', '0.80'],
        ['slant', 'all, ideal swaps instead', '0.87'],
        ['slant', 'the same labels', '0.71'],
    ]
    assert cells_of(text, 'shared change') == [
        ['shared change', 'swaps', '0.36'],
        ['shared change', 'real images instead', '0.05'],
    ]
    assert ['recall', 'other real images', '0.87'] in cells_of(text, 'recall')


def test_runs_of_a_sweep_are_found_by_its_folder(tmp_path, capsys):
    for name in ('one', 'sweep/a', 'sweep/b'):
        make_run(tmp_path, name, seed=len(name))
    found = read(*sorted(tmp_path.iterdir()))
    assert [run.name for run in found] == ['one', 'sweep/a', 'sweep/b']
    assert not capsys.readouterr().err
