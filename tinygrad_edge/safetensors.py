"""The safetensors file format, with NumPy and json alone.

A file is a length (8 bytes, little endian), a JSON header of that length, and the tensors' bytes::

    {"__metadata__": {"epoch": "3"},
     "conv.weight": {"dtype": "F32", "shape": [8, 1, 3, 3], "data_offsets": [0, 288]}, ...}

Offsets count from the end of the header, and the tensors fill the rest of the file without a gap.
The format has no checksum, so that a bit lost on a memory card would go unnoticed: `save` adds one
to the metadata, which other readers pass over, and `load` checks it where it finds it.

Specification: https://github.com/huggingface/safetensors
"""

import json
import math
import os
import zlib
from collections.abc import Mapping
from io import BufferedReader
from typing import Any, NamedTuple

import numpy as np

from .errors import FileError
from .files import atomic_write

__all__ = ["bfloat16", "load", "save", "widened"]

#: What NumPy lacks: the upper half of a float32, kept as bits. To NumPy such arrays are uint16; the
#: type's own metadata tells them from integers, here and in ``array.dtype.metadata``.
bfloat16 = np.dtype(np.uint16, metadata={"safetensors": "BF16"})

_DTYPES: dict[str, np.dtype] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": bfloat16,
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U64": np.dtype("<u8"),
    "U32": np.dtype("<u4"),
    "U16": np.dtype("<u2"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("bool"),
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items() if dtype is not bfloat16}

_METADATA = "__metadata__"
_CHECKSUM = "tinygrad_edge.crc32"
_LONGEST_HEADER = 100_000_000  # the reference implementation's limit
_MOST_AXES = 32  # what every NumPy can hold
_LONGEST_MESSAGE = 400  # a hostile header may quote itself at any length


