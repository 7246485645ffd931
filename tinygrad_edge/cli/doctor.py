"""``doctor``: what this installation has, and what would help where something is missing."""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import numpy as np

import tinygrad_edge

from .. import runtime
from ..data._folders import download_root, given_root
from ..errors import TinygradEdgeError
from ..runtime import _ffi
from .energy import meter

__all__ = ["add"]

EXTRAS = {
    "rich": "progress bars and tables",
    "matplotlib": "curves.png and confusion.png",
    "PIL": "pictures of one's own",
}


def add(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "doctor",
        help="show what this installation has, and what would help",
        description=(
            "Print versions, runtime, instruction set, threads, data folders, energy sensors and "
            "extras; where something is missing, what would help."
        ),
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    for name, text in _findings():
        print(f"{name:<18}{text}")
    return 0


def _findings() -> Iterator[tuple[str, str]]:
    yield "tinygrad_edge", tinygrad_edge.__version__
    yield "Python", f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    yield "NumPy", np.__version__
    yield "compiled kernels", _ffi.why_unavailable() or "there"
    try:
        yield "runtime", _runtime()
        if _ffi.available():
            yield "instruction set", _instruction_set()
            yield "threads", f"{_ffi.threads()} of {os.cpu_count()} processors"
    except TinygradEdgeError as error:
        yield "runtime", f"does not start: {error}"
    try:
        yield "data", _data_folder()
    except (TinygradEdgeError, OSError) as error:
        yield "data", str(error)
    yield "energy", meter().name or "no sensor that can be read (RAPL is mostly for root alone)"
    for module, use in EXTRAS.items():
        remedy = "" if find_spec(module) else "absent; pip install 'tinygrad-edge[cli]'"
        yield module, f"{remedy or 'there'} (for {use})"


def _data_folder() -> str:
    root = given_root(None)
    folder = root or download_root(None)
    why = "TINYGRAD_EDGE_DATA says so" if root else "TINYGRAD_EDGE_DATA would name another"
    held = sorted(p.name for p in folder.iterdir()) if folder.is_dir() else []
    return f"{folder}: {why}; in it: {', '.join(held) or 'nothing yet'}"


def _runtime() -> str:
    wanted = os.environ.get(runtime.VARIABLE)
    why = f"{runtime.VARIABLE} says so" if wanted else "the faster of those that are there"
    return f"{runtime.current().name}: {why}"


def _instruction_set() -> str:
    wanted = os.environ.get(_ffi.ISA_VARIABLE)
    why = f"{_ffi.ISA_VARIABLE} says so" if wanted else "the best"
    return f"{_ffi.isa()}: {why} of what processor and build have ({', '.join(_ffi.isas())})"
