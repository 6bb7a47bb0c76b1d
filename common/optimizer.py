"""Optimizer, learning-rate schedule and moving averages, as the configuration names them."""

import jax
import jax.numpy as jnp
import optax
import optax.contrib

from common.errors import UserError, check_choice

OPTIMIZERS = {
    'adamw': lambda rate, decay: optax.adamw(rate, weight_decay=decay, mask=is_kernel),
    'sgd': lambda rate, decay: optax.chain(
        optax.add_decayed_weights(decay, mask=is_kernel), optax.sgd(rate, momentum=0.9, nesterov=True)
    ),
    'muon': lambda rate, decay: optax.contrib.muon(
        rate, weight_decay=decay, consistent_rms=0.2, muon_weight_dimension_numbers=as_matrices
    ),
}


def create(config, learning_rate: optax.Schedule) -> optax.GradientTransformation:
    """The optimizer of `config.optimizer`. Raises UserError for bad values."""
    check_choice('optimizer.name', config.name, OPTIMIZERS)
    if not (
        config.learning_rate > 0 and config.clip_norm >= 0 and config.weight_decay >= 0 and 0 <= config.ema_decay < 1
    ):
        raise UserError(
            'the optimizer needs learning_rate > 0, clip_norm >= 0 (0 for none), weight_decay >= 0 and '
            '0 <= ema_decay < 1'
        )
    rule = OPTIMIZERS[config.name](learning_rate, config.weight_decay)
    return optax.chain(optax.clip_by_global_norm(config.clip_norm), rule) if config.clip_norm else rule


def schedule(config, steps: int) -> optax.Schedule:
    """Learning rate by step: linear warm-up to `learning_rate`, then constant, or to 0 at the end."""
    check_choice('optimizer.schedule', config.schedule, ('cosine', 'linear', 'constant'))
    if not 0 <= config.warmup_fraction < 1:
        raise UserError(f'optimizer.warmup_fraction is {config.warmup_fraction}; choose it in [0, 1)')
    peak, warmup = config.learning_rate, round(config.warmup_fraction * steps)
    after = {
        'cosine': optax.cosine_decay_schedule(peak, max(steps - warmup, 1)),
        'linear': optax.linear_schedule(peak, 0, max(steps - warmup, 1)),
        'constant': optax.constant_schedule(peak),
    }[config.schedule]
    return optax.join_schedules([optax.linear_schedule(0, peak, warmup), after], [warmup])


def with_counts_of(new, old):
    """The old optimizer state with the new step counts, for a step that is skipped: the schedule advances.

    So does the bias correction of Adam, which makes steps shorter where the first ones of a run are skipped.
    """
    return jax.tree.map(lambda n, o: n if jnp.issubdtype(n.dtype, jnp.integer) else o, new, old)


def is_kernel(params):
    """True for the kernels of convolutions and dense layers, to which weight decay and Muon apply."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == 'kernel', params)


def as_matrices(params):
    """Kernels as matrices [inputs, channels] for Muon; all other parameters use Adam with Nesterov momentum.

    Muon (Jordan 2024, kellerjordan.github.io/posts/muon) orthogonalises the update of a kernel; its steps
    are scaled to the size of Adam's (Liu et al. 2025, arXiv:2502.16982).
    """

    def one(kernel, p):
        return optax.contrib.MuonDimensionNumbers(tuple(range(p.ndim - 1)), p.ndim - 1) if kernel else None

    return jax.tree.map(one, is_kernel(params), params)


def update_average(average, values, step: jax.Array, decay: float):
    """Exponential moving average with warm-up, so that the initial values soon have no weight.

    The decay rises as (1 + step) / (10 + step) up to `decay`; with `decay` 0 the average equals the values.
    """
    weight = jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    return jax.tree.map(lambda a, v: weight * a + (1 - weight) * v, average, values)
