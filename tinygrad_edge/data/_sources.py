"""The data sets that have a name, and those that are one's own."""

import difflib
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from ..errors import DataError
from ._cifar import download_cifar10, load_cifar10
from ._dataset import Dataset
from ._folders import DataDir, given_root
from ._har import download_uci_har, load_uci_har
from ._image_folder import image_folder
from ._mnist import FASHION_MNIST, MNIST, load_digits
from ._npz import load_npz

__all__ = ["SOURCES", "Source", "download", "load"]


class Source(NamedTuple):
    """How a data set is had: one row of the table."""

    load: Callable[[DataDir], Dataset]
    download: Callable[[DataDir], Path] | None  # None: it is part of the package


SOURCES = {
    "digits": Source(load_digits, None),
    "mnist": Source(MNIST.load, MNIST.download),
    "fashion_mnist": Source(FASHION_MNIST.load, FASHION_MNIST.download),
    "cifar10": Source(load_cifar10, download_cifar10),
    "uci_har": Source(load_uci_har, download_uci_har),
}


def load(
    name: str | os.PathLike[str],
    data_dir: DataDir = None,
    *,
    size: int | tuple[int, int] | None = None,
) -> Dataset:
    """Load a data set by its name, or one's own by its path.

    Parameters
    ----------
    name : {"digits", "mnist", "fashion_mnist", "cifar10", "uci_har"} or path
        `digits` is part of the package. The others are looked for in the data folder, as their
        publishers lay them out. Else the path of a folder of pictures, see `image_folder`, or of an
        ``.npz`` file, see `load_npz`; or the name of either in the data folder, without ``.npz``.
    data_dir : str or path, optional
        The folder that holds the data sets' folders; by default what the environment variable
        TINYGRAD_EDGE_DATA names. Where neither names one, a data set that is published is
        downloaded to the user's cache folder the first time.
    size : int or (int, int), optional
        Height and width that the pictures of a folder get, by default 64. Other data sets have
        theirs.

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
    if name in SOURCES:
        dataset = SOURCES[name].load(data_dir)
    else:
        path = _own(name, data_dir)
        if path.is_dir():
            return image_folder(path, size) if size is not None else image_folder(path)
        dataset = load_npz(path)
    if size is not None:
        shape = "x".join(map(str, dataset.image_shape))
        raise DataError(f"size is for folders of pictures; the images of {name} are {shape}")
    return dataset


def download(name: str, data_dir: DataDir = None) -> Path:
    """Download a data set's files, those that are not there already.

    Parameters
    ----------
    name : {"mnist", "fashion_mnist", "cifar10", "uci_har"}
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
    if name not in SOURCES:
        raise _unknown(name)
    source = SOURCES[name]
    if source.download is None:
        raise DataError(f"{name} is part of the package, there is nothing to download")
    return source.download(data_dir)


def _own(name: str | os.PathLike[str], data_dir: DataDir) -> Path:
    """Find a folder or an .npz file by its path, or by its name in the data folder."""
    path = Path(os.path.expanduser(name))
    root = given_root(data_dir)
    candidates = [path] if root is None else [path, root / f"{name}.npz", root / path]
    for candidate in candidates:
        if candidate.is_dir() or (candidate.is_file() and candidate.suffix == ".npz"):
            return candidate
    raise _unknown(os.fspath(name))


def _unknown(name: str) -> DataError:
    nearest = difflib.get_close_matches(name.lower(), SOURCES, n=1)
    hint = f"did you mean {nearest[0]!r}? " if nearest else ""
    return DataError(
        f"there is no data set {name!r}: {hint}there are {', '.join(SOURCES)}, and one's own by "
        f"the path of a folder of pictures or an .npz file"
    )
