"""Element types: their size, their NumPy type, their code in the C kernels."""

from dataclasses import dataclass

import numpy as np

from .errors import DTypeError

__all__ = [
    "DType",
    "as_dtype",
    "bool_",
    "float16",
    "float32",
    "float64",
    "int8",
    "int32",
    "of_array",
    "uint8",
    "uint16",
    "uint32",
]


@dataclass(frozen=True, eq=False)
class DType:
    """One element type. There is one object of each, so types compare by identity.

    Parameters
    ----------
    name : str
        As NumPy writes it.
    numpy : numpy.dtype
        The type of its arrays.
    code : str
        Its name in ``enum tge_dtype``.
    """

    name: str
    numpy: np.dtype
    code: str

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return self.numpy.itemsize

    @property
    def is_float(self) -> bool:
        """Whether gradients can flow through values of this type."""
        return self.numpy.kind == "f"

    def __repr__(self) -> str:
        return self.name


def _dtype(name: str) -> DType:
    return DType(name, np.dtype(name), f"TGE_{name.upper()}")


float32 = _dtype("float32")
float64 = _dtype("float64")
float16 = _dtype("float16")
int32 = _dtype("int32")
uint32 = _dtype("uint32")
uint16 = _dtype("uint16")
int8 = _dtype("int8")
uint8 = _dtype("uint8")
bool_ = _dtype("bool")

_BY_NUMPY = {
    t.numpy: t for t in (float32, float64, float16, int32, uint32, uint16, int8, uint8, bool_)
}


def of_array(array: np.ndarray) -> DType:
    """The element type of an array; a DTypeError names those there are."""
    found = _BY_NUMPY.get(array.dtype)
    if found is None:
        known = ", ".join(sorted(t.name for t in _BY_NUMPY.values()))
        raise DTypeError(f"arrays of {array.dtype} are not supported; convert to one of {known}")
    return found


def as_dtype(dtype: "DType | str | np.dtype | type") -> DType:
    """The element type that a name, a NumPy type or a DType means."""
    if isinstance(dtype, DType):
        return dtype
    try:
        return _BY_NUMPY[np.dtype(dtype)]
    except (KeyError, TypeError):
        known = ", ".join(sorted(t.name for t in _BY_NUMPY.values()))
        raise DTypeError(f"unknown dtype {dtype!r}; expected one of {known}") from None
