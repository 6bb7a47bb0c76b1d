"""docs/speed.md shows what was measured, and our side of the comparison still runs."""

import json
import pathlib

import numpy as np
import pytest

from benchmarks import tables, works
from benchmarks.ours import Ours

DOCS = pathlib.Path(__file__).parents[2] / 'docs'


def test_the_page_has_the_tables_of_what_was_measured():
    rows, grown = (json.loads((DOCS / name).read_text()) for name in ('speed.json', 'speed_growth.json'))
    page = (DOCS / 'speed.md').read_text()
    assert {'train', 'eval'} == {row['work'].rpartition('_')[2] for row in rows}
    shown = [table(of_one) for table in (tables.speed, tables.sides) for of_one in by_device(rows)]
    loop, decoded = (json.loads((DOCS / name).read_text()) for name in ('speed_loop.json', 'speed_decode.json'))
    for table in [*shown, *map(tables.growth, by_device(grown)), tables.loop(loop), tables.decode(decoded)]:
        assert table in page, 'other numbers in docs/speed.md than in docs/speed*.json: put the printed tables there'


def by_device(rows):
    return [[row for row in rows if row['device'] == device] for device in {row['device'] for row in rows}]


@pytest.mark.parametrize('work', works.tiny()[:2], ids=('unet', 'vae'))
def test_our_side_trains_and_evaluates(work):
    """PyTorch's side and the comparison are tested in benchmarks/, which needs PyTorch."""
    ours = Ours(work)
    loss, grad_norm, _ = ours.first_step()
    ours.eval_step()
    assert np.isfinite(loss) and grad_norm > 0
