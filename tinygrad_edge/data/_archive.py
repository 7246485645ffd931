"""Archives of data sets: fetched, and only the files that are wanted taken out of them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..files import atomic_write
from ._download import fetch, make_folder

__all__ = ["Archive"]

_CHUNK = 1 << 16


@dataclass(frozen=True)
class Archive:
    """A published archive, .tar.gz or .zip.

    Parameters
    ----------
    urls : tuple of str
        Where it may be had, in the order of preference.
    sha256 : str
        Its digest, in hexadecimal.
    members : tuple of str
        The files that are wanted, as paths in the archive.
    inner : str, optional
        The archive in the archive that has them.
    """

    urls: tuple[str, ...]
    sha256: str
    members: tuple[str, ...]
    inner: str | None = None

    def fetch(self, folder: Path) -> None:
        """Unpack the members that are not there into a folder, each whole or not at all.

        The archive itself is downloaded into the folder, and removed at the end; one that was there
        is used, and stays. Since its digest is known, so is all that it holds.

        Raises
        ------
        DataError
            The archive cannot be had.
        FileError
            Something cannot be written.
        """
        missing = [name for name in self.members if not (folder / name).is_file()]
        if not missing:
            return
        packed = folder / self.urls[0].rpartition("/")[2]
        temporary = [] if packed.is_file() else [packed]
        fetch(self.urls, packed, self.sha256)
        try:
            if self.inner is not None:
                _take(packed, [self.inner], folder)
                packed = folder / self.inner
                temporary.append(packed)
            _take(packed, missing, folder)
        finally:
            for path in temporary:
                path.unlink()


def _take(archive: Path, names: list[str], folder: Path) -> None:
    with _opened(archive) as open_member:
        for name in names:
            target = folder / name
            make_folder(target.parent)
            with open_member(name) as source, atomic_write(target) as file:
                while chunk := source.read(_CHUNK):
                    file.write(chunk)


@contextmanager
def _opened(archive: Path) -> Iterator[Callable[[str], Any]]:
    """Open an archive; what is given opens a member of it for reading."""
    import tarfile
    import zipfile

    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as zipped:
            yield zipped.open
    else:
        with tarfile.open(archive) as tarred:
            yield tarred.extractfile
