"""Runs the comparison of functions on a CPU, where products have full float32 precision."""

import os

import jax

os.environ['CUDA_VISIBLE_DEVICES'] = ''
jax.config.update('jax_platforms', 'cpu')
