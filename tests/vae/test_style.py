"""Measures of style on images whose values are known."""

import jax.numpy as jnp
import numpy as np
import pytest

from vae import style


def test_colour_measures_of_known_images():
    image = np.zeros((4, 4, 3), np.float32)
    image[:2] = (0.9, 0.3, 0.0)  # Grey 0.4, saturation 0.9.
    image[2:] = (0.2, 0.2, 0.2)  # Grey 0.2, saturation 0.
    measures = dict(zip(style.names(3), np.asarray(style.measures(jnp.asarray(image)[None]))[0], strict=True))
    assert measures == pytest.approx(
        {'red': 0.55, 'green': 0.25, 'blue': 0.1, 'contrast': 0.1, 'saturation': 0.45}, abs=1e-6
    )
