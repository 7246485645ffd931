"""The formats that a budget may choose from, value by value."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from ..graph import ASSIGN, Cell, Graph, Value, base_of
from .formats import FORMATS, Format, backward_readers
from .pipeline import checks_first
from .rounding import has_drawn
from .select import is_small

__all__ = ["offered"]


def offered(
    core: Graph, names: Collection[str], rounding: Cell
) -> tuple[Graph, Mapping[Value, Mapping[str, Format]]]:
    """What each value of the forward part may be stored as, and the graph, ready for that.

    Ready means that nothing is assigned before the last value that may be stored, since one that
    does not fit fails the step. ``"bitmask"`` is not among the formats: it costs nothing, and the
    default takes it wherever it suits. Nor is one that rounds at random where others have done so:
    there is one stream, and they would draw the same numbers.

    Parameters
    ----------
    core : Graph
        In which all that is stored is explicit.
    names : collection of str
        The formats that are allowed.
    rounding : Cell
        The generator of stochastic rounding.
    """
    drawn = has_drawn(core, rounding)

    def formats(core: Graph) -> dict[Value, dict[str, Format]]:
        readers = backward_readers(core)
        there_anyway = set(map(base_of, core.outputs))
        found: dict[Value, dict[str, Format]] = {}
        for value in (v for n in core.nodes if n.part == "forward" for v in n.outputs):
            node = value.node
            if node.op is ASSIGN or node.op.alias or not node.inputs:
                continue
            if value in there_anyway or is_small(value):
                continue
            for name in names:
                form = FORMATS[name](value, readers.get(value, ()))
                if form and form.whole and not (drawn and form.draws):
                    if form.nbytes(value) < value.nbytes:
                        found.setdefault(value, {})[name] = form
        return found

    some = {value: next(iter(forms.values())) for value, forms in formats(core).items()}
    if not some:
        return core, {}
    ready = checks_first(core.marked(stored=some))
    bare = Graph(ready.outputs, ready.effects, ready.inputs)
    bare = bare.marked(ready.again, ready.kept, remarks=ready.remarks, anew=ready.anew)
    return bare, formats(bare)
