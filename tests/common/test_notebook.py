"""The notebook as it is stored; `make notebook` executes it."""

import ast
import json
import pathlib
import re

ROOT = pathlib.Path(__file__).parents[2]
CELLS = json.loads((ROOT / 'docs' / 'quickstart.ipynb').read_text())['cells']
CODE = [cell for cell in CELLS if cell['cell_type'] == 'code']


def test_notebook_is_stored_without_outputs():
    assert CODE and not any(cell['outputs'] or cell['execution_count'] for cell in CODE)
    assert not any(cell.get('attachments') for cell in CELLS)


def test_commands_of_the_notebook_name_files_that_exist():
    source = '\n'.join(''.join(cell['source']) for cell in CODE)
    ast.parse(re.sub(r'^( *)[!%].*', r'\1pass', source, flags=re.MULTILINE))
    named = re.findall(r'--config=configs/(\{?\w+\}?)\.py', source)
    names = {*named, *re.findall(r"'(\w+_mnist)'", source)} - {'{name}'}
    assert {'unet_mp_tr_ce', 'classifier_mnist', 'judge_mnist', 'vae_mnist'} == names
    assert all((ROOT / 'configs' / f'{name}.py').exists() for name in names)
