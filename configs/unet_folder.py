"""U-Net on your own photos and masks, in a folder: images/ and masks/ with the same names.

    python main.py --mode=data --config=configs/unet_folder.py --config.data.dir=DIR     what is in it
    python main.py --config=configs/unet_folder.py --config.data.dir=DIR

Classes are taken from the masks or from DIR/classes.json (docs/own_pictures.md). A segmentation data set of TFDS works
too: --config.data.name=NAME.
"""

from ml_collections import ConfigDict

from configs import unet_mp_tr_ce


def get_config(variant: str = '') -> ConfigDict:
    """As unet_mp_tr_ce, with classes from the data, for tens to thousands of pictures; 'demo' takes drawn pets."""
    config = unet_mp_tr_ce.get_config(variant)
    config.data.update({'classes': (), 'mask_values': (), 'colors': ()})
    if variant == 'demo':
        return config
    config.data.update({'name': 'folder', 'image_size': 128})
    config.model.width = 16
    config.update(
        {'num_epochs': 100, 'batch_size': 8, 'eval_batch_size': 16, 'log_every_steps': 10, 'eval_every_epochs': 10}
    )
    return config
