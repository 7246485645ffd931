"""CIFAR-10, in both forms that its publisher offers (Krizhevsky 2009)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..errors import DataError, FileError
from ._archive import Archive
from ._augment import Crop, Flip
from ._batch_file import read_batch_file
from ._dataset import Dataset
from ._folders import DataDir, download_root, given_folder
from ._storage import File, FileRows, Records

__all__ = ["CIFAR10", "download_cifar10", "load_cifar10"]

_CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
_SHAPE = (3, 32, 32)
_PIXELS = 3 * 32 * 32
_RECORD = 1 + _PIXELS  # a label, then the planes of red, green and blue
_BATCHES = {"train": [f"data_batch_{i}" for i in range(1, 6)], "test": ["test_batch"]}
_BINARY, _PYTHON = "cifar-10-batches-bin", "cifar-10-batches-py"

CIFAR10 = Archive(
    urls=("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",),
    sha256="c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    members=tuple(f"{_BINARY}/{name}.bin" for names in _BATCHES.values() for name in names),
)


def load_cifar10(data_dir: DataDir = None) -> Dataset:
    """Open the files in the folder that is given, else in the cache, downloaded once.

    The images stay in their files.
    """
    folder = given_folder("cifar10", data_dir, _BINARY, _PYTHON) or download_cifar10()
    read = _read_python if folder.name == _PYTHON else _read_binary
    train, test = (read(folder, _BATCHES[part]) for part in ("train", "test"))
    return Dataset.from_arrays("cifar10", train, test, _CLASSES, augmentation=(Flip(), Crop(4)))


def download_cifar10(data_dir: DataDir = None) -> Path:
    """Fetch and unpack the binary form, unless it is there; return its folder."""
    root = download_root(data_dir)
    CIFAR10.fetch(root)
    return root / _BINARY


def _read_binary(folder: Path, names: Sequence[str]) -> tuple[FileRows, np.ndarray]:
    records, labels = [], []
    for name in names:
        path = folder / f"{name}.bin"
        file = File.open(path)
        size = path.stat().st_size
        if size == 0 or size % _RECORD:
            raise FileError(
                f"{path} is truncated, or of another format: expected images of {_RECORD} bytes, "
                f"found {size} bytes in all"
            )
        count = size // _RECORD
        records.append(Records(file, 1, _RECORD, count))
        for start in range(0, count, 256):
            block = np.empty((min(256, count - start), _RECORD), np.uint8)
            file.read(block, start * _RECORD)
            labels.append(block[:, 0].copy())
    return FileRows(records, _SHAPE, np.dtype(np.uint8)), np.concatenate(labels)


def _read_python(folder: Path, names: Sequence[str]) -> tuple[FileRows, np.ndarray]:
    records, labels = [], []
    for name in names:
        path = folder / name
        file = File.open(path)
        batch = read_batch_file(path)
        if batch.shape != (len(batch.labels), _PIXELS):
            raise DataError(
                f"{path} holds {len(batch.labels)} labels, but an array of shape {batch.shape}: "
                f"expected ({len(batch.labels)}, {_PIXELS})"
            )
        records.append(Records(file, batch.offset, _PIXELS, len(batch.labels)))
        labels.append(np.array(batch.labels))
    return FileRows(records, _SHAPE, np.dtype(np.uint8)), np.concatenate(labels)
