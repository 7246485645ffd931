"""Modules: named trees of parameters and buffers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import numpy as np

from .. import trace
from ..dtypes import DType, float32
from ..errors import ShapeError
from ..graph import Cell, marked, marks
from ..parameter import Parameter
from ..tensor import Tensor, as_tensor
from .state import load_cells

__all__ = ["Buffer", "Module", "parameter"]

M = TypeVar("M", bound="Module")


class Buffer(Parameter):
    """State that training changes but no gradient does, such as running statistics.

    Parameters
    ----------
    shape : tuple of int
    initial : callable
        Makes the first contents, when the buffer is first used.
    dtype : DType
    """

    __slots__ = ()

    def __init__(
        self, shape: tuple[int, ...], initial: Callable[[], np.ndarray], dtype: DType = float32
    ) -> None:
        super().__init__(Cell("", shape, dtype, "buffer", initial), requires_grad=False)


def parameter(shape: tuple[int, ...], initial: Callable[[], np.ndarray]) -> Parameter:
    """Make a float32 parameter whose first contents `initial` makes, when it is first used."""
    return Parameter(Cell("", shape, float32, "parameter", initial))


class Module:
    """Base of all layers and models.

    Parameters, buffers and modules that are set as attributes are found by name, in the order in
    which they were set. A subclass defines ``forward``.

    Attributes
    ----------
    training : bool
        What `train` and `eval` set.

    Examples
    --------
    >>> import tinygrad_edge as te
    >>> class Block(te.nn.Module):
    ...     def __init__(self, channels):
    ...         super().__init__()
    ...         self.conv = te.nn.Conv2d(channels, channels, 3, padding=1, bias=False)
    ...         self.norm = te.nn.BatchNorm2d(channels)
    ...
    ...     def forward(self, x):
    ...         return (x + self.norm(self.conv(x))).relu()
    >>> [name for name, _ in Block(8).named_parameters()]
    ['conv.weight', 'norm.weight', 'norm.bias']
    """

    # Class attributes, so that nothing depends on when a subclass calls super().__init__().
    training: bool = True
    _path: str = ""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Compute what the module is for."""
        raise TypeError(f"{type(self).__name__} defines no forward")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Compute, with the module's path on every node."""
        trace.current().depends_on(self, "training")
        with marked(scope=tuple(self._path.split(".")) if self._path else marks.scope):
            return self.forward(*args, **kwargs)

    def __setattr__(self, name: str, attribute: Any) -> None:
        if isinstance(attribute, list) and any(isinstance(a, _PARTS) for a in attribute):
            raise TypeError(
                f"{type(self).__name__}.{name}: what is in a list would not be found; make it an "
                "nn.ModuleList, or a tuple if its members are attributes too"
            )
        object.__setattr__(self, name, attribute)
        if name == "training":
            trace.setting_changed()
        if isinstance(attribute, Module):
            known = attribute._path
        elif isinstance(attribute, Parameter):
            known = attribute.cell.name
        else:
            return
        # What is shared within a model keeps its first name; an outermost module names all below.
        if not known or not self._path:
            self._name_parts()

    def _name_parts(self) -> None:
        """Tell the modules and cells below where they are, as seen from the outermost module."""
        for path, module in self.named_modules(self._path):
            object.__setattr__(module, "_path", path)
        for path, part in self._named_cells(self._path):
            part.cell.name = path

    # ---- the tree ----

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """Modules set directly on this one."""
        for name, attribute in vars(self).items():
            if isinstance(attribute, Module):
                yield name, attribute

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """Give this module and all below it with dotted paths; a shared one once, at its first."""
        seen: set[Module] = set()

        def walk(path: str, module: Module) -> Iterator[tuple[str, Module]]:
            if module not in seen:
                seen.add(module)
                yield path, module
                for name, child in module.named_children():
                    yield from walk(_join(path, name), child)

        return walk(prefix, self)

    def modules(self) -> Iterator[Module]:
        """Give this module and all below it."""
        return (module for _, module in self.named_modules())

    def _named_cells(self, prefix: str = "") -> Iterator[tuple[str, Parameter]]:
        seen: set[Cell] = set()
        for path, module in self.named_modules(prefix):
            for name, attribute in vars(module).items():
                if isinstance(attribute, Parameter) and attribute.cell not in seen:
                    seen.add(attribute.cell)
                    yield _join(path, name), attribute

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Give parameters with dotted paths; a shared one once, at its first path."""
        return ((n, p) for n, p in self._named_cells() if not isinstance(p, Buffer))

    def parameters(self) -> Iterator[Parameter]:
        """Give parameters in order."""
        return (p for _, p in self.named_parameters())

    def named_buffers(self) -> Iterator[tuple[str, Buffer]]:
        """Give buffers with dotted paths."""
        return ((n, b) for n, b in self._named_cells() if isinstance(b, Buffer))

    def buffers(self) -> Iterator[Buffer]:
        """Give buffers in order."""
        return (b for _, b in self.named_buffers())

    # ---- state ----

    def state_dict(self) -> dict[str, Parameter]:
        """Give parameters and buffers by name."""
        return dict(self._named_cells())

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Replace the contents of parameters and buffers.

        Parameters
        ----------
        state : mapping of str to array_like
            One array or tensor of the same shape for each name of `state_dict`.

        Raises
        ------
        DataError
            Names are missing or unknown, or shapes or kinds of numbers differ; all are listed, and
            nothing was changed.
        """
        load_cells("load_state_dict", self.state_dict(), state)

    def train(self: M, training: bool = True) -> M:
        """Set training mode here and below."""
        for module in self.modules():
            module.training = training
        return self

    def eval(self: M) -> M:
        """Set evaluation mode here and below."""
        return self.train(False)

    def requires_grad_(self: M, requires_grad: bool = True) -> M:
        """Say for all parameters whether they are trained."""
        for p in self.parameters():
            p.requires_grad_(requires_grad)
        return self

    def zero_grad(self) -> None:
        """Set all gradients to None."""
        for p in self.parameters():
            p.clear_grad()

    # ---- what it says of itself ----

    def __repr__(self) -> str:
        children = [f"  ({n}): " + repr(m).replace("\n", "\n  ") for n, m in self.named_children()]
        head = f"{type(self).__name__}({self._describe()}"
        return "\n".join([head, *children, ")"]) if children else f"{head})"

    def _describe(self) -> str:
        """Give what the repr says between the parentheses."""
        return ""

    def _expect(self, x: Any, *sizes: Any) -> Tensor:
        """Refuse an input of another shape, naming the layer and its path.

        A name in `sizes` stands for any size; a leading ellipsis stands for any number of axes.
        """
        x = as_tensor(x)
        last = sizes[1:] if sizes[0] is ... else sizes
        found = x.shape[max(x.ndim - len(last), 0) :] if sizes[0] is ... else x.shape
        if len(found) != len(last) or any(
            isinstance(n, int) and n != m for n, m in zip(last, found, strict=True)
        ):
            wanted = ", ".join("..." if n is ... else str(n) for n in sizes)
            raise ShapeError(f"{self._label()}: expected [{wanted}], got {list(x.shape)}")
        return x

    def _label(self) -> str:
        """Name the layer in an error."""
        return f"{type(self).__name__} {self._path!r}" if self._path else type(self).__name__


_PARTS = (Module, Parameter)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
