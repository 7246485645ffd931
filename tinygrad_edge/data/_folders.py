"""Where data sets lie on this machine."""

import os
from pathlib import Path
from typing import TypeAlias

from .. import files
from ..errors import DataError

__all__ = ["DataDir", "cache_folder", "download_root", "given_folder", "given_root"]

#: The folder that holds a folder for each data set; None leaves it to the environment.
DataDir: TypeAlias = str | os.PathLike[str] | None

_VARIABLE = "TINYGRAD_EDGE_DATA"


def given_folder(name: str, data_dir: DataDir, *folders: str) -> Path | None:
    """Return a data set's folder in the data folder that the caller, or the environment, names.

    Parameters
    ----------
    name : str
        Of the data set.
    data_dir : DataDir
        What the caller names.
    *folders : str
        What the data set's folder may be called, in the order of preference; by default `name`.

    Returns
    -------
    Path or None
        None where nobody names a data folder.

    Raises
    ------
    DataError
        The data folder has no such folder.
    """
    root = given_root(data_dir)
    if root is None:
        return None
    paths = [root / folder for folder in folders or (name,)]
    for path in paths:
        if path.is_dir():
            return path
    raise DataError(
        f"there is no folder {' or '.join(map(str, paths))}: tinygrad_edge.data.download({name!r}, "
        f"{str(root)!r}) makes it, and without {'data_dir' if data_dir else _VARIABLE} the data "
        f"goes to a cache"
    )


def given_root(data_dir: DataDir) -> Path | None:
    """Return the data folder that the caller, or else the environment, names."""
    root = data_dir or os.environ.get(_VARIABLE)
    return Path(os.path.expanduser(root)) if root else None


def download_root(data_dir: DataDir) -> Path:
    """Return the folder to download to; it need not be there yet."""
    return given_root(data_dir) or cache_folder()


def cache_folder() -> Path:
    """Return the cache folder that the platform gives an application."""
    folder = files.cache_folder()
    if folder is None:
        raise DataError(f"this user has no home folder to download to: set {_VARIABLE} to a folder")
    return folder
