"""A pytest plugin: kernels compiled for another processor are one more instruction set to test.

``EMULATED_KERNELS`` is the command that runs `server.c`, compiled with all of csrc/, and
``EMULATED_ISA`` the name of the set that it chooses, as ``neon``. Calls in that set go to it
through a pipe; parameter structs and enumerators are the same bytes for every 64-bit little-endian
processor. `.ci/run` loads this file.
"""

import atexit
import os
import shlex
import subprocess
import threading

import numpy as np

from tinygrad_edge.runtime import _ffi

THREADS, WORKSPACE, CALL = range(3)  # as in server.c
OUTSIDE = -1000
NAME = os.environ["EMULATED_ISA"]

_server = subprocess.Popen(
    shlex.split(os.environ["EMULATED_KERNELS"]), stdin=subprocess.PIPE, stdout=subprocess.PIPE
)
_lock = threading.Lock()
_chosen = False
_local = {name: getattr(_ffi, name) for name in ("isas", "isa", "choose_isa", "set_threads")}
_local |= {name: getattr(_ffi, name) for name in ("workspace", "call")}


def _ask(*parts, answers=()):
    """Send numbers and bytes; gives the number that comes back, and fills what is to be filled."""
    sent = (part if isinstance(part, bytes) else np.int64(part).tobytes() for part in parts)
    with _lock:
        _server.stdin.write(b"".join(sent))
        _server.stdin.flush()
        number = _server.stdout.read(8)
        assert len(number) == 8, "the emulated kernels crashed"
        for answer in answers:
            answer[:] = _server.stdout.read(len(answer))
    return int.from_bytes(number, "little", signed=True)


def isas():
    """Add the emulated set to those of this processor."""
    return [*_local["isas"](), NAME]


def isa():
    """Name the set in use."""
    return NAME if _chosen else _local["isa"]()


def choose_isa(name):
    """Use another set from now on."""
    global _chosen
    _chosen = name == NAME
    if not _chosen:
        _local["choose_isa"](name)


def set_threads(count):
    """Set the number of threads at both ends."""
    _local["set_threads"](count)
    _ask(THREADS, count)


def workspace(name, fields, threads):
    """Bytes of workspace that the set in use wants."""
    if not _chosen:
        return _local["workspace"](name, fields, threads)
    return _ask(WORKSPACE, _ffi.kernel(name), len(fields), threads, fields)


def call(name, operands, fields):
    """Call a kernel of the set in use."""
    if not _chosen:
        return _local["call"](name, operands, fields)
    addresses = [int(_ffi.ffi.cast("uintptr_t", operand)) for operand in operands]
    buffers = dict(zip(addresses, map(_ffi.ffi.buffer, operands), strict=True))  # shared ones once
    numbers = {address: number for number, address in enumerate(buffers)}
    status = _ask(
        *(CALL, _ffi.kernel(name), len(fields), len(buffers), len(operands), fields),
        *(number for a, b in buffers.items() for number in (len(b), a % 64)),
        *(numbers[a] for a in addresses),
        *map(bytes, buffers.values()),
        answers=buffers.values(),
    )
    assert status > OUTSIDE, f"{name} wrote outside of the operand at {OUTSIDE - status}"
    return status


isa.cache_clear = _local["isa"].cache_clear  # which choose_isa asks of it
for _name in _local:
    setattr(_ffi, _name, globals()[_name])
set_threads(_ffi.threads())
atexit.register(_server.communicate)  # it ends when its input does
