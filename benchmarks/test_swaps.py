"""The trials' commands fit the configurations as they are."""

import importlib

import pytest

from benchmarks.swaps import commands
from common.config import flatten


@pytest.mark.parametrize('name', commands())
def test_every_flag_names_a_key(name):
    file, *flags = commands()[name]
    config = file.removeprefix('--config=configs/').removesuffix('.py')
    flat = flatten(importlib.import_module(f'configs.{config}').get_config())
    keys = [flag.removeprefix('--config.').partition('=')[0] for flag in flags if flag.startswith('--config.')]
    assert keys and set(keys) <= set(flat)
