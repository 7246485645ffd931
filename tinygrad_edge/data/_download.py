"""Getting a file from one of its mirrors, checked and whole."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import DataError, FileError
from ..files import atomic_write
from ._progress import progress

__all__ = ["fetch", "make_folder"]

_TIMEOUT = 30  # seconds without a byte
_CHUNK = 1 << 16


def fetch(urls: Sequence[str], path: Path, sha256: str) -> None:
    """Download a file from the first mirror that has it, unless it is there already.

    Parameters
    ----------
    urls : sequence of str
        Where the file may be had, in the order of preference.
    path : Path
        Where it goes. It appears whole and right, or not at all.
    sha256 : str
        Its digest, in hexadecimal.

    Raises
    ------
    DataError
        No mirror has the file; the message says what each answered.
    FileError
        The file cannot be written.
    """
    if path.is_file() and _sha256(path) == sha256:
        return
    answers = []
    for url in urls:
        try:
            return _fetch(url, path, sha256)
        except _Unavailable as error:
            answers.append(f"{url}: {error}")
    raise DataError(
        f"cannot download {path.name} ({'; '.join(answers)}): get it by other means, and put it "
        f"into {path.parent}"
    )


class _Unavailable(Exception):
    """A mirror does not answer, or not with the file."""


@contextmanager
def _network() -> Iterator[None]:
    """Tell what the network does wrong from what the disk does."""
    from http.client import HTTPException
    from urllib.error import HTTPError

    try:
        yield
    except (OSError, HTTPException) as error:
        if isinstance(error, HTTPError):
            error.close()  # it is the server's answer as well, and holds the connection
        raise _Unavailable(str(error)) from error


def _fetch(url: str, path: Path, sha256: str) -> None:
    import hashlib

    digest = hashlib.sha256()
    with _open(url) as response:
        make_folder(path.parent)  # only now, so that without a network nothing is made
        length = response.headers.get("Content-Length", "")
        total = int(length) if length.isdecimal() else None
        with atomic_write(path) as file, progress(path.name, total, "bytes") as advance:
            for chunk in _chunks(response):
                digest.update(chunk)
                file.write(chunk)
                advance(len(chunk))
            if digest.hexdigest() != sha256:
                raise _Unavailable(f"its sha256 is {digest.hexdigest()}, not {sha256}")


def _open(url: str) -> Any:
    from urllib.request import Request, urlopen

    # Some mirrors turn away Python's own agent.
    with _network():
        return urlopen(Request(url, headers={"User-Agent": "tinygrad_edge"}), timeout=_TIMEOUT)


def _chunks(response: Any) -> Iterator[bytes]:
    with _network():
        while chunk := response.read(_CHUNK):
            yield chunk


def make_folder(folder: Path) -> None:
    """Make a folder, and those that it is in."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"cannot make the folder {folder}: {error.strerror}") from error


def _sha256(path: Path) -> str:
    import hashlib

    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
