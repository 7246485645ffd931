"""Where data sets lie on this machine."""

import os
import sys
from pathlib import Path
from typing import TypeAlias

from ..errors import DataError

__all__ = ["DataDir", "download_folder", "given_folder"]

#: The folder that holds a folder for each data set; None leaves it to the environment.
DataDir: TypeAlias = str | os.PathLike[str] | None

_VARIABLE = "TINYGRAD_EDGE_DATA"


def given_folder(name: str, data_dir: DataDir) -> Path | None:
    """Return the folder `name` of the data folder that the caller, or the environment, names.

    Returns
    -------
    Path or None
        None where nobody names a data folder.

    Raises
    ------
    DataError
        The data folder has no such folder.
    """
    root = _given_root(data_dir)
    if root is None or (root / name).is_dir():
        return root and root / name
    raise DataError(
        f"there is no folder {root / name}: tinygrad_edge.data.download({name!r}, {str(root)!r}) "
        f"makes it, and without {'data_dir' if data_dir else _VARIABLE} the data goes to a cache"
    )


def download_folder(name: str, data_dir: DataDir) -> Path:
    """Return where to download the data set `name` to; the folder need not be there yet."""
    return (_given_root(data_dir) or _cache()) / name


def _given_root(data_dir: DataDir) -> Path | None:
    root = data_dir or os.environ.get(_VARIABLE)
    return Path(os.path.expanduser(root)) if root else None


def _cache() -> Path:
    """Return the cache folder that the platform gives an application."""
    variable, default = {
        "darwin": ("", "~/Library/Caches"),
        "win32": ("LOCALAPPDATA", "~/AppData/Local"),
    }.get(sys.platform, ("XDG_CACHE_HOME", "~/.cache"))
    base = os.environ.get(variable, "")
    if not os.path.isabs(base):  # which the XDG specification says to ignore
        base = os.path.expanduser(default)
    if not os.path.isabs(base):
        raise DataError(f"this user has no home folder to download to: set {_VARIABLE} to a folder")
    return Path(base, "tinygrad_edge")
