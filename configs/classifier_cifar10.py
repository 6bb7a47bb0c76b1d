"""The frozen classifier of the CIFAR-10 VAE: Kakao Brain's ResNet-9.

    python main.py --config=configs/classifier_cifar10.py
    python main.py --config=configs/classifier_cifar10.py:demo      synthetic objects

Measured at width 16 after only 10 epochs (docs/runs): 82.5 % of the first 1,000 test images, 13 minutes on two cores.
"""

from typing import Any

from ml_collections import ConfigDict

from configs import classifier_mnist

CLASSES = ('airplane', 'automobile', 'bird', 'cat', 'deer', 'dog', 'frog', 'horse', 'ship', 'truck')


def data(variant: str) -> dict[str, Any]:
    """The `data` section of all configurations for CIFAR-10, or with a variant for synthetic objects."""
    return {
        'name': 'synthetic_objects' if variant else 'cifar10',
        'image_size': 32,
        'classes': () if variant else CLASSES,
        'mean': (0.4914, 0.4822, 0.4465),
        'std': (0.247, 0.243, 0.261),
    }


def get_config(variant: str = '') -> ConfigDict:
    """As classifier_mnist, for colour images; trained with noise on them (see vae_cifar10)."""
    config = classifier_mnist.get_config(variant)
    config.data.update(data(variant))
    config.model.update({'encoder': 'resnet9', 'width': 4 if variant else 64})
    config.update({'num_epochs': 12 if variant else 30, 'batch_size': 50 if variant else 128})
    config.label_smoothing = 0.1
    config.optimizer.update({'name': 'muon', 'learning_rate': 1e-2, 'weight_decay': 0.05})
    config.augment.update({'flip': True, 'scale': 0.0, 'aspect': 0.0, 'shift': 0.125, 'cut_out': 0.25, 'noise': 0.25})
    return config
