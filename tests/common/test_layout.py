"""Allowed imports between packages."""

import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]


def imported_packages(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition('.')[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module.partition('.')[0]


@pytest.mark.parametrize(
    'package, others',
    [('unet', {'vae', 'benchmarks'}), ('vae', {'unet', 'benchmarks'}), ('common', {'unet', 'vae', 'benchmarks'})],
)
def test_packages_do_not_import_each_other(package, others):
    for path in (ROOT / package).rglob('*.py'):
        assert not others & {*imported_packages(path)}, path


def test_tensorflow_is_imported_only_when_needed():
    code = 'import sys, main, common.train, unet.task; print({"tensorflow", "tensorflow_datasets"} & {*sys.modules})'
    command = [sys.executable, '-c', code]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == 'set()'
