"""The trained models in models/: small, whole, and described."""

import pathlib

import numpy as np
import pytest

from common.serving import predict
from main import make_task
from unet import synthetic

MODELS = pathlib.Path(__file__).parents[2] / 'models'


@pytest.mark.parametrize('name', sorted(path.name for path in MODELS.iterdir() if path.is_dir()))
def test_model_loads_and_is_described(name):
    predict.load(MODELS / name, make_task)
    assert f'| `{name}` |' in (MODELS / 'README.md').read_text()


def test_models_are_small():
    assert sum(path.stat().st_size for path in MODELS.rglob('*') if path.is_file()) < 4 * 2**20


def test_pets_model_segments_a_drawn_pet():
    image, mask, _ = synthetic.example(0, 'test', 1, 128)
    probabilities = predict.load(MODELS / 'pets', make_task)(image[None])
    assert np.mean(np.asarray(probabilities[0]).argmax(-1) == mask[..., 0] - 1) > 0.6
