"""The judge of the CIFAR-10 VAE: another architecture and seed than the frozen classifier's, never in any loss.

    python main.py --config=configs/judge_cifar10.py
    python main.py --config=configs/judge_cifar10.py:demo      synthetic objects

Measured at width 24 after only 6 epochs (docs/runs): 84.6 % of the first 1,000 test images, 7 minutes on two cores.
"""

from ml_collections import ConfigDict

from configs import classifier_cifar10


def get_config(variant: str = '') -> ConfigDict:
    """As classifier_cifar10, with a plain convolutional network, and without noise."""
    config = classifier_cifar10.get_config(variant)
    config.seed = 1
    config.model.update({'encoder': 'plain', 'width': 8 if variant else 64})
    config.augment.noise = 0.0
    return config
