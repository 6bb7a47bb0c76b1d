"""docs/speed.md shows what docs/speed.json holds."""

import json
import pathlib

from benchmarks import tables

DOCS = pathlib.Path(__file__).parent.parent / 'docs'


def test_the_page_has_the_tables_of_what_was_measured():
    rows, page = json.loads((DOCS / 'speed.json').read_text()), (DOCS / 'speed.md').read_text()
    assert {'train', 'eval'} == {row['work'].rpartition('_')[2] for row in rows}
    for table in (tables.speed(rows), tables.sides(rows)):
        assert table in page
