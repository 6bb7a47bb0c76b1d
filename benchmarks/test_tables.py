"""What docs/speed.json holds can be shown."""

import json
import pathlib

from benchmarks import tables

SPEED = pathlib.Path(__file__).parent.parent / 'docs' / 'speed.json'


def test_measured_rows_become_tables():
    rows = json.loads(SPEED.read_text())
    assert {'train', 'eval'} == {row['work'].rpartition('_')[2] for row in rows}
    for table in (tables.speed(rows), tables.sides(rows), tables.growth(rows)):
        header, _, *body = table.splitlines()
        assert body and all(line.count('|') == header.count('|') for line in body)
        assert all(row['work'] in table for row in rows)
