"""Decisions that were made once, kept in a file, and taken again on another machine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from ..errors import FileError, GraphError
from ..files import atomic_write
from ..graph import Cell, Graph
from ..plan import Plan
from .microbatch import Microbatch
from .pipeline import Machine, Policy
from .second_backward import SecondBackward
from .store import Store

__all__ = ["Planned", "save_decisions"]

_FORMAT = "tinygrad_edge decisions 1"
#: What a budget may have chosen besides.
_COMPANIONS: dict[str, type[Policy]] = {
    "Microbatch": Microbatch,
    "SecondBackward": SecondBackward,
    "Store": Store,
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
        core = graph.core()
        if _hash(core) != self._decisions["graph"]:
            raise GraphError(
                f"{self!r}: these decisions are about another step: its model, batch, optimizer "
                "and other policies must be the same"
            )
        bare = Graph(core.outputs, core.effects, core.inputs).marked(remarks=core.remarks)

        try:
            again = [core.nodes[i].outputs[k] for i, k in self._decisions["again"]]
            anew = [
                (core.nodes[at].origin, core.nodes[i].outputs[k])
                for at, i, k in self._decisions["anew"]
            ]
        except IndexError:
            raise GraphError(f"{self!r}: some of these decisions are not in the step") from None
        return graph.with_core(bare.marked(again, anew=anew))


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
    if not isinstance(found, dict) or found.get("format") != _FORMAT:
        return False
    besides, again, anew = (found.get(name) for name in ("besides", "again", "anew"))
    if not all(isinstance(rows, list) for rows in (besides, again, anew)):
        return False
    numbers = all(
        isinstance(row, list) and len(row) == width and all(type(n) is int and n >= 0 for n in row)
        for rows, width in ((again, 2), (anew, 3))
        for row in rows or ()
    )
    return numbers and all(
        isinstance(row, list)
        and len(row) == 2
        and row[0] in _COMPANIONS
        and isinstance(row[1], dict)
        for row in besides or ()
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
