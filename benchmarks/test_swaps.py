"""The trials' commands fit the configurations as they are."""

import importlib

import pytest

from benchmarks.swaps import commands
from common.config import flatten


@pytest.mark.parametrize('command', commands()[:-1], ids=lambda command: command[-1].rpartition('/')[2])
def test_every_flag_names_a_key(command):
    file, *flags = command
    name = file.removeprefix('--config=configs/').removesuffix('.py')
    flat = flatten(importlib.import_module(f'configs.{name}').get_config())
    keys = [flag.removeprefix('--config.').partition('=')[0] for flag in flags if flag.startswith('--config.')]
    assert keys and set(keys) <= set(flat)
