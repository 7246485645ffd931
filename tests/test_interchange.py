"""Arrays in and out by NumPy's and DLPack's protocols."""

import numpy as np
import pytest

import tinygrad_edge as te
from tinygrad_edge.errors import DTypeError


class DLPackOnly:
    """What is exported by DLPack alone, as a library without NumPy would."""

    def __init__(self, array, device=(1, 0)):
        self.array, self.device = array, device

    def __dlpack__(self, **options):
        if self.device != (1, 0):
            raise BufferError("no such memory here")
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.device


class ArrayOnly:
    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return self.array


def numbers(dtype=np.float32):
    return np.arange(6, dtype=dtype).reshape(2, 3)


@pytest.mark.parametrize("wrap", [DLPackOnly, ArrayOnly], ids=lambda c: c.__name__)
@pytest.mark.parametrize(
    ("dtype", "kept"), [("f4", "float32"), ("f8", "float32"), ("i8", "int32"), ("u1", "uint8")]
)
def test_foreign_arrays_are_copied_in(wrap, dtype, kept):
    array = numbers(dtype)[:, ::-1]
    expected = array.tolist()
    tensor = te.Tensor(wrap(array))
    array[:] = 0
    assert tensor.dtype.name == kept and tensor.tolist() == expected


def test_a_compiled_step_takes_foreign_arrays():
    step = te.compile(lambda x: x * 2.0)
    expected = (numbers() * 2).tolist()
    assert step(DLPackOnly(numbers())).tolist() == expected
    assert step(ArrayOnly(numbers())).tolist() == expected


def test_memory_elsewhere_is_refused():
    with pytest.raises(DTypeError, match="cannot read this DLPackOnly by DLPack .* to the CPU,"):
        te.Tensor(DLPackOnly(numbers(), device=(2, 0)))


# Before NumPy 2.1, from_dlpack gives arrays that are read only.
DLPACK_1 = np.lib.NumpyVersion(np.__version__) >= "2.1.0"
TAKES = [np.asarray, np.array, *([np.from_dlpack] if DLPACK_1 else [])]


@pytest.mark.parametrize("take", TAKES, ids=lambda f: f.__name__)
@pytest.mark.parametrize("dtype", ["float32", "int32", "uint8", "bool"])
def test_what_is_taken_out_is_ones_own(take, dtype):
    tensor = te.Tensor(numbers().astype(dtype))
    array = take(tensor)
    assert array.dtype == dtype and np.array_equal(array, numbers().astype(dtype))
    array[:] = 1
    assert np.array_equal(tensor.numpy(), numbers().astype(dtype))


def test_taking_out_computes_what_is_pending():
    assert np.asarray(te.Tensor([1.0, 2.0]) + 1).tolist() == [2, 3]
    assert np.from_dlpack(te.Tensor([1.0, 2.0]) + 1).tolist() == [2, 3]
    assert np.asarray(te.Tensor([1.9]), dtype=np.int64).tolist() == [1]


def borrowed(tensor):
    yield np.asarray(tensor, copy=False)
    if DLPACK_1:
        yield np.from_dlpack(tensor, copy=False)


def test_memory_is_lent_read_only():
    weight = te.nn.Linear(3, 2).weight
    for array in borrowed(weight):
        weight.assign(numbers())
        assert array.tolist() == numbers().tolist()
        weight.assign(numbers() + 1)
        assert array.tolist() == (numbers() + 1).tolist()
        assert not array.flags.writeable
    weight.assign(numbers())  # its own memory is as writable as before


def test_what_cannot_be_lent_is_refused():
    tensor = te.Tensor(numbers())
    with pytest.raises(ValueError, match="float32 becomes float64 by a copy only"):
        np.asarray(tensor, dtype=np.float64, copy=False)
    with pytest.raises(BufferError, match="read only, as DLPack 1.0 can say"):
        tensor.__dlpack__(copy=False)
    with pytest.raises(BufferError, match=r"on the CPU, not on \(2, 0\)"):
        tensor.__dlpack__(dl_device=(2, 0))
    assert tensor.__dlpack_device__() == (1, 0)
