"""Memory over a long run, in a process of its own. Part of `make soak`."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from tests.helpers import ROOT

WARM_UP, WINDOW = 300, 100  # Steps.
SCRIPT = """
import json, os, pathlib, sys
from common import train, workdir
from configs import unet_mp_tr_ce
from tests.helpers import make_tiny_task, shrink
config = shrink(unet_mp_tr_ce.get_config('demo'))
config.update({'num_epochs': 222, 'eval_every_epochs': 20})
resident = {}

class MeasuredRun(train.Run):
    def visit(self):
        super().visit()
        pages = int(pathlib.Path('/proc/self/statm').read_text().split()[1])
        resident[self.step] = pages * os.sysconf('SC_PAGE_SIZE') / 2 ** 20

folder, task = pathlib.Path(sys.argv[1]), make_tiny_task(config)
workdir.init_workdir(task, folder)
with train.StopRequest() as stop:
    MeasuredRun(task, folder, stop).go()
print(json.dumps(resident))
"""


@pytest.mark.soak
@pytest.mark.skipif(not pathlib.Path('/proc/self/statm').exists(), reason='needs /proc')
def test_memory_does_not_grow_over_a_thousand_steps(tmp_path):
    """With 222 checkpoints, and 11 evaluations with their pictures, on the way."""
    result = subprocess.run(
        [sys.executable, '-c', SCRIPT, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | {'PYTHONPATH': str(ROOT)},
    )
    assert result.returncode == 0, result.stderr
    resident = {int(step): mib for step, mib in json.loads(result.stdout.splitlines()[-1]).items()}
    assert max(resident) == 999
    starts = np.arange(WARM_UP, max(resident) - WINDOW + 2, WINDOW)
    medians = [np.median([mib for step, mib in resident.items() if start <= step < start + WINDOW]) for start in starts]
    slope = np.polyfit(starts, medians, 1)[0]
    assert slope < 0.03, f'{slope:.3f} MiB a step; medians of windows: {np.round(medians)}'
