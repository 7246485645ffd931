"""Tensors: lazy handles on graph values, with NumPy's operators and words."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from . import autodiff, ops, trace
from .dtypes import DType, as_dtype, bool_, float16, float32, int32, of_array
from .errors import DTypeError, GraphError, ShapeError
from .graph import ASSIGN, INPUT, READ, Value, marked, new_input
from .op import TensorType
from .ops.subscript import read_index
from .runtime import current as current_runtime

__all__ = ["Tensor", "as_tensor"]

Axis = int | Sequence[int] | None
Number = bool | int | float

# NumPy 2.0 has the protocol as it was before it knew versions, and memory that is read only.
_DLPACK_1 = np.lib.NumpyVersion(np.__version__) >= "2.1.0"


def as_array(data: Any) -> np.ndarray:
    """What NumPy makes of the data, where it can without a copy; DLPack serves what it cannot."""
    if hasattr(data, "__array__") or not hasattr(data, "__dlpack__"):
        return np.asarray(data)
    try:
        return np.from_dlpack(data)
    except (BufferError, RuntimeError) as error:
        raise DTypeError(
            f"cannot read this {type(data).__name__} by DLPack ({error}); copy it to the CPU, "
            "as a type that NumPy has"
        ) from error


def entering(data: Any, dtype: DType | str | None = None, copy: bool = True) -> np.ndarray:
    """An array as the engine keeps it.

    float64 and float16 become float32 and int64 becomes int32, except that float64 stays float64
    in the numpy runtime; other types stay.
    """
    array = as_array(data)
    if dtype is not None:
        wanted = as_dtype(dtype).numpy
    elif array.dtype == np.float64:
        keep = isinstance(data, np.ndarray | np.floating) and current_runtime().name == "numpy"
        wanted = array.dtype if keep else float32.numpy
    elif array.dtype == np.float16:
        wanted = float32.numpy
    elif array.dtype.kind in "iu" and array.dtype.itemsize == 8:
        limits = np.iinfo(np.int32)
        if array.size and (array.min() < limits.min or array.max() > limits.max):
            raise DTypeError(f"integers must fit int32, got {array.min()}..{array.max()}")
        wanted = int32.numpy
    else:
        wanted = array.dtype
    array = np.array(array, wanted, order="C", copy=copy or None)
    of_array(array)
    return array


class Tensor:
    """An array that may not have been computed yet.

    Parameters
    ----------
    data : array_like
        Anything that NumPy reads, or that has `__dlpack__` and is on the CPU (a PyTorch tensor).
        Copied. float64 becomes float32 and int64 int32 (float64 arrays stay in the numpy runtime).
    requires_grad : bool
        Whether `backward` fills `grad`.
    dtype : str, optional
        Element type to convert to.

    Notes
    -----
    ``numpy()``, ``np.asarray(tensor)``, ``np.from_dlpack(tensor)``, ``torch.from_dlpack(tensor)``
    run what is pending and give a copy, which is the caller's own. With ``copy=False`` the last
    three lend the memory itself, to be read only: that of a parameter changes in training.

    Examples
    --------
    >>> import tinygrad_edge as te
    >>> x = te.Tensor([1.0, 2.0, 3.0], requires_grad=True)
    >>> y = (x * x).sum()
    >>> y.backward()
    >>> x.grad.numpy()
    array([2., 4., 6.], dtype=float32)
    """

    __slots__ = ("_value", "_grad", "_grad_handle", "_requires_grad", "__weakref__")
    __array_priority__ = 100  # NumPy arrays on the left leave operators to us

    def __init__(
        self, data: Any, requires_grad: bool = False, *, dtype: DType | str | None = None
    ) -> None:
        if isinstance(data, Tensor):
            data = data.numpy()
        array = entering(data, dtype)
        self._set(new_input(TensorType(array.shape, of_array(array)), array), requires_grad)
        if requires_grad and not self.dtype.is_float:
            raise DTypeError(f"only floats can require gradients, got {self.dtype}")

    def _set(self, value: Value, requires_grad: bool) -> None:
        self._value = value
        self._requires_grad = requires_grad
        self._grad: Value | None = None
        self._grad_handle: Tensor | None = None
        value.handle = weakref.ref(self)

    @classmethod
    def _of(cls, value: Value, requires_grad: bool) -> Tensor:
        """A handle on a value; the one there is, where the user holds it already."""
        found = value.handle() if value.handle is not None else None
        if found is not None:
            return found
        tensor = Tensor.__new__(Tensor)
        tensor._set(value, requires_grad)
        trace.current().hold(tensor)
        return tensor

    @classmethod
    def of_value(cls, value: Value) -> Tensor:
        """A constant tensor on a graph value."""
        return cls._of(value, False)

    @classmethod
    def following(cls, value: Value, *inputs: Tensor) -> Tensor:
        """A tensor on what an op made of the inputs; it requires a gradient where they do."""
        return cls._of(value, value.dtype.is_float and _follows(*inputs))

    @classmethod
    def of_array(cls, array: np.ndarray) -> Tensor:
        """A constant tensor that takes over an array, without a copy."""
        tensor = Tensor.__new__(Tensor)
        tensor._set(new_input(TensorType(array.shape, of_array(array)), array), False)
        return tensor

    # ---- what it is ----

    @property
    def value(self) -> Value:
        """The graph value behind this handle."""
        return self._value

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the axes."""
        return self.value.shape

    @property
    def dtype(self) -> DType:
        """Element type."""
        return self.value.dtype

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return self.value.size

    @property
    def nbytes(self) -> int:
        """Bytes of the elements."""
        return self.value.nbytes

    @property
    def requires_grad(self) -> bool:
        """Whether gradients flow to it."""
        return self._requires_grad

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Say whether `backward` shall fill the gradient of this leaf."""
        if requires_grad != self._requires_grad:
            self._requires_grad = requires_grad
            trace.setting_changed()
        return self

    def __len__(self) -> int:
        if not self.shape:
            raise ShapeError("a 0-d tensor has no length")
        return self.shape[0]

    def __repr__(self) -> str:
        if self.value.data is None and not trace.current().lazy:
            return f"Tensor(being recorded, {self.dtype}{list(self.shape)})"
        shown = np.array2string(self.numpy(), separator=", ", prefix="Tensor(")
        return f"Tensor({shown}, {self.dtype})"

    # ---- asking for values ----

    def realize(self) -> Tensor:
        """Compute it now, with everything that is pending."""
        if self.value.data is None:
            trace.current().run([self.value])
        return self

    def numpy(self) -> np.ndarray:
        """A copy of the value as a NumPy array."""
        return self.borrow().copy()

    def borrow(self) -> np.ndarray:
        """The array itself, not to be written to."""
        self.realize()
        assert self.value.data is not None
        return self.value.data

    def item(self) -> Number:
        """The value of a tensor of one element as a Python number."""
        if self.size != 1:
            raise ShapeError(f"item: needs a tensor of one element, got {list(self.shape)}")
        return self.numpy().item()

    def tolist(self) -> Any:
        """The value as nested lists."""
        return self.numpy().tolist()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is not False:
            return self.borrow().astype(dtype or self.dtype.numpy)
        array = self._lent()
        if dtype is not None and np.dtype(dtype) != array.dtype:
            raise ValueError(f"a tensor of {self.dtype} becomes {np.dtype(dtype)} by a copy only")
        return array

    def __dlpack__(
        self,
        *,
        stream: Any = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> Any:
        if stream is not None or dl_device not in (None, self.__dlpack_device__()):
            raise BufferError(f"a tensor is on the CPU, not on {dl_device} with stream {stream}")
        array = self._lent() if copy is False else self.numpy()
        if _DLPACK_1 and max_version is not None and max_version >= (1, 0):
            return array.__dlpack__(max_version=max_version)
        if copy is False:
            raise BufferError("a tensor lends its memory to be read only, as DLPack 1.0 can say")
        return array.__dlpack__()

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)  # the CPU

    def _lent(self) -> np.ndarray:
        array = self.borrow().view()
        array.flags.writeable = False
        return array

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        return Tensor.of_array(self.numpy()).requires_grad_(self.requires_grad)

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __bool__(self) -> bool:
        if self.size != 1:
            raise ShapeError(
                f"the truth of {list(self.shape)} elements is ambiguous; reduce it first"
            )
        return bool(self.item())

    def cut(self) -> None:
        """Forget what it was computed from; the value stays."""
        if self._value.data is not None:
            self._set(new_input(self._value.type, self._value.data), False)

    def cut_grad(self) -> None:
        """Forget what the gradient was computed from; its value stays, and more may be added."""
        if self._grad is not None and self._grad.data is not None:
            self._grad = new_input(self._grad.type, self._grad.data)

    # ---- gradients ----

    @property
    def grad(self) -> Tensor | None:
        """The gradient after `backward`; None before it, and after an optimizer has consumed it."""
        if self._grad is not None and self._grad_handle is None:
            self._grad_handle = Tensor._of(self._grad, False)
        return self._grad_handle

    @grad.setter
    def grad(self, gradient: Tensor | None) -> None:
        self.clear_grad()
        if gradient is not None:
            if gradient.shape != self.shape:
                raise ShapeError(
                    f"a gradient of {list(self.shape)} is needed, got {list(gradient.shape)}"
                )
            self.add_grad(gradient.value)

    @property
    def pending_grad(self) -> Value | None:
        """The gradient's graph value."""
        return self._grad

    def add_grad(self, gradient: Value) -> None:
        """Add to the gradient."""
        with marked(part="backward"):
            self._grad = gradient if self._grad is None else ops.add(self._grad, gradient)
        self._grad_handle = None
        trace.current().leaves[id(self)] = self

    def clear_grad(self) -> None:
        """Set the gradient to None."""
        self._grad = self._grad_handle = None
        trace.current().leaves.pop(id(self), None)

    def consume_grad(self) -> None:
        """End an accumulation: what the user holds of the gradient stays, the rest goes."""
        self._grad = None
        trace.current().leaves.pop(id(self), None)

    def backward(self, gradient: Tensor | None = None) -> None:
        """Add the gradient of this tensor to `grad` of every leaf that requires one.

        Nothing runs yet: loss, gradients and state updates are one group, which asking for any of
        them runs.

        Parameters
        ----------
        gradient : Tensor, optional
            The gradient with respect to this tensor; needed unless it has one element.

        Raises
        ------
        GraphError
            Nothing that this tensor was computed from requires a gradient, or an optimizer has
            updated some of it since.
        """
        if gradient is None and self.size != 1:
            raise ShapeError(
                f"backward: a tensor of {list(self.shape)} needs a gradient argument; only one "
                "element has a gradient of its own"
            )
        if gradient is not None and gradient.shape != self.shape:
            raise ShapeError(
                f"backward: the gradient must be {list(self.shape)}, got {list(gradient.shape)}"
            )
        leaves = leaves_of([self])
        if not leaves:
            raise GraphError(
                "backward: nothing that this tensor was computed from requires a gradient (or its "
                "history was cut by an optimizer step)"
            )
        cotangent = None if gradient is None else gradient.value
        grads = autodiff.gradient(self.value, [leaf.value for leaf in leaves], cotangent)
        for leaf, g in zip(leaves, grads, strict=True):
            leaf.add_grad(g)

    def detach(self) -> Tensor:
        """The same value as a constant."""
        with trace.no_grad():
            return Tensor._of(ops.detach(self.value), False)

    # ---- elementwise ----

    def __add__(self, other: Any) -> Tensor:
        return apply(ops.add, self, other)

    def __sub__(self, other: Any) -> Tensor:
        return apply(ops.subtract, self, other)

    def __mul__(self, other: Any) -> Tensor:
        return apply(ops.multiply, self, other)

    def __truediv__(self, other: Any) -> Tensor:
        return apply(ops.divide, self, other)

    def __pow__(self, other: Any) -> Tensor:
        return apply(ops.power, self, other)

    def __matmul__(self, other: Any) -> Tensor:
        return apply(ops.matmul, self, other)

    def __radd__(self, other: Any) -> Tensor:
        return apply(ops.add, other, self)

    def __rsub__(self, other: Any) -> Tensor:
        return apply(ops.subtract, other, self)

    def __rmul__(self, other: Any) -> Tensor:
        return apply(ops.multiply, other, self)

    def __rtruediv__(self, other: Any) -> Tensor:
        return apply(ops.divide, other, self)

    def __rpow__(self, other: Any) -> Tensor:
        return apply(ops.power, other, self)

    def __rmatmul__(self, other: Any) -> Tensor:
        return apply(ops.matmul, other, self)

    def __neg__(self) -> Tensor:
        return apply(ops.negative, self)

    def __abs__(self) -> Tensor:
        return apply(ops.absolute, self)

    def __eq__(self, other: Any) -> Tensor:  # type: ignore[override]
        return apply(ops.equal, self, other)

    def __ne__(self, other: Any) -> Tensor:  # type: ignore[override]
        return apply(ops.not_equal, self, other)

    def __lt__(self, other: Any) -> Tensor:
        return apply(ops.less, self, other)

    def __le__(self, other: Any) -> Tensor:
        return apply(ops.less_equal, self, other)

    def __gt__(self, other: Any) -> Tensor:
        return apply(ops.greater, self, other)

    def __ge__(self, other: Any) -> Tensor:
        return apply(ops.greater_equal, self, other)

    def __and__(self, other: Any) -> Tensor:
        return apply(ops.logical_and, self, other)

    def __or__(self, other: Any) -> Tensor:
        return apply(ops.logical_or, self, other)

    def __invert__(self) -> Tensor:
        return apply(ops.logical_not, self)

    __hash__ = object.__hash__

    def abs(self) -> Tensor:
        """Elementwise absolute value."""
        return apply(ops.absolute, self)

    def exp(self) -> Tensor:
        """Elementwise exponential."""
        return apply(ops.exp, self)

    def log(self) -> Tensor:
        """Elementwise natural logarithm."""
        return apply(ops.log, self)

    def sqrt(self) -> Tensor:
        """Elementwise square root."""
        return apply(ops.sqrt, self)

    def tanh(self) -> Tensor:
        """Elementwise hyperbolic tangent."""
        return apply(ops.tanh, self)

    def sigmoid(self) -> Tensor:
        """Elementwise logistic function."""
        return apply(ops.sigmoid, self)

    def relu(self) -> Tensor:
        """Elementwise max(x, 0)."""
        return apply(ops.relu, self)

    def clip(self, low: Any, high: Any) -> Tensor:
        """Elementwise min(max(x, low), high)."""
        return apply(ops.clip, self, low, high)

    def astype(self, dtype: DType | str) -> Tensor:
        """The same numbers as another element type."""
        return apply(ops.cast, self, dtype=as_dtype(dtype))

    # ---- reductions ----

    def sum(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """Sum along axes (all by default)."""
        return apply(ops.sum_, self, axis=axis, keepdims=keepdims)

    def mean(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """Mean along axes (all by default)."""
        return apply(ops.mean, self, axis=axis, keepdims=keepdims)

    def max(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """Maximum along axes (all by default)."""
        return apply(ops.max_, self, axis=axis, keepdims=keepdims)

    def min(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """Minimum along axes (all by default)."""
        return -(-self).max(axis, keepdims)

    def argmax(self, axis: int | None = None, keepdims: bool = False) -> Tensor:
        """Position of the maximum along an axis (of the flattened tensor by default), as int32."""
        return apply(ops.argmax, self, axis=axis, keepdims=keepdims)

    def topk(self, k: int, axis: int = -1) -> tuple[Tensor, Tensor]:
        """The k largest along an axis, largest first, and their positions."""
        values, positions = ops.topk(self.value, k, axis)
        return Tensor.following(values, self), Tensor.following(positions)

    # ---- shape ----

    def reshape(self, *shape: int | Sequence[int]) -> Tensor:
        """The same elements under another shape; one size may be -1."""
        return apply(ops.reshape, self, shape=_sizes(shape))

    def flatten(self, start_axis: int = 0) -> Tensor:
        """Join the axes from `start_axis` on."""
        start = start_axis % max(self.ndim, 1)
        size = 1
        for n in self.shape[start:]:
            size *= n
        return self.reshape((*self.shape[:start], size))

    def transpose(self, *axes: int | Sequence[int]) -> Tensor:
        """Permute the axes; reverse them by default."""
        return apply(ops.transpose, self, axes=_sizes(axes) or None)

    @property
    def T(self) -> Tensor:  # noqa: N802 - NumPy's word
        """The axes in reverse order."""
        return self.transpose()

    def broadcast_to(self, shape: Sequence[int]) -> Tensor:
        """Repeat along axes of size one and new leading axes."""
        return apply(ops.broadcast_to, self, shape=tuple(shape))

    def take(self, indices: Any, axis: int = 0) -> Tensor:
        """Entries of an axis at integer positions."""
        return apply(ops.take, self, as_tensor(indices), axis=axis)

    def __getitem__(self, key: Any) -> Tensor:
        """NumPy's basic indexing, and one tensor or list of integers."""
        read = read_index(key, self.shape)
        x = apply(ops.flip, self, axes=read.flips) if read.flips else self
        if not read.is_whole(self.shape):
            x = apply(ops.slice_, x, start=read.start, stop=read.stop, step=read.step)
        if read.shape != x.shape:
            x = x.reshape(read.shape)
        if read.gather is not None:
            axis, indices = read.gather
            picked = as_tensor(indices)
            if picked.dtype is bool_ or picked.dtype.is_float:
                raise DTypeError(
                    f"indices must be integers, got {picked.dtype}; use `where` to select by truth"
                )
            x = x.take(picked, axis=axis)
        return x


def as_tensor(data: Any) -> Tensor:
    """A tensor as it is; anything else as a constant."""
    return data if isinstance(data, Tensor) else Tensor(data)


def _operand(data: Any, other: DType | None) -> Tensor:
    """A Python number takes the type of the tensor beside it, as in NumPy."""
    if isinstance(data, Tensor):
        return data
    if isinstance(data, bool | int | float) and other is not None:
        if isinstance(data, bool):
            return Tensor(data)
        dtype = other if other.is_float else (float32 if isinstance(data, float) else int32)
        return Tensor(data, dtype=float32 if dtype is float16 else dtype)
    return Tensor(data)


def _follows(*tensors: Tensor) -> bool:
    return trace.grad_enabled() and any(t.requires_grad for t in tensors)


def apply(function: Any, *inputs: Any, **attrs: Any) -> Tensor:
    """Call an op on tensors and wrap its value (or values)."""
    dtypes = [t.dtype for t in inputs if isinstance(t, Tensor)]
    tensors = [_operand(t, dtypes[0] if dtypes else None) for t in inputs]
    return Tensor.following(function(*(t.value for t in tensors), **attrs), *tensors)


def leaves_of(tensors: Iterable[Tensor], among: Iterable[Tensor] | None = None) -> list[Tensor]:
    """The leaves that require gradients and that gradients reach from the tensors, in order.

    By default, among all there are.

    Raises
    ------
    GraphError
        One of them was updated after the tensors had been computed from it.
    """
    wanted = None if among is None else set(map(id, among))
    stack = [t.value.node for t in tensors]
    seen = set(stack)
    while stack:
        node = stack.pop()
        if node.op.differentiable and not node.constant:
            before = {v.node for v in node.inputs} - seen
            seen |= before
            stack.extend(before)
    found = []
    for node in sorted(seen, key=lambda n: n.number):
        if node.op in (INPUT, READ, ASSIGN):
            value = node.outputs[0]
            leaf = value.handle() if value.handle is not None else None
            if (
                leaf is None
                or not leaf.requires_grad
                or (wanted is not None and id(leaf) not in wanted)
            ):
                continue
            if node.op is not INPUT and leaf.value is not value:
                raise GraphError(
                    f"{leaf.cell.name!r} has been updated since the loss was computed from it: "
                    "compute the loss after the update, or its gradients before"
                )
            found.append(leaf)
    return found


def _sizes(args: tuple) -> tuple[int, ...]:
    """Sizes given one by one or as one sequence."""
    if len(args) == 1 and not isinstance(args[0], int):
        return tuple(args[0] or ())
    return tuple(args)
