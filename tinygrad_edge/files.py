"""Files that are written whole or not at all, and where an application may keep some."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from .errors import FileError

__all__ = ["atomic_write", "cache_folder"]


def cache_folder() -> Path | None:
    """Return the cache folder that the platform gives an application; None without a home."""
    variable, default = {
        "darwin": ("", "~/Library/Caches"),
        "win32": ("LOCALAPPDATA", "~/AppData/Local"),
    }.get(sys.platform, ("XDG_CACHE_HOME", "~/.cache"))
    base = os.environ.get(variable, "")
    if not os.path.isabs(base):  # which the XDG specification says to ignore
        base = os.path.expanduser(default)
    return Path(base, "tinygrad_edge") if os.path.isabs(base) else None


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file that takes the place of `path` when the block ends, and vanishes if it fails.

    Bytes go to a temporary file in the same folder, reach the disk, and only then get the name: a
    reader, or a machine that loses power, sees the old file or the new one and nothing between.
    Killed in mid-write, a process leaves the temporary file ``.NAME.*.tmp`` and the old file.

    Parameters
    ----------
    path : str or path
        The file to make or to replace. A symbolic link stays, what it points to is replaced.

    Yields
    ------
    binary file
        Open for writing.

    Raises
    ------
    FileError
        The folder is missing or may not be written, the disk is full, or `path` is a folder. What
        was there before is unchanged.
    """
    target = os.path.realpath(path)
    folder, name = os.path.split(target)
    temporary = os.path.join(folder, f".{name}.{os.urandom(4).hex()}.tmp")
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException as error:
        with suppress(OSError):
            os.unlink(temporary)
        if isinstance(error, OSError):
            raise FileError(f"cannot write {os.fspath(path)}: {error.strerror or error}") from error
        raise
    _sync_folder(folder)


def _sync_folder(folder: str) -> None:
    """Make a rename outlast a power cut, where the system can sync a folder at all."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
