"""Label-conditioned VAE on CIFAR-10.

Needs the two classifiers, which it copies into its work directory:

    python main.py --config=configs/classifier_cifar10.py
    python main.py --config=configs/judge_cifar10.py
    python main.py --config=configs/vae_cifar10.py
    python main.py --config=configs/vae_cifar10.py:demo      synthetic objects, after the other two's :demo

Measured at width 16 after 5 epochs (docs/results.md): the judge predicts the given label for 95.8 % of the swaps;
44 minutes on two cores. The demo: 74.7 %, blurred; five minutes.
"""

from ml_collections import ConfigDict

from configs import vae_mnist
from configs.classifier_cifar10 import data


def get_config(variant: str = '') -> ConfigDict:
    """As vae_mnist, for colour images, with a residual network and a larger latent.

    The frozen classifier is trained on noised images and gets noised reconstructions, so that adversarial texture does
    not lower the loss.
    """
    config = vae_mnist.get_config(variant)
    suffix = f'_{variant}' if variant else ''
    config.data.update(data(variant))
    config.model.update(
        {'encoder': 'resnet9', 'width': 8 if variant else 64, 'decoder_width': 0, 'latent': 64 if variant else 512}
    )
    config.update({'label_weight': 300.0, 'swap_weight': 300.0})
    config.update(
        {'classifier_workdir': f'runs/classifier_cifar10{suffix}', 'judge_workdir': f'runs/judge_cifar10{suffix}'}
    )
    config.batch_size = 50 if variant else 64
    config.optimizer.learning_rate = 1.5e-2
    config.augment.flip = True
    config.show.noise = 0.25
    return config
