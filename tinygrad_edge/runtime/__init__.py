"""What runs a plan: `native` (C kernels) or `numpy` (the readable reference, float64 too)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType

from ..errors import BuildError
from . import _ffi, native, reference
from .diagnose import run_checked
from .native import Stopped, release_arena

__all__ = [
    "Stopped",
    "current",
    "release_arena",
    "run_checked",
    "set_threads",
    "stopping",
    "threads",
    "use",
]

VARIABLE = "TINYGRAD_EDGE_RUNTIME"

_RUNTIMES: dict[str, ModuleType] = {"native": native, "numpy": reference}
_chosen: list[ModuleType] = []


def _named(name: str) -> ModuleType:
    if name not in _RUNTIMES:
        raise BuildError(f"unknown runtime {name!r}; expected one of {', '.join(_RUNTIMES)}")
    if name == "native" and not _ffi.available():
        raise BuildError(f"{_ffi.why_unavailable()}, or set {VARIABLE}=numpy")
    return _RUNTIMES[name]


def current() -> ModuleType:
    """The runtime in use: the one chosen with `use`, the environment's, or the best there is."""
    if not _chosen:
        name = os.environ.get(VARIABLE) or ("native" if _ffi.available() else "numpy")
        _chosen.append(_named(name))
    return _chosen[-1]


@contextmanager
def use(name: str) -> Iterator[None]:
    """Use a runtime inside a with block.

    Parameters
    ----------
    name : {"native", "numpy"}

    Raises
    ------
    BuildError
        There is no such runtime, or the native one was not built.
    """
    current()
    _chosen.append(_named(name))
    try:
        yield
    finally:
        _chosen.pop()


@contextmanager
def stopping(asked: Callable[[], bool]) -> Iterator[None]:
    """Let a signal stop a run of the native runtime that has changed nothing yet.

    An exception out of the signal's handler may come when a step is done as well as before; a
    `Stopped` comes only where it has changed nothing, so that what is saved then is a whole state.

    Parameters
    ----------
    asked : callable
        Whether to stop, which the handler has noted before it returned.
    """
    native.stop_asked.append(asked)
    try:
        yield
    finally:
        native.stop_asked.remove(asked)


def threads() -> int:
    """How many threads the native kernels may use; 1 in the numpy runtime."""
    return _ffi.threads() if current() is native else 1


def set_threads(count: int) -> None:
    """Let the native kernels use `count` threads.

    Results do not depend on it, to the bit. Workspaces do, so plans are made anew.

    Parameters
    ----------
    count : int
        At least 1; at first, the processors that this process may use.
    """
    if count < 1:
        raise ValueError(f"set_threads: expected at least 1 thread, got {count}")
    if current() is native:
        _ffi.set_threads(count)