def save(
    path: str | os.PathLike[str],
    tensors: Mapping[str, np.ndarray],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write named arrays and a map of strings, atomically.

    Parameters
    ----------
    path : str or path
        The file to make or to replace.
    tensors : mapping of str to array
        Any shape and strides; booleans, integers of 8 to 64 bits, floats of 16 to 64, `bfloat16`.
    metadata : mapping of str to str, optional
        Free text that goes along.

    Raises
    ------
    FileError
        A name, an element type or the metadata does not fit the format, or the file cannot be
        written. What was at `path` before is unchanged.
    """
    arrays = {name: np.asarray(tensor) for name, tensor in tensors.items()}
    metadata = dict(metadata or {})
    problem = _unfit(arrays, metadata)
    if problem:
        raise FileError(f"cannot write {os.fspath(path)}: {problem}")
    # Wide elements first, so that each tensor starts at a multiple of its element's size.
    in_file = sorted(arrays, key=lambda name: -arrays[name].itemsize)
    offsets, end = {}, 0
    for name in in_file:
        begin, end = end, end + arrays[name].nbytes
        offsets[name] = [begin, end]
    header = {_METADATA: metadata | {_CHECKSUM: _checksum(arrays, metadata)}} | {
        name: {"dtype": _dtype(array), "shape": array.shape, "data_offsets": offsets[name]}
        for name, array in arrays.items()
    }
    text = _json(header)
    text += b" " * (-len(text) % 8)  # aligns the first tensor
    with atomic_write(path) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in in_file:
            file.write(_bytes(arrays[name]))


def load(path: str | os.PathLike[str]) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Read what `save`, or any other writer of the format, has written.

    The header is checked in full before memory is asked for; then each tensor is read straight into
    an array of its own, so that nothing is held twice.

    Parameters
    ----------
    path : str or path
        The file.

    Returns
    -------
    tensors : dict of str to array
        In the header's order, writable. One that is popped is freed.
    metadata : dict of str to str
        Without the checksum.

    Raises
    ------
    FileError
        The file cannot be read, is damaged or truncated, or is no safetensors file.
    """
    try:
        with open(path, "rb") as file:
            return _read(file, os.fstat(file.fileno()).st_size)
    except OSError as error:
        raise FileError(f"cannot read {os.fspath(path)}: {error.strerror or error}") from error
    except FileError as error:
        reason = str(error)[:_LONGEST_MESSAGE]
        raise FileError(f"{os.fspath(path)} is no intact safetensors file: {reason}") from error


def widened(array: np.ndarray) -> np.ndarray:
    """Return a `bfloat16` array as float32, which holds all its numbers; any other as it is."""
    if _dtype(array) != "BF16":
        return array
    return (array.astype(np.uint32) << 16).view(np.float32)


def _unfit(arrays: Mapping[Any, np.ndarray], metadata: Mapping[Any, Any]) -> str | None:
    """Say why the format cannot hold these, or None."""
    for name, text in metadata.items():
        if not isinstance(name, str) or not isinstance(text, str):
            return f"metadata maps strings to strings, not {name!r} to {text!r}"
        if name == _CHECKSUM:
            return f"the metadata {name!r} is the checksum, which is made here"
    for name, array in arrays.items():
        if not isinstance(name, str) or name == _METADATA:
            return f"{name!r} cannot name a tensor"
        if _dtype(array) is None:
            return f"tensor {name!r} is {array.dtype}, the format has {', '.join(_DTYPES)}"
    return None


def _dtype(array: np.ndarray) -> str | None:
    """Name an array's element type as the format does."""
    notes: Mapping[str, Any] = array.dtype.metadata or {}
    return notes.get("safetensors") or _NAMES.get(array.dtype.newbyteorder("<"))


def _bytes(array: np.ndarray) -> memoryview:
    """Return an array's bytes as the file has them; its own, where they are laid out so already."""
    little = array.dtype.newbyteorder("<")
    return np.ascontiguousarray(array, little).reshape(-1).view(np.uint8).data


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _checksum(arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> str:
    """Sum up all that a file holds, wherever in the file it stands."""
    contents = [
        (name, _dtype(array), array.shape, zlib.crc32(_bytes(array)))
        for name, array in sorted(arrays.items())
    ]
    return f"{zlib.crc32(_json([sorted(metadata.items()), contents])):08x}"


class _Entry(NamedTuple):
    """What a header says of one tensor, possible in itself."""

    begin: int
    end: int
    name: str
    dtype: np.dtype
    shape: list[int]


def _read(file: BufferedReader, size: int) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    header, data_size = _read_header(file, size)
    metadata = header.pop(_METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise FileError("its metadata does not map strings to strings")
    entries = [_entry(name, value) for name, value in header.items()]
    in_file = sorted(entries)
    position = 0
    for entry in in_file:
        if entry.begin != position:
            raise FileError(f"tensor {entry.name!r} begins at byte {entry.begin}, not {position}")
        position = entry.end
    if position != data_size:
        raise FileError(f"{position} bytes of tensors are announced, {data_size} are there")

    arrays = {entry.name: _read_array(file, entry) for entry in in_file}
    announced = metadata.pop(_CHECKSUM, None)
    if announced is not None and announced != (found := _checksum(arrays, metadata)):
        raise FileError(
            f"its checksum is {found}, not {announced} (a tool that changes tensors must drop "
            f"{_CHECKSUM!r} from the metadata)"
        )
    return {name: arrays[name] for name in header}, metadata


def _read_header(file: BufferedReader, size: int) -> tuple[dict[str, Any], int]:
    """Return what the JSON header says, and how many bytes follow it."""
    length = int.from_bytes(file.read(8), "little")
    if length > size - 8:
        raise FileError(f"a header of {length} bytes does not fit into a file of {size}")
    if length > _LONGEST_HEADER:
        raise FileError(f"a header of {length} bytes is over the limit of {_LONGEST_HEADER}")
    text = file.read(length)
    if not text.startswith(b"{"):
        raise FileError(f"its header begins with {text[:8]!r}, not with a JSON object")
    try:
        return json.loads(text.decode(), object_pairs_hook=_distinct), size - 8 - length
    except FileError:
        raise
    except (ValueError, RecursionError) as error:
        raise FileError(f"its header is not JSON ({error})") from error


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make a JSON object of its pairs; json alone would keep the last of equal names in silence."""
    value = {}
    for name, item in pairs:
        if name in value:
            raise FileError(f"its header has {name!r} twice")
        value[name] = item
    return value


def _entry(name: str, value: Any) -> _Entry:
    match value:
        case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [int(begin), int(end)]}:
            pass
        case _:
            raise FileError(f"tensor {name!r} has no proper dtype, shape and data_offsets")
    if dtype not in _DTYPES:
        raise FileError(f"tensor {name!r} is {dtype!r}, known are {', '.join(_DTYPES)}")
    if len(shape) > _MOST_AXES or not all(type(n) is int and 0 <= n < 2**63 for n in shape):
        raise FileError(f"tensor {name!r} has an impossible shape")
    if not 0 <= begin <= end < 2**63:
        raise FileError(f"tensor {name!r} has impossible data_offsets")
    nbytes = math.prod(shape) * _DTYPES[dtype].itemsize
    if end - begin != nbytes:
        raise FileError(
            f"tensor {name!r}, {dtype} of shape {shape}, takes {nbytes} bytes, not {end - begin}"
        )
    return _Entry(begin, end, name, _DTYPES[dtype], shape)


def _read_array(file: BufferedReader, entry: _Entry) -> np.ndarray:
    try:
        array = np.empty(entry.shape, entry.dtype)
    except (ValueError, MemoryError) as error:  # NumPy cannot hold (0, 2**62, 2**62) either
        raise FileError(f"tensor {entry.name!r} of shape {entry.shape} is too large") from error
    data = array.reshape(-1).view(np.uint8)
    if file.readinto(data.data) != array.nbytes:
        raise FileError(f"it ended within tensor {entry.name!r} while it was read")
    if entry.dtype == bool and data.max(initial=0) > 1:
        raise FileError(f"tensor {entry.name!r} is BOOL, but one of its bytes is {data.max()}")
    return array
