"""A trained model as files that need nothing of this repository: function, parameters, and what they are."""

import functools
import pathlib
from typing import Any

from flax import traverse_util
import jax
import jax.export
import jax.numpy as jnp
import numpy as np

from common import workdir as workdir_lib
from common.errors import UserError
from common.serving.predict import Predictor

PLATFORMS = ('cpu', 'cuda', 'tpu')


def export(predictor: Predictor, folder: pathlib.Path) -> pathlib.Path:
    """Writes model.jax_export, parameters.npz and model.json into `folder`, and returns that.

    The function holds its parameters and takes a batch of any size. Raises UserError where `folder` cannot
    be written.
    """
    variables = jax.tree.map(np.asarray, predictor.variables)
    function = jax.jit(functools.partial(predictor.task.predict, variables))
    exported = jax.export.export(function, platforms=PLATFORMS)(*arguments(predictor.task))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / 'model.jax_export').write_bytes(exported.serialize())
        np.savez(folder / 'parameters.npz', **traverse_util.flatten_dict(variables, sep='/'))
        workdir_lib.write_json(
            folder / 'model.json',
            describe(predictor)
            | {
                'inputs': [str(shape) for shape in exported.in_avals],
                'outputs': [str(shape) for shape in exported.out_avals],
                'platforms': exported.platforms,
                'jax': jax.__version__,
            },
        )
    except OSError as error:
        raise UserError(f'cannot write to {folder} ({error.strerror}); choose another --output') from error
    return folder


def arguments(task) -> list[jax.ShapeDtypeStruct]:
    """What `task.predict` takes beside the variables, for a batch of any size."""
    (batch,) = jax.export.symbolic_shape('batch')
    size = task.config.data.image_size
    images = jax.ShapeDtypeStruct((batch, size, size, task.channels), jnp.uint8)
    return [images, jax.ShapeDtypeStruct((batch,), jnp.int32)] if task.takes_labels else [images]


def describe(predictor: Predictor) -> dict[str, Any]:
    """What goes in and comes out, for people and for programs."""
    task = predictor.task
    return {
        'name': predictor.name,
        'title': task.title,
        'task': task.config.task,
        'data': task.config.data.name,
        'step': predictor.step,
        'num_epochs': task.config.num_epochs,
        'classes': task.classes,
        'colors': task.colors,
        'takes_labels': task.takes_labels,
        'image_size': task.config.data.image_size,
        'channels': task.channels,
        'predict': ' '.join(task.predict.__doc__.split()),
    }
