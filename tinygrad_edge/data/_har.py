"""UCI HAR: six activities, told from a smartphone at the waist (Anguita et al. 2012).

A window of 2.56 s at 50 Hz, in nine channels, is an image of 9 x 1 x 128: along x, y and z the
acceleration without gravity in g, the angular velocity in radians per second, and the acceleration
with gravity.
"""

from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import TextIO

import numpy as np

from ..errors import FileError
from ._archive import Archive
from ._augment import Noise
from ._dataset import Dataset
from ._folders import DataDir, download_root, given_folder
from ._images import Images
from ._progress import progress
from ._storage import allocate

__all__ = ["UCI_HAR", "download_uci_har", "load_uci_har"]

_FOLDER = "UCI HAR Dataset"
_CLASSES = (
    *("walking", "walking upstairs", "walking downstairs"),
    *("sitting", "standing", "lying"),
)
_CHANNELS = [f"{s}_{axis}" for s in ("body_acc", "body_gyro", "total_acc") for axis in "xyz"]
_SAMPLES = 128  # of a window
_BLOCK = 256  # windows, read at a time


def _members(part: str) -> list[str]:
    """Name the files of one part, the labels first."""
    signals = [f"{part}/Inertial Signals/{channel}_{part}.txt" for channel in _CHANNELS]
    return [f"{part}/y_{part}.txt", *signals]


UCI_HAR = Archive(
    urls=(
        "https://archive.ics.uci.edu/static/public/240/"
        "human+activity+recognition+using+smartphones.zip",
    ),
    sha256="c00b803081a5c797cd5e4b83700a9810b38d53d9d84e01917e090e1fdbc81031",
    members=tuple(f"{_FOLDER}/{name}" for part in ("train", "test") for name in _members(part)),
    inner="UCI HAR Dataset.zip",
)


def load_uci_har(data_dir: DataDir = None) -> Dataset:
    """Read the files in the folder that is given, else in the cache, downloaded once.

    A missing value (NaN) is filled by its channel's mean; the published files have none.
    """
    folder = given_folder("uci_har", data_dir, _FOLDER) or download_uci_har()
    train, test = (_read_part(folder, part) for part in ("train", "test"))
    return Dataset.from_arrays(
        "uci_har", train, test, _CLASSES, fill_missing=True, augmentation=(Noise(0.05),)
    )


def download_uci_har(data_dir: DataDir = None) -> Path:
    """Fetch and unpack the files, unless they are there; return their folder."""
    root = download_root(data_dir)
    UCI_HAR.fetch(root)
    return root / _FOLDER


def _read_part(folder: Path, part: str) -> tuple[Images, np.ndarray]:
    labels_path, *paths = (folder / name for name in _members(part))
    try:
        labels = np.loadtxt(labels_path, np.int64, ndmin=1) - 1
    except (OSError, ValueError) as error:
        raise FileError(f"cannot read {labels_path}: {error}") from error
    images = allocate((len(labels), len(_CHANNELS), 1, _SAMPLES), np.dtype(np.float32))
    with ExitStack() as stack, progress(f"UCI HAR, {part} part", len(labels), "items") as advance:
        files = [stack.enter_context(_open(path)) for path in paths]
        for start in range(0, len(labels), _BLOCK):
            count = min(_BLOCK, len(labels) - start)
            channels = [_read_windows(file, count) for file in files]
            images[start : start + count] = np.stack(channels, axis=1)[:, :, None]
            advance(count)
        for file in files:
            if file.readline().strip():
                raise FileError(f"{file.name} holds more windows than the {len(labels)} labels")
    return images, labels


def _open(path: Path) -> TextIO:
    try:
        return open(path, encoding="ascii")
    except OSError as error:
        raise FileError(f"cannot read {path}: {error.strerror}") from error


def _read_windows(file: TextIO, count: int) -> np.ndarray:
    """Read the next `count` lines, float32 of shape (count, 128)."""
    try:
        lines = list(islice(file, count))
        if len(lines) < count:
            raise ValueError("it ends before the labels do")
        windows = np.loadtxt(lines, np.float32, ndmin=2)
        if windows.shape != (count, _SAMPLES):
            raise ValueError(f"{windows.shape[1]} values in a line, expected {_SAMPLES}")
    except ValueError as error:
        raise FileError(f"{file.name} is damaged: {error}") from error
    return windows
