"""How long kernel calls take on this machine: what `bench --calibrate` measured, kept for later.

A planner may read the times to choose what is faster among rewrites that are equal to the bit. They
must never choose between results that differ.
"""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import files
from .errors import FileError
from .op import Kernel

__all__ = ["load", "path", "signature", "store"]


def signature(kernel: Kernel) -> str:
    """Name and parameters of a call as text, the same for calls that do the same work.

    Examples
    --------
    >>> from tinygrad_edge.op import Kernel
    >>> signature(Kernel("check_finite_f32", "tge_count_params", {"count": 10}))
    'check_finite_f32 {"count":10}'
    """
    fields = json.dumps(kernel.params, sort_keys=True, separators=(",", ":"), default=_number)
    return f"{kernel.name} {fields}"


def _number(scalar: Any) -> Any:
    """A scalar of NumPy's as one of Python's."""
    return scalar.item()


def path(isa: str, threads: int) -> Path | None:
    """Return the file of a machine's times; None where this user has no cache folder.

    Parameters
    ----------
    isa : str
        Instruction set in use.
    threads : int
    """
    folder = files.cache_folder()
    if folder is None:
        return None
    machine = re.sub(r"\W+", "-", _processor()).strip("-").lower()
    return folder / "timings" / f"{machine}-{isa}-{threads}.json"


def _processor() -> str:
    """Model of the processor, as the system calls it."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        text = ""
    named = re.search(r"^(?:model name|Model)\s*:\s*(.+)$", text, re.MULTILINE)
    return named[1] if named else platform.processor() or platform.machine()


def load(isa: str, threads: int) -> dict[str, float]:
    """Return seconds by signature; nothing where nothing was measured, or the file is damaged.

    Parameters
    ----------
    isa : str
    threads : int
    """
    file = path(isa, threads)
    try:
        found = json.loads(file.read_text(encoding="utf-8")) if file else {}
        return {str(name): float(seconds) for name, seconds in found.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def store(isa: str, threads: int, seconds: Mapping[str, float]) -> Path:
    """Add times to those that are there, in place of older ones of the same calls.

    Parameters
    ----------
    isa : str
    threads : int
    seconds : mapping
        By signature.

    Returns
    -------
    Path
        Of the file.

    Raises
    ------
    FileError
        The cache folder cannot be written, or there is none.
    """
    file = path(isa, threads)
    if file is None:
        raise FileError("this user has no home folder to keep times in: set XDG_CACHE_HOME")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"cannot make the folder {file.parent}: {error.strerror}") from error
    kept = load(isa, threads) | dict(seconds)
    with files.atomic_write(file) as out:
        out.write(json.dumps(kept, indent=0, sort_keys=True).encode())
    return file
