"""What a row of the op table is made of."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hypothesis import strategies as st

F32, F64, I32, U8, U16, U32, BOOL = (
    np.float32,
    np.float64,
    np.int32,
    np.uint8,
    np.uint16,
    np.uint32,
    np.bool_,
)
#: Every element type that there is.
ANY = (F32, I32, U8, BOOL, np.float16, U16, U32, np.int8, F64)


@dataclass(frozen=True)
class Sample:
    """A call: arrays by position, attributes by name."""

    arrays: tuple[np.ndarray, ...] = ()
    attrs: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Wrong(Sample):
    """A call that ends in an error, and what its message must match."""

    error: type[Exception] = Exception
    match: str = ""


@dataclass(frozen=True)
class Row:
    """How an op is tested.

    Parameters
    ----------
    draw : callable
        ``draw(wild)`` is a strategy for samples. Wild ones may hold any value and type that the op
        takes; tame ones hold floats where the op is smooth, and few of them.
    samples : tuple of Sample
        Calls that drawing might miss: 0-d, empty, special values. At least one.
    bound : callable or None
        Error that the float32 kernel may have (see ``bounds``). None: the NumPy reference in
        float32 gives the same numbers.
    by : tuple of int or None
        The inputs that may be float64 and that gradients are taken by; all floats unless given.
    wrong, refused : tuple of Wrong
        Calls that fail when the node is made, and when it runs.
    widens : bool
        Whether the op takes float64 at all.
    """

    draw: Callable[[bool], st.SearchStrategy[Sample]]
    samples: tuple[Sample, ...]
    bound: Callable[..., list[np.ndarray]] | None = None
    by: tuple[int, ...] | None = None
    wrong: tuple[Wrong, ...] = ()
    refused: tuple[Wrong, ...] = ()
    widens: bool = True


def sample(*arrays, **attrs):
    return Sample(arrays, attrs)


def wrong(error, match, *arrays, **attrs):
    return Wrong(arrays, attrs, error, match)


def f32(*shape):
    return np.random.default_rng(0).uniform(-2, 2, shape).astype(F32)


def i32(*values):
    return np.array(values, I32)


def ones(*shape, dtype=F32):
    return np.ones(shape, dtype)
