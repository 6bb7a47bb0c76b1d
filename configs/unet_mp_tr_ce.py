"""U-Net on Oxford-IIIT Pet: max pooling down, transposed convolution up, cross-entropy.

The files of the other three variants change one to three lines of it.

    python main.py --config=configs/unet_mp_tr_ce.py           25 epochs on Oxford-IIIT Pet
    python main.py --config=configs/unet_mp_tr_ce.py:demo      synthetic pets, about two minutes on two cores

The full configuration has 240x240 pixels and width 32, hours on a CPU; it was not trained.
Measured with width 8 at 128 pixels, half an hour on two cores (docs/runs.md, command 2): 90.2 % of the test pixels,
mean IoU 0.736.
The demo: 88.6 % and 0.699.
"""

from ml_collections import ConfigDict

from common.errors import check_choice


def get_config(variant: str = '') -> ConfigDict:
    """The full configuration, or with 'demo' a small one on embedded data."""
    check_choice('what follows the colon', variant, ('', 'demo'))
    config = ConfigDict(
        {
            'task': 'unet',
            'seed': 0,
            'num_epochs': 25,
            'batch_size': 16,  # Global: over all devices.
            'eval_batch_size': 64,
            'dtype': 'float32',  # Or 'bfloat16', for GPUs and TPUs; slower on a CPU.
            'loss': 'cross_entropy',  # Or 'dice'.
            'class_weights': '',  # For cross-entropy: 'balanced', or a number for each class, '1,1,3'; '' for 1 each.
            'average_mirrored': False,  # Whether predictions are averaged with those for the mirror image.
            'init_from': '',  # A work directory whose averaged weights training starts from.
            'checkpoint': {
                'best': '',  # The metric by which the best state is kept, 'mean_iou' or '-loss'; '' keeps the last.
            },
            'eval_every_epochs': 1,
            'log_every_steps': 50,
            'steps_per_dispatch': 0,  # 0: 10 on an accelerator, 1 on CPU.
            'data': {
                'name': 'oxford_iiit_pet',
                'dir': '',  # The folder of your own pictures, or TFDS's data_dir ('' for its default).
                'manual_dir': '',  # A folder of archives fetched by hand, or of what the archives of Pets unpack to.
                'image_size': 240,
                'validation_examples': 0,  # Held out of the end of the training split.
                'test_share': 0.2,  # Share held out for testing, for a folder without a test part.
                'classes': ('pet', 'background', 'border'),
                'mask_values': ('1', '2', '3'),  # The classes' values in masks: numbers, or colours like '#ff0000'.
                'ignore_values': (),  # Values of pixels that count in no loss and no metric.
                'colors': ('#e67828', '#2d5a96', '#faf0c8'),  # The colours of the classes in pictures.
                'mean': (0.45, 0.45, 0.45),  # Images in [0, 1] are standardised by mean and std.
                'std': (0.27, 0.27, 0.27),
            },
            'model': {
                'width': 32,
                'multipliers': (1, 2, 4, 8, 8),  # Channels of each level, in units of `width`.
                'down': 'max_pool',  # Or 'strided_conv'.
                'up': 'transposed_conv',  # Or 'upsample'.
            },
            'optimizer': {
                'name': 'muon',  # Or 'adamw', at a learning rate of 3e-3, or 'sgd'.
                'learning_rate': 1.2e-2,
                'schedule': 'linear',  # Or 'cosine', both to 0 at the end; or 'constant'.
                'warmup_fraction': 0.1,
                'weight_decay': 0.02,
                'clip_norm': 1.0,
                'ema_decay': 0.998,  # 0 for none.
                'skip_nonfinite': False,  # Whether to skip steps whose loss or gradient is not finite.
            },
            'augment': {
                'flip': True,
                'scale': 0.3,  # Zoom in or out by up to this.
                'aspect': 0.15,
                'shift': 0.1,  # As a share of the image's side.
                'brightness': 0.25,
                'contrast': 0.25,
                'saturation': 0.25,
                'start_size': 0,  # Side of the images at the start of training; 0 for full size throughout.
                'grow_fraction': 0.7,  # Share of training until images have full size.
            },
        }
    )
    if variant == 'demo':
        config.update({'num_epochs': 10, 'batch_size': 16, 'log_every_steps': 20, 'eval_every_epochs': 2})
        config.data.update({'name': 'synthetic_pets', 'image_size': 64})
        config.model.width = 8
    return config
