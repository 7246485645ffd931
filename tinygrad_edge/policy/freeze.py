"""Frozen parameters: no weight gradients, no updates, and nothing saved for either."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import ClassVar

from ..errors import GraphError
from ..graph import ASSIGN, GRADIENT, READ, Cell, Graph, Node, Value, base_of, emit, marked
from ..ops import full
from ..ops.update import UPDATES
from .pipeline import Policy
from .select import nothing_matched

__all__ = ["Freeze"]


@dataclass(frozen=True)
class Freeze(Policy):
    """Train without the parameters whose names match.

    Their gradients are never built, so that the values which only these would read are not saved,
    and their moments are no part of the plan. What remains is trained to the same bits as with
    ``requires_grad_(False)`` on them. Running statistics are no parameters: a batch-norm in
    training mode goes on to follow its input.

    Parameters
    ----------
    where : str or collection of str
        Patterns of parameter names, such as ``"features.*"``.

    Raises
    ------
    GraphError
        The step gives back the gradient of a frozen parameter.
    """

    phase: ClassVar[str] = "structure"

    where: str | Collection[str]

    def __call__(self, graph: Graph) -> Graph:
        """Give the graph without gradients and updates of the frozen parameters."""
        patterns = (self.where,) if isinstance(self.where, str) else tuple(self.where)
        frozen = {
            cell
            for cell in graph.cells
            if cell.kind == "parameter" and any(fnmatchcase(cell.name, p) for p in patterns)
        }
        if not frozen:
            nothing_matched(self, "parameter")
            return graph
        return _Rewriting(graph, frozen).result()


class _Rewriting:
    """The rewriting of one graph."""

    def __init__(self, graph: Graph, frozen: set[Cell]) -> None:
        self.graph = graph
        self.frozen = frozen
        self.left_out = {n for n in graph.nodes if n.op is ASSIGN and self._is_update(n)}
        self.present: dict[Cell, Value] = {}  # versions that stay

    def result(self) -> Graph:
        """The graph, if nobody asks for what is left out."""
        for value in map(base_of, self.graph.outputs):
            if value.node.op is GRADIENT and self._is_frozen(value.node.inputs[2 + value.index]):
                file, line = value.node.source
                raise GraphError(
                    f"the step gives back a gradient of a frozen parameter ({file}:{line}): leave "
                    "it out, or do not freeze it"
                )
        effects = [n for n in self.graph.effects if n not in self.left_out]
        graph = Graph(self.graph.outputs, effects, self.graph.inputs)
        return graph.marked(remarks=self.graph.remarks).rewrite(self._visit)

    def _is_frozen(self, value: Value) -> bool:
        # Not so a view: it stands for an argument of `te.grad`, whose derivative is asked for.
        node = value.node
        return node.op in (READ, ASSIGN) and node.attrs["cell"] in self.frozen

    def _is_update(self, assign: Node) -> bool:
        """Whether a frozen parameter or one of its moments is assigned."""
        maker = assign.inputs[0].node
        return assign.attrs["cell"] in self.frozen or (
            maker.op in UPDATES and self._is_frozen(maker.inputs[0])
        )

    def _visit(self, node: Node, inputs: tuple[Value, ...]) -> Iterable[Value] | None:
        if node.op is READ:
            copy = node.again(())
            self.present[node.attrs["cell"]] = copy.outputs[0]
            return copy.outputs
        if node in self.left_out:
            return (self.present[node.attrs["cell"]],)
        if node.op is GRADIENT and any(map(self._is_frozen, node.inputs[2:])):
            with marked(part=node.part, scope=node.scope, source=node.source):
                return self._gradients(node, inputs)
        return None

    def _gradients(self, node: Node, inputs: tuple[Value, ...]) -> list[Value]:
        """Zero for frozen parameters: a norm over all gradients counts them as nothing."""
        of, cotangent, *wrt = inputs
        trained = [
            v for v, old in zip(wrt, node.inputs[2:], strict=True) if not self._is_frozen(old)
        ]
        found = iter(emit(GRADIENT, of, cotangent, *trained).outputs)
        return [
            full(v.shape, 0.0, v.dtype) if self._is_frozen(old) else next(found)
            for v, old in zip(wrt, node.inputs[2:], strict=True)
        ]
