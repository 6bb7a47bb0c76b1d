"""Functions are compared on CPU, in full float32; an accelerator, where there is one, is for the speeds."""

import os

import jax

os.environ['CUDA_VISIBLE_DEVICES'] = ''
jax.config.update('jax_platforms', 'cpu')
