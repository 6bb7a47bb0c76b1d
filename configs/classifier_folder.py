"""A classifier of your own pictures, a folder for each label: DIR/LABEL/*.png, or DIR/train/LABEL and DIR/test/LABEL.

    python main.py --mode=data --config=configs/classifier_folder.py --config.data.dir=DIR     what is in it
    python main.py --config=configs/classifier_folder.py --config.data.dir=DIR

Labels, mean and standard deviation are taken from the pictures. A labelled data set of TFDS works too:
--config.data.name=fashion_mnist --config.data.image_size=28 --config.model.encoder=small.
"""

from ml_collections import ConfigDict

from configs import classifier_cifar10


def get_config(variant: str = '') -> ConfigDict:
    """As classifier_cifar10, with labels from the data; 'demo' takes drawn objects."""
    config = classifier_cifar10.get_config(variant)
    config.data.update({'classes': (), 'mean': (), 'std': ()})
    if variant == 'demo':
        return config
    config.data.update({'name': 'folder', 'image_size': 64})
    config.model.width = 32
    config.update({'num_epochs': 30, 'batch_size': 32, 'eval_batch_size': 100, 'log_every_steps': 20})
    return config
