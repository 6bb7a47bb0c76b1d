"""The works to measure: networks, image sizes and batches, as configurations from which both sides are built."""

import copy
from typing import NamedTuple

from ml_collections import ConfigDict
import numpy as np

from configs import classifier_cifar10, classifier_mnist, unet_mp_tr_ce, vae_cifar10, vae_mnist

Layers = list[dict[str, np.ndarray]]


class Work(NamedTuple):
    """One network at one size.

    Attributes:
        name: family, width, batch and image size, as in 'unet_w32_b16_128px'.
        config: the configuration of the trained network.
        classifier: that of the frozen classifier in its loss; only for a VAE.
    """

    name: str
    config: ConfigDict
    classifier: ConfigDict | None = None


class Reference(NamedTuple):
    """The weights and examples for PyTorch: host arrays, in our layout.

    Attributes:
        layers: arrays of the network's layers, in the order in which they run; see `in_order` in ours.py.
        others: parameters outside layers, by name.
        classifier: layers of the frozen classifier.
        arrays: the training examples.
        batch: the examples of the first step; for a VAE with `given` labels and `noise`.
    """

    layers: Layers
    others: dict[str, np.ndarray]
    classifier: Layers
    arrays: dict[str, np.ndarray]
    batch: dict[str, np.ndarray]


def unet(width: int, batch: int, size: int, base=unet_mp_tr_ce, multipliers=(1, 2, 4, 8, 8)) -> Work:
    """The U-Net of the configuration file `base`."""
    config = bare(base.get_config(), batch)
    config.data.image_size = size
    config.model.update({'width': width, 'multipliers': multipliers})
    return Work(f'unet_w{width}_b{batch}_{size}px', config)


def vae_on_mnist(batch: int) -> Work:
    return Work(f'vae_mnist_b{batch}', plain(vae_mnist.get_config(), batch), classifier_mnist.get_config())


def vae_on_cifar10(width: int, batch: int) -> Work:
    """The ResNet-9 VAE and its frozen ResNet-9, both `width` channels wide at the first layer."""
    config, classifier = plain(vae_cifar10.get_config(), batch), classifier_cifar10.get_config()
    config.model.width = classifier.model.width = width
    return Work(f'vae_cifar10_w{width}_b{batch}', config, classifier)


def bare(config: ConfigDict, batch: int) -> ConfigDict:
    """The configuration without augmentation, without an end, and with AdamW, so that both sides do the same work."""
    config.update({'num_epochs': 10**6, 'batch_size': batch, 'eval_batch_size': batch})
    config.augment.flip = False
    # PyTorch's Muon does not support convolutions.
    config.optimizer.update({'name': 'adamw', 'learning_rate': 1e-3, 'schedule': 'constant', 'warmup_fraction': 0.0})
    return config


def plain(config: ConfigDict, batch: int) -> ConfigDict:
    """Also without the swap loss, and without changes to the reconstruction before the classifier."""
    config.swap_weight = 0.0
    config.show.update({'scale': 0.0, 'shift': 0.0, 'noise': 0.0})
    return bare(config, batch)


def in_dtype(work: Work, dtype: str) -> Work:
    """The same work in another dtype."""
    work = copy.deepcopy(work)
    for config in filter(None, (work.config, work.classifier)):
        config.dtype = dtype
    return work


def models(accelerator: bool) -> list[Work]:
    """The works of the main table. On a CPU the CIFAR-10 VAE is narrower; its full width takes minutes there."""
    return [
        unet(16, 16, 128),
        unet(32, 16, 128),
        vae_on_mnist(32),
        vae_on_mnist(128),
        vae_on_cifar10(64 if accelerator else 16, 128),
    ]


def growth() -> list[Work]:
    """The same U-Net at growing image sizes, then at growing batches."""
    sizes = [unet(16, 16, size) for size in (64, 96, 128, 192, 256)]
    return sizes + [unet(16, batch, 128) for batch in (8, 32, 64)]


def tiny() -> list[Work]:
    """Every kind of work at a tiny size, as a quick check."""
    return [unet(4, 4, 32), vae_on_mnist(4), vae_on_cifar10(2, 4)]


def arrays(work: Work) -> dict[str, np.ndarray]:
    """Four batches of random examples, in the form that the task's `load` returns."""
    data, rng = work.config.data, np.random.default_rng(0)
    shape = (4 * work.config.batch_size, data.image_size, data.image_size)
    channels = len(data.mean) if work.classifier else 3
    images = rng.integers(0, 256, (*shape, channels), np.uint8)
    if work.classifier is None:
        return {'image': images, 'labels': rng.integers(0, 3, shape, np.uint8)}
    return {'image': images, 'label': rng.integers(0, 10, shape[0], np.int32)}
