"""Modules in a row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from .module import Module

__all__ = ["ModuleList", "Sequential"]


class ModuleList(Module):
    """Modules named "0", "1", ... that a model's ``forward`` calls as it likes.

    Parameters
    ----------
    modules : iterable of Module
    """

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        super().__init__()
        for module in modules:
            self.append(module)

    def append(self, module: Module) -> None:
        """Add a module at the end."""
        if not isinstance(module, Module):
            raise TypeError(f"{type(self).__name__}: expected modules, got {type(module).__name__}")
        setattr(self, str(len(self)), module)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __iter__(self) -> Iterator[Module]:
        # A pool of sparse weights is a child as well, and no member.
        return (module for name, module in self.named_children() if name.isdecimal())

    def __getitem__(self, index: int) -> Module:
        return list(self)[index]

    def __setitem__(self, index: int, module: Module) -> None:
        setattr(self, str(range(len(self))[index]), module)


class Sequential(ModuleList):
    """Modules named "0", "1", ..., each called on what the one before gave.

    Parameters
    ----------
    *modules : Module

    Examples
    --------
    >>> import tinygrad_edge as te
    >>> te.nn.Sequential(te.nn.Linear(4, 8), te.nn.ReLU(), te.nn.Linear(8, 2))
    Sequential(
      (0): Linear(in_features=4, out_features=8, bias=True)
      (1): ReLU()
      (2): Linear(in_features=8, out_features=2, bias=True)
    )
    """

    def __init__(self, *modules: Module) -> None:
        super().__init__(modules)

    def forward(self, x: Any) -> Any:
        """Call all modules in order."""
        for module in self:
            x = module(x)
        return x
