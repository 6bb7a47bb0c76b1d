"""What is exported runs without this repository, and computes the same."""

import json
import os
import subprocess
import sys

import jax
import numpy as np
from PIL import Image
import pytest

from common.errors import UserError
from common.serving import export, predict
from main import make_task
from tests.helpers import save_run, usage_code

ALONE = 'import sys\nassert not {"common", "unet", "vae", "flax", "orbax"} & {*sys.modules}\n'


def run_alone(code, folder):
    """Runs Python code in a fresh process that cannot see the repository."""
    environment = {key: value for key, value in os.environ.items() if key != 'PYTHONPATH'}
    result = subprocess.run(
        [sys.executable, '-P', '-c', code + ALONE], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr


def test_documented_lines_compute_the_same(config, tmp_path):
    predictor = predict.load(save_run(make_task(config), tmp_path / 'run'), make_task)
    export.export(predictor, tmp_path / 'pets')
    picture = np.random.default_rng(0).integers(0, 256, (48, 32, 3), np.uint8)
    Image.fromarray(picture).save(tmp_path / 'photo.jpg', quality=95)
    run_alone(usage_code('export.deserialize') + 'np.save("probabilities.npy", probabilities)\n', tmp_path)
    with Image.open(tmp_path / 'photo.jpg') as photo:
        np.testing.assert_allclose(np.load(tmp_path / 'probabilities.npy'), predictor([photo]), atol=1e-6)

    description = json.loads((tmp_path / 'pets' / 'model.json').read_text())
    assert description['inputs'] == ['uint8[batch,16,16,3]']
    assert description['outputs'] == ['float32[batch,16,16,3]']
    assert description['classes'] == ['pet', 'background', 'border'] and description['image_size'] == 16
    assert description['platforms'] == ['cpu', 'cuda', 'tpu'] and description['step'] == 7
    with np.load(tmp_path / 'pets' / 'parameters.npz', allow_pickle=False) as parameters:
        assert parameters['params/Dense_0/kernel'].shape == (4, 3)
        assert len(parameters.files) == len(jax.tree.leaves(predictor.variables))


def test_vae_takes_images_and_labels_in_batches_of_any_size(vae_predictor, tmp_path):
    export.export(vae_predictor, tmp_path)
    model = jax.export.deserialize((tmp_path / 'model.jax_export').read_bytes())
    for count in (1, 3):
        images = np.random.default_rng(0).integers(0, 256, (count, 16, 16, 1), np.uint8)
        labels = np.arange(3, 3 + count, dtype=np.int32)
        np.testing.assert_allclose(model.call(images, labels), vae_predictor(images, labels), atol=1e-6)


def test_folder_that_cannot_be_written_is_one_line(config, tmp_path):
    predictor = predict.load(save_run(make_task(config), tmp_path / 'run'), make_task)
    (tmp_path / 'file').touch()
    with pytest.raises(UserError, match='cannot write to'):
        export.export(predictor, tmp_path / 'file')
