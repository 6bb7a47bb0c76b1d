"""Decoded copies of data sets: what later starts find again."""

from collections.abc import Hashable
import contextlib
import hashlib
import os
import pathlib
import zipfile

import numpy as np

from common.errors import notice

FORMAT = 2  # Raise it when decoding changes, so that old copies are left aside.


def folder() -> pathlib.Path:
    """Below `$XDG_CACHE_HOME` or `~/.cache`."""
    return pathlib.Path(os.environ.get('XDG_CACHE_HOME') or pathlib.Path.home() / '.cache') / 'unet_vae_jax'


def path(name: str, identity: Hashable) -> pathlib.Path:
    """Where the copy with this name and `identity`, all that it depends on, is kept."""
    digest = hashlib.sha256(repr((FORMAT, identity)).encode()).hexdigest()[:12]
    return folder() / f'{name}-{digest}.npz'.replace('/', '_')


def read(path: pathlib.Path) -> dict[str, np.ndarray] | None:
    """The copy; None where there is none, or a damaged one."""
    try:
        with path.open('rb') as file, np.load(file) as arrays:
            return dict(arrays)
    except FileNotFoundError:
        return None
    except (zipfile.BadZipFile, ValueError, OSError, EOFError) as error:
        notice(f'decoding again: the copy in {path} cannot be read ({error})')
        return None


def write(path: pathlib.Path, arrays: dict[str, np.ndarray]) -> None:
    """Writes atomically; a full or read-only disk costs the copy, not the run."""
    partial = path.with_suffix(f'.{os.getpid()}.tmp')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open('wb') as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
        partial.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        notice(f'the decoded copy of the data was not kept: {error}')
