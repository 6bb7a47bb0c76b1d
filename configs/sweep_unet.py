"""The whole design of the U-Net: two ways down x two ways up x two losses, three seeds each; 24 runs.

    python main.py --mode=sweep --config=configs/sweep_unet.py          one by one, in runs/sweep_unet/
    python main.py --mode=sweep --config=configs/sweep_unet.py:demo     synthetic pets, two minutes a run
    python main.py --mode=report --runs='runs/sweep_unet/*'

An axis that is given as a flag keeps that value alone: --config.seed=1 runs eight of the 24.
"""

from ml_collections import ConfigDict

from configs import unet_mp_tr_ce

AXES = {
    'model.down': {'mp': 'max_pool', 'strconv': 'strided_conv'},
    'model.up': {'tr': 'transposed_conv', 'ups': 'upsample'},
    'loss': {'ce': 'cross_entropy', 'dice': 'dice'},
    'seed': {'seed0': 0, 'seed1': 1, 'seed2': 2},
}


def get_config(variant: str = '') -> ConfigDict:
    """What all runs have in common: unet_mp_tr_ce."""
    return unet_mp_tr_ce.get_config(variant)
