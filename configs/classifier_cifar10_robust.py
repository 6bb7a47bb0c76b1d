"""An adversarially trained frozen classifier, whose gradients show objects (Santurkar et al. 2019, arXiv:1906.09453).

    python main.py --config=configs/classifier_cifar10_robust.py
    python main.py --config=configs/classifier_cifar10_robust.py:demo      synthetic objects

Measured at width 16 after only 5 epochs (docs/runs): 66.3 % of the first 1,000 test images, 5 minutes on two cores.
"""

from ml_collections import ConfigDict

from configs import classifier_cifar10


def get_config(variant: str = '') -> ConfigDict:
    """As classifier_cifar10, with attacks in place of noise, cut-out and label smoothing (vae/attack.py)."""
    config = classifier_cifar10.get_config(variant)
    config.augment.update({'attack': 1.0, 'noise': 0.0, 'cut_out': 0.0})
    config.label_smoothing = 0.0
    return config
