"""Label-conditioned VAE on your own labelled pictures (see classifier_folder). It needs the two classifiers:

python main.py --config=configs/classifier_folder.py --config.data.dir=DIR
python main.py --config=configs/judge_folder.py --config.data.dir=DIR
python main.py --config=configs/vae_folder.py --config.data.dir=DIR
"""

from ml_collections import ConfigDict

from configs import vae_cifar10


def get_config(variant: str = '') -> ConfigDict:
    """As vae_cifar10, with labels from the data; 'demo' takes drawn objects."""
    config = vae_cifar10.get_config(variant)
    suffix = f'_{variant}' if variant else ''
    config.data.update({'classes': (), 'mean': (), 'std': ()})
    config.update(
        {'classifier_workdir': f'runs/classifier_folder{suffix}', 'judge_workdir': f'runs/judge_folder{suffix}'}
    )
    if variant == 'demo':
        return config
    config.data.update({'name': 'folder', 'image_size': 64})
    config.model.update({'width': 16, 'latent': 128})
    config.update({'num_epochs': 50, 'batch_size': 32, 'eval_batch_size': 50, 'log_every_steps': 20})
    return config
