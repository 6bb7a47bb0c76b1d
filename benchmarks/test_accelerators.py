"""The programs for accelerators are lowered here for a CPU; compiling them for others needs `make accelerators`."""

import os

import jax
import pytest

from benchmarks.accelerators import Programs, Row, Target, apart, figures, size_of, table


@pytest.fixture(autouse=True)
def described_is_this_cpu(monkeypatch):
    monkeypatch.setattr(Target, 'devices', lambda self: jax.devices()[:1])


@pytest.mark.parametrize('program', ['steps', 'gradient', 'eval'])
def test_programs_are_lowered_from_shapes(program):
    assert getattr(Programs(Row('v5e_1', 'vae_mnist', program)), program)().as_text()


def test_compiled_program_has_figures():
    found = figures(Programs(Row('v5e_1', 'vae_mnist', 'predict')).predict().compile())
    assert found['temporary_mib'] > 0 and found['argument_mib'] > 250 * 28 * 28 / 2**20 and found['all_reduces'] == 0


def test_crash_of_a_compiler_is_a_row():
    assert apart(dict, [('megacycles', 1)]) == {'megacycles': 1}
    assert apart(os._exit, 139) == {'error': 'the compiler crashed'}


def test_size_of_an_all_reduce_is_that_of_all_its_arrays():
    assert size_of('(f32[3,3]{1,0:T(8,128)}, bf16[8]{0}, f32[])') == 4 * 9 + 2 * 8 + 4


def test_table_has_ratios_to_plain_layers():
    values = {
        'temporary_mib': 512.0,
        'argument_mib': 512.0,
        'gigabytes': 3.0,
        'gflop': 1.0,
        'megacycles': 8.0,
        'all_reduces': 2,
        'all_reduce_mib': 0.5,
        'cpu_seconds': 70.0,
    }
    ours, plain = (Row('v5e_1', 'unet_mp_tr', 'gradient', layers) for layers in ('ours', 'plain'))
    lines = table({ours.name: values, plain.name: values | {'megacycles': 10.0, 'gigabytes': 4.0}}).splitlines()
    assert lines[2] == (
        '| v5e_1 | unet_mp_tr | gradient | ours | bfloat16 | 16 | 8 | 3 | 1 | 1024 | 0.06 | '
        '2, 0.5 | 0.800, 0.750 | 70 |'
    )
