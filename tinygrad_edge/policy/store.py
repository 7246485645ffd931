"""Storage formats: a saved value crosses to the backward part in fewer bits."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import ClassVar

from ..errors import GraphError
from ..graph import Graph, Value, base_of
from .formats import FORMATS, Format, backward_readers
from .pipeline import Policy
from .select import crossing, is_small, nothing_matched

__all__ = ["Store"]


@dataclass(frozen=True)
class Store(Policy):
    """Keep the matching saved values in another format.

    They are converted where they are made, and back before the backward part reads them. All
    arithmetic stays in float32. The loss of the first step is unchanged; gradients are rounded, in
    all formats but ``"bitmask"``. Single numbers, statistics, and what else is much smaller than
    what it is made from stay as they are. A step whose values do not fit the format fails before it
    changes anything.

    Parameters
    ----------
    format : str
        ``"float16"``: 11 bits of precision, numbers up to 65,504 (Micikevicius et al. 2018).
        ``"bfloat16"``: 8 bits of precision, numbers as large as float32's. ``"int8"``: steps of
        1/127 of the largest magnitude among 256 elements of a sample, rounded up or down at random
        so that the mean is right (Chen et al. 2021, ActNN); the draws are another stream than
        dropout's. ``"bitmask"``, lossless: a bit for each element of a rectifier's output where the
        backward part asks for no more, 1 to 4 bits for a position in a max-pool's window; no other
        value matches.
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
        readers = backward_readers(graph)
        meant: dict[Value, Format] = {}
        for value in self._matching(graph):
            form = FORMATS[self.format](value, readers[value])
            if form is not None and form.nbytes(value) < value.nbytes:
                meant[value] = form
        if not meant:
            nothing_matched(self, "saved value")
        # What crosses as bits already, at no loss, is smaller than in any other format.
        lossless = {v for v, form in graph.stored.items() if form.lossless}
        return graph.marked(stored={v: form for v, form in meant.items() if v not in lossless})

    def _matching(self, graph: Graph) -> Iterator[Value]:
        keep = (self.keep,) if isinstance(self.keep, str) else tuple(self.keep)
        there_anyway = set(map(base_of, graph.outputs))
        for value in crossing(graph):
            if value in there_anyway or is_small(value):
                continue
            path = value.node.path
            if fnmatchcase(path, self.where) and not any(fnmatchcase(path, k) for k in keep):
                yield value
