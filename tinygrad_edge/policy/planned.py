"""Decisions that were made once, kept in a file, and taken again on another machine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from ..errors import FileError, GraphError
from ..files import atomic_write
from ..graph import Cell, Graph, Value
from ..plan import Plan
from .checkpoint import Checkpoint
from .formats import FORMATS
from .microbatch import Microbatch
from .offers import offered
from .pipeline import Machine, Policy
from .second_backward import SecondBackward

__all__ = ["Planned", "save_decisions"]

_FORMAT = "tinygrad_edge decisions 2"
#: What a budget may have chosen besides.
_COMPANIONS: dict[str, type[Policy]] = {
    "Checkpoint": Checkpoint,
    "Microbatch": Microbatch,
    "SecondBackward": SecondBackward,
}
#: What a row of each list of decisions consists of.
_ROWS: dict[str, tuple[type, ...]] = {
    "besides": (str, dict),
    "again": (int, int),
    "anew": (int, int, int),
    "stored": (int, int, str),
}


def save_decisions(plan: Plan, path: str | Path) -> None:
    """Write what a plan makes again, and when, for `Planned`.

    The file is JSON: the hash of the step's graph, and places in it.

    Parameters
    ----------
    plan : Plan
        Of a step whose policies include the default: of a `Budget`, say.
    path : str or Path

    Raises
    ------
    GraphError
        The plan is not that of a compiled step.
    FileError
        The file cannot be written.
    """
    graph = plan.graph.decided
    if graph is None:
        raise GraphError("only plans of compiled steps have decisions to save")
    core = graph.core()
    place = {v: [i, v.index] for i, node in enumerate(core.nodes) for v in node.outputs}
    number = {node.origin: i for i, node in enumerate(core.nodes)}
    decisions = {
        "format": _FORMAT,
        "graph": _hash(core),
        "peak_bytes": plan.peak_bytes,
        "besides": [[type(p).__name__, asdict(p)] for p in plan.graph.company],
        "again": sorted(place[v] for v in core.again - core.kept),
        "anew": sorted([number[at], *place[v]] for at, v in core.anew),
        "stored": sorted([*place[v], form.name] for v, form in core.stored.items()),
    }
    with atomic_write(Path(path)) as file:
        file.write(json.dumps(decisions, indent=0).encode())


@dataclass(frozen=True)
class Planned(Policy):
    """The decisions of a plan that `save_decisions` has written.

    Includes the default, and whatever a budget had chosen besides. Nothing is searched, so that it
    suits a machine that is too small for that.

    Parameters
    ----------
    path : str or Path

    Raises
    ------
    FileError
        The file is not there, or not one of decisions.
    GraphError
        The decisions are about another step.
    """

    phase: ClassVar[str] = "budget"

    path: str | Path
    _decisions: dict[str, Any] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_decisions", _read(Path(self.path)))

    def parts(self) -> tuple[Policy, ...]:
        """What goes with the decisions, and these."""
        return (*self._decisions["besides"], self)

    def apply(self, graph: Graph, machine: Machine) -> Graph:
        """Mark the values that were chosen."""
        ready, formats = offered(graph.core(), FORMATS, machine.rounding)
        known = (g for g in (graph.core(), ready) if _hash(g) == self._decisions["graph"])
        core = next(known, None)
        if core is None:
            raise GraphError(
                f"{self!r}: these decisions are about another step: its model, batch, optimizer "
                "and other policies must be the same"
            )
        bare = Graph(core.outputs, core.effects, core.inputs).marked(remarks=core.remarks)

        def value(i: int, k: int) -> Value:
            return core.nodes[i].outputs[k]

        try:
            again = [value(i, k) for i, k in self._decisions["again"]]
            anew = [(core.nodes[t].origin, value(i, k)) for t, i, k in self._decisions["anew"]]
            stored = {
                value(i, k): formats[value(i, k)][name] for i, k, name in self._decisions["stored"]
            }
        except (IndexError, KeyError):
            raise GraphError(f"{self!r}: some of these decisions are not in the step") from None
        return graph.with_core(bare.marked(again, stored=stored, anew=anew))


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FileError(f"cannot read {path}: {error.strerror}") from None
    except ValueError:
        found = None
    try:
        if _is_right(found):
            besides = [_COMPANIONS[name](**fields) for name, fields in found["besides"]]
            return {**found, "besides": besides}
    except (TypeError, GraphError):
        pass  # a companion with arguments that it does not take
    raise FileError(f"{path} is no file of decisions: expected what save_decisions writes")


def _is_right(found: Any) -> bool:
    """Whether it has the form of decisions; what is in them the graph's hash vouches for."""
    return (
        isinstance(found, dict)
        and found.get("format") == _FORMAT
        and all(_are_rows(found.get(name), types) for name, types in _ROWS.items())
        and all(name in _COMPANIONS for name, _ in found["besides"])
    )


def _are_rows(found: Any, types: tuple[type, ...]) -> bool:
    return isinstance(found, list) and all(
        isinstance(row, list)
        and tuple(map(type, row)) == types
        and all(not isinstance(part, int) or part >= 0 for part in row)
        for row in found
    )


def _hash(graph: Graph) -> str:
    """Of all that a step computes, in order; not of what any number is."""
    import hashlib

    digest = hashlib.sha256()
    for line in _lines(graph):
        digest.update(line.encode())
    return digest.hexdigest()


def _lines(graph: Graph) -> Iterator[str]:
    place = {v: (i, v.index) for i, node in enumerate(graph.nodes) for v in node.outputs}
    for node in graph.nodes:
        attrs = {k: _described(v) for k, v in sorted(node.attrs.items()) if v is not node.body}
        types = [v.type for v in node.outputs]
        yield f"{node.op.name} {node.part} {[place[v] for v in node.inputs]} {attrs} {types}\n"
        if node.body is not None:
            yield from _lines(node.body)
    yield f"{[place[v] for v in graph.outputs]}\n"


def _described(attribute: Any) -> str:
    if isinstance(attribute, Cell):
        return f"{attribute.name} {attribute.type} {attribute.kind}"
    return repr(attribute)
