"""The judge of a VAE on your own pictures: another architecture and seed than the frozen classifier's, in no loss.

python main.py --config=configs/judge_folder.py --config.data.dir=DIR
"""

from ml_collections import ConfigDict

from configs import classifier_folder


def get_config(variant: str = '') -> ConfigDict:
    """As classifier_folder, with a plain convolutional network, and without noise."""
    config = classifier_folder.get_config(variant)
    config.seed = 1
    config.model.update({'encoder': 'plain', 'width': 8 if variant else 32})
    config.augment.noise = 0.0
    return config
