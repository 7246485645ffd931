"""Modules: named trees of parameters and buffers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from ..dtypes import DType, float32
from ..errors import DataError, ShapeError
from ..graph import Cell, marked, marks
from ..tensor import Parameter, Tensor

__all__ = ["Buffer", "Module", "parameter"]


class Buffer(Parameter):
    """State that training changes but no gradient does, such as running statistics."""

    __slots__ = ()

    def __init__(self, shape: tuple[int, ...], initial: Callable[[], np.ndarray], dtype: DType = float32) -> None:
        super().__init__(Cell("", shape, dtype, "buffer", initial), requires_grad=False)


def parameter(shape: tuple[int, ...], initial: Callable[[], np.ndarray]) -> Parameter:
    """A float32 parameter whose contents are made when it is first used."""
    return Parameter(Cell("", shape, float32, "parameter", initial))


class Module:
    """Base of all layers and models.

    Parameters, buffers and modules that are set as attributes are found by name, in the order in which they
    were set. A subclass defines ``forward``.

    Attributes
    ----------
    training : bool
        What `train` and `eval` set.
    """

    training: bool = True

    def __init__(self) -> None:
        self.training = True

    def forward(self, *args: Any) -> Any:
        """What the module computes."""
        raise TypeError(f"{type(self).__name__} defines no forward")

    def __call__(self, *args: Any) -> Any:
        """Compute, with the module's name on every node."""
        name = self.__dict__.get("_name")
        if name is None:
            return self.forward(*args)
        with marked(scope=(*marks.scope, name)):
            return self.forward(*args)

    def __setattr__(self, name: str, attribute: Any) -> None:
        if isinstance(attribute, Module):
            attribute.__dict__["_name"] = name
        object.__setattr__(self, name, attribute)

    # ---- the tree ----

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """Modules set directly on this one."""
        for name, attribute in vars(self).items():
            if isinstance(attribute, Module):
                yield name, attribute

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """This module and all below it, with dotted paths."""
        yield prefix, self
        for name, child in self.named_children():
            yield from child.named_modules(f"{prefix}.{name}" if prefix else name)

    def modules(self) -> Iterator[Module]:
        """This module and all below it."""
        return (module for _, module in self.named_modules())

    def _named_cells(self) -> Iterator[tuple[str, Parameter]]:
        seen: set[int] = set()
        for path, module in self.named_modules():
            for name, attribute in vars(module).items():
                if isinstance(attribute, Parameter) and id(attribute) not in seen:
                    seen.add(id(attribute))
                    full = f"{path}.{name}" if path else name
                    attribute.cell.name = attribute.cell.name or full
                    yield full, attribute

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Parameters with dotted paths; a shared one once, under its first name."""
        return ((n, p) for n, p in self._named_cells() if not isinstance(p, Buffer))

    def parameters(self) -> Iterator[Parameter]:
        """Parameters in order."""
        return (p for _, p in self.named_parameters())

    def named_buffers(self) -> Iterator[tuple[str, Buffer]]:
        """Buffers with dotted paths."""
        return ((n, b) for n, b in self._named_cells() if isinstance(b, Buffer))

    def buffers(self) -> Iterator[Buffer]:
        """Buffers in order."""
        return (b for _, b in self.named_buffers())

    # ---- state ----

    def state_dict(self) -> dict[str, Parameter]:
        """Parameters and buffers by name."""
        return dict(self._named_cells())

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Replace parameters and buffers by arrays or tensors of the same names and shapes.

        Raises
        ------
        DataError
            Names are missing or unknown, or shapes differ; all are listed, and nothing was changed.
        """
        own = self.state_dict()
        arrays = {n: a.numpy() if isinstance(a, Tensor) else np.asarray(a) for n, a in state.items()}
        wrong = [f"missing {n}" for n in own if n not in arrays]
        wrong += [f"unknown {n}" for n in arrays if n not in own]
        wrong += [
            f"{n} is {list(own[n].shape)}, got {list(a.shape)}"
            for n, a in arrays.items()
            if n in own and own[n].shape != a.shape
        ]
        if wrong:
            raise DataError("load_state_dict: " + "; ".join(wrong))
        for name, array in arrays.items():
            own[name].assign(array)

    def train(self, training: bool = True) -> Module:
        """Set training mode here and below."""
        for module in self.modules():
            module.training = training
        return self

    def eval(self) -> Module:
        """Set evaluation mode here and below."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Module:
        """Say for all parameters whether they are trained."""
        for p in self.parameters():
            p.requires_grad_(requires_grad)
        return self

    def zero_grad(self) -> None:
        """Set all gradients to None."""
        for p in self.parameters():
            p.clear_grad()

    def __repr__(self) -> str:
        children = [f"  ({n}): " + repr(m).replace("\n", "\n  ") for n, m in self.named_children()]
        own = self._describe()
        if not children:
            return f"{type(self).__name__}({own})"
        return "\n".join([f"{type(self).__name__}({own}", *children, ")"])

    def _describe(self) -> str:
        """What the repr says between the parentheses."""
        return ""


def channels_fit(x: Tensor, channels: int, who: str) -> None:
    """Refuse images of another number of channels, naming the layer."""
    if x.ndim < 2 or x.shape[1] != channels:
        raise ShapeError(f"{who}: expected [N, {channels}, ...], got {list(x.shape)}")
