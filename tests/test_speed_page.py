"""docs/speed.md shows what was measured."""

import json
import pathlib

from benchmarks import tables

DOCS = pathlib.Path(__file__).parent.parent / 'docs'


def test_the_page_has_the_tables_of_what_was_measured():
    rows, grown = (json.loads((DOCS / name).read_text()) for name in ('speed.json', 'speed_some_sides.json'))
    page = (DOCS / 'speed.md').read_text()
    assert {'train', 'eval'} == {row['work'].rpartition('_')[2] for row in rows}
    for table in (tables.speed(rows), tables.sides(rows), tables.growth(grown)):
        assert table in page
