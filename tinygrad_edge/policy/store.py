"""Storage formats: a saved value crosses to the backward part in fewer bits."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import ClassVar

from ..dtypes import float16, float32
from ..errors import GraphError
from ..graph import Graph, base_of
from .pipeline import Policy
from .select import crossing, is_small, nothing_matched

__all__ = ["Store"]

#: Names of formats, and the types that hold them.
FORMATS = {"float16": float16}


@dataclass(frozen=True)
class Store(Policy):
    """Keep the matching saved values in another format (Micikevicius et al. 2018 for float16).

    They are converted where they are made, and back before the backward part reads them. All
    arithmetic stays in float32; losses of the first step are unchanged, gradients are rounded: not
    lossless. Single numbers, statistics, and what else is much smaller than what it is made from
    stay as they are. A step whose values do not fit the format fails before it changes anything.

    Parameters
    ----------
    format : str
        ``"float16"``: 11 bits of precision, numbers up to 65,504.
    where : str, optional
        Pattern of module paths, such as ``"block*"``.
    keep : str or collection of str
        Patterns of module paths whose values stay as they are.

    Raises
    ------
    GraphError
        There is no such format.
    """

    phase: ClassVar[str] = "crossing"

    format: str
    where: str = "*"
    keep: str | Collection[str] = ()

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise GraphError(f"there is no format {self.format!r}; there are {', '.join(FORMATS)}")

    def __call__(self, graph: Graph) -> Graph:
        """Mark the values that are to be converted."""
        keep = (self.keep,) if isinstance(self.keep, str) else tuple(self.keep)
        there_anyway = set(map(base_of, graph.outputs))
        meant = {
            v: FORMATS[self.format]
            for v in crossing(graph)
            if v.dtype is float32
            and v not in there_anyway
            and not is_small(v)
            and fnmatchcase(v.node.path, self.where)
            and not any(fnmatchcase(v.node.path, pattern) for pattern in keep)
        }
        if not meant:
            nothing_matched(self, "saved value")
        return graph.marked(stored=meant)
