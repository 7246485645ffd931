"""The data sets that have a name."""

import difflib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from ..errors import DataError
from ._dataset import Dataset
from ._folders import DataDir
from ._mnist import FASHION_MNIST, MNIST, load_digits

__all__ = ["SOURCES", "Source", "download", "load"]


class Source(NamedTuple):
    """How a data set is had: one row of the table."""

    load: Callable[[DataDir], Dataset]
    download: Callable[[DataDir], Path] | None  # None: it is part of the package


SOURCES = {
    "digits": Source(load_digits, None),
    "mnist": Source(MNIST.load, MNIST.download),
    "fashion_mnist": Source(FASHION_MNIST.load, FASHION_MNIST.download),
}


def load(name: str, data_dir: DataDir = None) -> Dataset:
    """Load a data set by its name.

    Parameters
    ----------
    name : {"digits", "mnist", "fashion_mnist"}
        `digits` is part of the package. The others are looked for in the folder of their name, as
        their publishers lay them out, gzipped or not.
    data_dir : str or path, optional
        The folder that holds the data sets' folders; by default what the environment variable
        TINYGRAD_EDGE_DATA names. Where neither names one, the data is downloaded to the user's
        cache folder the first time.

    Returns
    -------
    Dataset
        Checked: each file whole, as many labels as images, each label a class.

    Raises
    ------
    DataError
        The name is unknown, the folder or a file in it is missing, the download failed, or images
        and labels do not fit each other.
    FileError
        A file is truncated, damaged or of another format.

    Examples
    --------
    >>> import tinygrad_edge as te
    >>> te.data.load("digits")
    Dataset('digits', 1437 training and 360 test images of 1x8x8, 10 classes)
    """
    return _source(name).load(data_dir)


def download(name: str, data_dir: DataDir = None) -> Path:
    """Download a data set's files, those that are not there already.

    Parameters
    ----------
    name : {"mnist", "fashion_mnist"}
        Which.
    data_dir : str or path, optional
        As in `load`, which then finds them.

    Returns
    -------
    Path
        The folder that holds the files.

    Raises
    ------
    DataError
        There is nothing to download, or no mirror has a file. What is complete stays, a file that
        is not is removed.
    FileError
        A file cannot be written.
    """
    source = _source(name)
    if source.download is None:
        raise DataError(f"{name} is part of the package, there is nothing to download")
    return source.download(data_dir)


def _source(name: str) -> Source:
    if name in SOURCES:
        return SOURCES[name]
    nearest = difflib.get_close_matches(name.lower(), SOURCES, n=1)
    hint = f"did you mean {nearest[0]!r}? " if nearest else ""
    raise DataError(f"there is no data set {name!r}: {hint}there are {', '.join(SOURCES)}")
