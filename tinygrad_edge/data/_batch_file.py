"""A batch of the Python form of CIFAR-10: a pickle of Python 2, read without running it.

A pickle is a program for a machine with a stack, and may call whatever it names. This machine knows
the instructions that the published files are made of, all of protocol 2; the three names that they
mention stand for nothing but the description of an array, and all others are refused. The pixels
are not even read, only found.
"""

import struct
from io import BufferedReader
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import FileError

__all__ = ["BatchFile", "read_batch_file"]

_MOST_INSTRUCTIONS = 1 << 18  # a published file has 30 thousand
_LONGEST_TEXT = 1 << 10  # longer strings are pixels
_RECONSTRUCT = "numpy.core.multiarray _reconstruct"
_NDARRAY = "numpy ndarray"
_DTYPE = "numpy dtype"
#: What a program that makes no sense does to the machine.
_SENSELESS = (AttributeError, LookupError, RecursionError, TypeError, ValueError, struct.error)
_ARGUMENTS = {
    **dict.fromkeys((b"\x80", b"K", b"U", b"q", b"h"), "<B"),
    **dict.fromkeys((b"T", b"r", b"j"), "<I"),
    b"M": "<H",
    b"J": "<i",
}


class BatchFile(NamedTuple):
    """What such a file says."""

    labels: list[int]
    shape: tuple[int, ...]  #: of the array of uint8
    offset: int  #: of its first byte in the file


class _Name(NamedTuple):
    name: str


class _Long(NamedTuple):
    """A string that was passed over."""

    offset: int
    length: int


class _Array:
    """What numpy's function would have made, with its state."""

    def __init__(self) -> None:
        self.state: Any = None


def read_batch_file(path: Path) -> BatchFile:
    """Read a batch's labels, and find its pixels.

    Raises
    ------
    FileError
        The file cannot be read, is damaged, or holds anything that the published files do not.
    """
    try:
        with open(path, "rb") as file:
            return _batch(_run(file))
    except FileError as error:
        raise FileError(f"{path} is no batch of CIFAR-10: {error}") from None
    except _SENSELESS as error:
        raise FileError(f"{path} is no batch of CIFAR-10, or damaged") from error
    except OSError as error:
        raise FileError(f"cannot read {path}: {error.strerror}") from error


def _run(file: BufferedReader) -> Any:
    """Run the program, and return what it leaves."""
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}

    def since_mark() -> list[Any]:
        start = marks.pop()
        items = stack[start:]
        del stack[start:]
        return items

    for _ in range(_MOST_INSTRUCTIONS):
        code = file.read(1)
        layout = _ARGUMENTS.get(code)
        (argument,) = struct.unpack(layout, file.read(struct.calcsize(layout))) if layout else (0,)
        match code:
            case b"\x80":  # PROTO
                if argument != 2:
                    raise FileError(f"its protocol is {argument}, expected 2")
            case b"K" | b"M" | b"J":  # BININT1, BININT2, BININT
                stack.append(argument)
            case b"U" | b"T":  # SHORT_BINSTRING, BINSTRING
                stack.append(_string(file, argument))
            case b"q" | b"r":  # BINPUT, LONG_BINPUT
                memo[argument] = stack[-1]
            case b"h" | b"j":  # BINGET, LONG_BINGET
                stack.append(memo[argument])
            case b"N" | b"\x89":  # NONE, NEWFALSE
                stack.append(None if code == b"N" else False)
            case b"}" | b"]":  # EMPTY_DICT, EMPTY_LIST
                stack.append({} if code == b"}" else [])
            case b"(":  # MARK
                marks.append(len(stack))
            case b"t":  # TUPLE
                stack.append(tuple(since_mark()))
            case b"\x85" | b"\x86" | b"\x87":  # TUPLE1, TUPLE2, TUPLE3
                count = code[0] - 0x84
                stack[-count:] = [tuple(stack[-count:])]
            case b"e":  # APPENDS
                items = since_mark()
                stack[-1].extend(items)
            case b"u":  # SETITEMS
                items = since_mark()
                for key, value in zip(items[::2], items[1::2], strict=True):
                    stack[-1][_text(key)] = value
            case b"c":  # GLOBAL
                name = f"{_line(file)} {_line(file)}"
                if name not in (_RECONSTRUCT, _NDARRAY, _DTYPE):
                    raise FileError(f"it names {name!r}, which has no business there")
                stack.append(_Name(name))
            case b"R":  # REDUCE
                arguments, function = stack.pop(), stack.pop()
                if function == _Name(_DTYPE) and arguments[0] != b"u1":
                    raise FileError("its elements are not uint8")
                stack.append(_Array() if function == _Name(_RECONSTRUCT) else function)
            case b"b":  # BUILD
                state = stack.pop()
                if isinstance(stack[-1], _Array):
                    stack[-1].state = state
            case b".":  # STOP
                return stack.pop()
            case b"":
                raise FileError("it is truncated")
            case _:
                raise FileError(f"instruction {code!r} at byte {file.tell() - 1} is not one of its")
    raise FileError("it goes on for too long")


def _batch(content: Any) -> BatchFile:
    labels, array = content[b"labels"], content[b"data"]
    if not isinstance(labels, list) or not all(type(label) is int for label in labels):
        raise FileError("its labels are not integers")
    _, shape, dtype, fortran_order, pixels = array.state
    if dtype != _Name(_DTYPE) or fortran_order is not False or not isinstance(pixels, _Long):
        raise FileError("its data is no array of uint8 in C order")
    rows, columns = shape
    if type(rows) is not int or type(columns) is not int or rows * columns != pixels.length:
        raise FileError(f"an array of shape {shape} does not have {pixels.length} bytes")
    return BatchFile(labels, shape, pixels.offset)


def _string(file: BufferedReader, length: int) -> bytes | _Long:
    if length <= _LONGEST_TEXT:
        return file.read(length)
    start = file.tell()
    file.seek(length, 1)  # beyond the end there is no instruction, hence no file that is accepted
    return _Long(start, length)


def _line(file: BufferedReader) -> str:
    return file.readline(_LONGEST_TEXT).decode("ascii").rstrip("\n")


def _text(key: Any) -> bytes:
    if not isinstance(key, bytes):
        raise FileError("a key of it is no string")
    return key
