"""Data sets of TFDS, prepared where they are not. The only module that imports TFDS; TensorFlow only prepares."""

from collections.abc import Mapping
import contextlib
import os
import sys
from typing import Any

import tensorflow_datasets as tfds
from tensorflow_datasets.core.download import downloader

from common.data.source import DataSet, Source
from common.errors import UserError, notice


def find(config: Any, features: Mapping[str, tuple[int, ...]]) -> DataSet:
    """The data set `config.name`.

    Args:
        config: the `data` section: `name`, `dir`, `manual_dir`.
        features: the sizes that the last axis of each feature may have; () for a scalar.
    Raises:
        UserError: the data set is not there and cannot be had, or has other features.
    """
    builder = prepared_builder(config)
    found = {name: feature.shape[-1:] for name, feature in builder.info.features.items() if name in features}
    if set(found) != set(features) or not all(
        set(axes) <= set(features[name]) and len(axes) == bool(features[name]) for name, axes in found.items()
    ):
        raise UserError(
            f'{config.name} has other features than this task reads: {found}, not {features}; '
            'choose another data.name or --config'
        )
    label = builder.info.features['label'] if 'label' in features else None
    files = sorted((file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in os.scandir(builder.data_path))
    parts = {
        split: Source(
            f'{config.name} ({split})', builder.as_data_source(split=split), (str(builder.data_path), files, split)
        )
        for split in ('train', 'test')
        if split in builder.info.splits
    }
    return DataSet(
        config.name,
        parts,
        tuple(getattr(label, 'names', None) or ()),
        channels=builder.info.features['image'].shape[-1],
    )


def prepared_builder(config: Any) -> tfds.core.DatasetBuilder:
    """The TFDS builder, with its data on disk. Raises UserError where they cannot be had."""
    advice = (
        'set data.dir to a TFDS folder that holds it, data.manual_dir to a folder with its original '
        'archives, or try it with embedded data: --config=<config file>:demo'
    )
    try:
        builder = tfds.builder(config.name, data_dir=os.path.expanduser(config.dir) or None, file_format='array_record')
    except tfds.core.DatasetNotFoundError as error:
        raise UserError(f'TFDS knows no data set {config.name!r}; {advice}') from error
    except Exception as error:  # TFDS and the file system raise many types.
        reason = ' '.join(str(error).split())[:250]
        raise UserError(
            f'{config.name} in {config.dir or "the TFDS folder"} cannot be opened as array_record '
            f'({reason}); set data.dir to an empty folder to prepare it anew'
        ) from error
    if builder.is_prepared():
        return builder
    manual_dir = os.path.expanduser(config.manual_dir)
    if manual_dir and not tfds.core.Path(manual_dir).is_dir():
        raise UserError(f'data.manual_dir is {config.manual_dir!r}, which is no folder; {advice}')
    notice(f'preparing {config.name} in {builder.data_path}; this is done once')
    downloader.MAX_RETRIES = 6  # Where no host has an address, 13 seconds in place of 200.
    download = tfds.download.DownloadConfig(manual_dir=manual_dir or None)
    tfds.display_progress_bar(sys.stderr.isatty())  # Its control codes garble a log file.
    try:
        with contextlib.redirect_stdout(None):  # Results alone go there; TFDS only repeats the notice above.
            builder.download_and_prepare(download_config=download, file_format='array_record')
    except ImportError as error:
        raise UserError(
            f'preparing {config.name} needs TensorFlow ({error}): pip install tensorflow-cpu; or {advice}'
        ) from error
    except Exception as error:  # The downloader and the file system raise many types.
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f'{config.name} is not in {builder.data_path} and could not be prepared ({reason[:200]}); {advice}'
        ) from error
    return builder
