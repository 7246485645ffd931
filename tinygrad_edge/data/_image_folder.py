"""A folder of pictures, with a folder for each class."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import DataError, FileError
from ._augment import Brightness, Crop, Flip
from ._dataset import Dataset, Skipped
from ._images import Rows
from ._labels import hold_out
from ._philox import integer
from ._photo import image_size
from ._pictures import Pictures
from ._progress import progress

__all__ = ["image_folder"]

#: What the parts of a folder that is divided already are called.
_PARTS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}


def image_folder(
    path: str | os.PathLike[str],
    size: int | tuple[int, int] = 64,
    *,
    held_out: float = 0.2,
    seed: int = 0,
) -> Dataset:
    """Open a folder of pictures: ``path/CLASS/PICTURE``, or ``path/train/CLASS/PICTURE`` and so on.

    Each picture is decoded once to see whether it can be; what cannot, empty classes and stray
    files are left out and reported in `Dataset.skipped`. Hidden files are passed over. Pictures are
    read again when a batch needs them; those that fit 1 GB, as small as they have become, from a
    scratch file on the disk.

    Parameters
    ----------
    path : str or path
        The folder. Pictures may lie in folders of their class's folder. One that is divided has
        ``train`` and ``test`` or ``val``, or all three; without ``test``, ``val`` is it.
    size : int or (int, int)
        Height and width that all pictures get, see `read_image`.
    held_out : float
        How much of each class becomes the test part of a folder that is not divided.
    seed : int
        Decides which, with the pictures' names alone: to add one moves at most one other of its
        class. From 0 to 2**64 - 1.

    Returns
    -------
    Dataset
        uint8 images of shape (3, H, W). Classes are in the order of their names.

    Raises
    ------
    DataError
        There are fewer than two classes, or too few pictures to hold one out; Pillow is missing.
    FileError
        The folder cannot be read.
    """
    root, shape = Path(path), image_size(size)
    integer("seed", seed, 0, 2**64 - 1)
    if not 0 < held_out < 1:
        raise DataError(f"held_out is between 0 and 1, not {held_out}")
    skipped: list[Skipped] = []
    folders, files = _scan(root, skipped)
    pictures = Pictures(root, [file.path for file in files], shape)
    with progress(f"reading {root.name}", len(files), "items") as advance:
        broken = pictures.read_all(advance)
    skipped += [Skipped(files[row].path, why) for row, why in broken.items()]
    readable = [row for row in range(len(files)) if row not in broken]
    filled = {files[row].folder for row in readable}
    skipped += [
        Skipped(f"{f}/", "no picture in it can be read") for f in folders if f not in filled
    ]
    names = sorted({files[row].class_name for row in readable if files[row].part in ("", "train")})
    if len(names) < 2:
        first = f"; skipped {skipped[0].what}: {skipped[0].why}" if skipped else ""
        raise DataError(
            f"{root} has pictures of {len(names)} classes: expected a folder for each of two or "
            f"more{first}"
        )
    parts = _divide(files, readable, names, skipped)
    numbers = {name: number for number, name in enumerate(names)}
    labels = np.array([numbers.get(file.class_name, -1) for file in files])
    if "" in parts:
        rank = np.array([_rank(files[row].path, seed) for row in parts[""].tolist()], np.uint64)
        kept, held = hold_out(labels[parts[""]], rank, held_out)
        if not len(held):
            raise DataError(f"each class of {root} has a single picture: to hold one out takes two")
        parts = {"train": parts[""][kept], "test": parts[""][held]}
    opened = {part: (Rows(pictures, rows), labels[rows]) for part, rows in parts.items()}
    if "test" not in opened and "val" in opened:
        opened["test"] = opened.pop("val")
    if "test" not in opened:
        raise DataError(f"{root} has no picture for testing that can be read")
    return Dataset.from_arrays(
        root.resolve().name,
        opened["train"],
        opened["test"],
        names,
        val=opened.get("val"),
        augmentation=(Flip(), Crop(max(1, min(shape) // 8)), Brightness(0.2)),
        skipped=skipped,
    )


class _File(NamedTuple):
    path: str  #: relative to the folder, with slashes
    folder: str  #: that of its class, likewise

    @property
    def class_name(self) -> str:
        return self.folder.rpartition("/")[2]

    @property
    def part(self) -> str:
        return _PARTS[self.folder.partition("/")[0].lower()] if "/" in self.folder else ""


def _divide(
    files: list[_File], readable: list[int], names: list[str], skipped: list[Skipped]
) -> dict[str, np.ndarray]:
    """Collect the rows of each part; that of a folder that is not divided is ""."""
    parts: dict[str, list[int]] = {}
    for row in readable:
        if files[row].class_name in names:
            parts.setdefault(files[row].part, []).append(row)
        else:
            skipped.append(Skipped(files[row].path, "no training picture is of its class"))
    return {part: np.array(rows) for part, rows in parts.items()}


def _scan(root: Path, skipped: list[Skipped]) -> tuple[list[str], list[_File]]:
    """Find the folders of classes and the files in them, in the order of their names."""
    folders, strays = _entries(root)
    skipped += [Skipped(name, "in no folder of a class") for name in strays]
    parts = {_PARTS[name.lower()] for name in folders if name.lower() in _PARTS}
    if "train" in parts and len(parts) > 1:
        others = [name for name in folders if name.lower() not in _PARTS]
        skipped += [Skipped(f"{name}/", "beside train, val and test") for name in others]
        divided = [name for name in folders if name not in others]
        folders = []
        for part in divided:
            inner, strays = _entries(root / part)
            skipped += [Skipped(f"{part}/{name}", "in no folder of a class") for name in strays]
            folders += [f"{part}/{name}" for name in inner]
    return folders, [file for folder in folders for file in _walk(root, folder, skipped)]


def _entries(folder: Path) -> tuple[list[str], list[str]]:
    """List the names of folders and of other things in a folder."""
    try:
        with os.scandir(folder) as entries:
            seen = sorted((e.name, e.is_dir()) for e in entries if not e.name.startswith("."))
    except OSError as error:
        raise FileError(f"cannot read {folder}: {error.strerror}") from error
    return [name for name, is_dir in seen if is_dir], [name for name, is_dir in seen if not is_dir]


def _walk(root: Path, folder: str, skipped: list[Skipped]) -> Iterator[_File]:
    """Find the files of a class."""

    def closed(error: OSError) -> None:
        skipped.append(Skipped(os.path.relpath(error.filename, root), error.strerror or "closed"))

    for where, inner, names in os.walk(root / folder, onerror=closed):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        for name in sorted(name for name in names if not name.startswith(".")):
            path = Path(where, name)
            relative = path.relative_to(root).as_posix()
            if path.is_file():  # a pipe would be waited for
                yield _File(relative, folder)
            else:
                skipped.append(Skipped(relative, "no regular file"))


def _rank(path: str, seed: int) -> int:
    import hashlib

    key = seed.to_bytes(8, "little")
    digest = hashlib.blake2b(os.fsencode(path), key=key, digest_size=8).digest()
    return int.from_bytes(digest, "little")
