"""The configuration of a run, from its work directory; --config.* flags without --config change this one.

python main.py --mode=eval --workdir=runs/unet_folder --config.data.dir=OTHER
"""

import pathlib

from ml_collections import ConfigDict

from common.workdir import load_config


def get_config(workdir: str) -> ConfigDict:
    """The configuration that is stored in `workdir`."""
    return load_config(pathlib.Path(workdir).expanduser())
