"""The best choice there is, by integer programming: what `Budget` is judged by.

A whole-schedule program in the style of Checkmate (Jain et al. 2020), over the choices that a
`Budget` has: whether each value of the forward part is kept for the backward part, and before which
nodes of the backward part it is made again. It takes seconds to minutes, and SciPy.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from ..errors import BuildError
from ..graph import ASSIGN, Graph, Node, Value, base_of
from ..plan import Plan
from .again import fresh_until
from .select import is_small

__all__ = ["Optimum", "optimum"]

_INFEASIBLE = 2  # SciPy's status
_BYTES = 1e-6  # in the program, so that its coefficients are near 1


class Optimum(NamedTuple):
    """The answer of the program.

    Parameters
    ----------
    seconds : float
        More than the step takes without making anything again; infinite where nothing was found.
    bound : float
        Proven: no choice takes fewer more. Infinite where no choice fits.
    again : frozenset of Value
    anew : frozenset of (Value, Node)
        As the graph's marks of these names.
    """

    seconds: float
    bound: float
    again: frozenset[Value]
    anew: frozenset[tuple[Value, Node]]


def optimum(
    plan: Plan,
    arena_bytes: float,
    seconds: Callable[[Node], float],
    limit: float = 120.0,
    gap: float = 0.01,
) -> Optimum:
    """Solve for the fastest choice whose live bytes fit.

    Parameters
    ----------
    plan : Plan
        Of the step that makes nothing again.
    arena_bytes : float
        What may be live in the arena.
    seconds : callable
        The time that a node takes.
    limit : float
        Seconds after which the search ends with what it has.
    gap : float
        The search is over when answer and bound differ by this part of the step's time.
    """
    return _Program(plan, seconds).solve(arena_bytes, limit, gap)


class _Program:
    """Variables and rows of the integer program.

    A stage is a node of the backward part. ``made[n, t]``: node n of the forward part runs again
    right before stage t; ``there[v, t]``: v is in memory when stage t begins; ``late[v, t, k]``: it
    is still needed when node k runs again in stage t.
    """

    def __init__(self, plan: Plan, seconds: Callable[[Node], float]) -> None:
        graph = plan.graph
        self.time = {node: i for i, node in enumerate(graph.nodes)}
        self.step_seconds = sum(seconds(n) for n in graph.nodes if n.op.kernel is not None)
        self.seconds = seconds
        self.values = _choosable(graph)
        self.nodes = list(dict.fromkeys(v.node for v in self.values))
        self.users: dict[Value, list[Node]] = {v: [] for v in self.values}
        for node in self.nodes:
            for value in dict.fromkeys(map(base_of, node.inputs)):
                if value in self.users:
                    self.users[value].append(node)
        self.stages = [n for n in graph.nodes if n.part == "backward"]
        self.reads = [
            {v for v in map(base_of, node.inputs) if v in self.users} for node in self.stages
        ]
        self.backward_reads = set().union(*self.reads)
        self.needed = self._needed()
        self.graph = graph
        self._lay_out(plan)
        self.variables: dict[tuple[Any, ...], int] = {}
        self.rows: list[tuple[dict[int, float], float, float]] = []

    def _needed(self) -> list[set[Node]]:
        """For each stage, the nodes that lead to what it reads."""
        found = []
        for reads in self.reads:
            stack = [v.node for v in reads]
            nodes: set[Node] = set()
            while stack:
                node = stack.pop()
                if node not in nodes:
                    nodes.add(node)
                    stack += [v.node for v in map(base_of, node.inputs) if v in self.users]
            found.append(nodes)
        return found

    def _lay_out(self, plan: Plan) -> None:
        """Bytes at each moment, and between moments, without the values to choose about."""
        fresh = fresh_until(plan.graph)
        count = len(plan.graph.nodes)
        change = np.zeros(count + 2)
        for b in plan.storage.buffers:
            change[b.start] += b.nbytes
            change[min(b.end, count) + 1] -= b.nbytes
        live = np.cumsum(change)[:count]
        before = live.copy()  # at the beginning of each moment: what it makes is not there yet
        for b in plan.storage.buffers:
            if b.start < count:
                before[b.start] -= b.nbytes
        self.last_forward: dict[Value, int] = {}
        self.latest: dict[Value, int] = {}  # the last stage that may want it
        last_read: dict[Value, int] = {}
        for node in plan.graph.nodes:
            for value in map(base_of, node.inputs):
                if value in self.users:
                    last_read[value] = self.time[node]
                    if node.part == "forward":
                        self.last_forward[value] = self.time[node]
        for value in self.values:
            made = self.time[value.node]
            self.last_forward.setdefault(value, made)
            last = last_read.get(value, made)
            live[made : last + 1] -= value.nbytes
            before[made + 1 : last + 1] -= value.nbytes
        for t, nodes in enumerate(self.needed):
            for value in self.values:
                if value.node in nodes and self.time[self.stages[t]] < fresh[value]:
                    self.latest[value] = t
        self.live, self.before = live, before
        self.workspace = dict.fromkeys(self.nodes, 0)
        for b in plan.storage.buffers:
            node = plan.graph.nodes[b.start]
            if not b.lives and node in self.workspace:
                self.workspace[node] += b.nbytes

    # ---- variables ----

    def _variable(self, *key: Any) -> int:
        if key not in self.variables:
            self.variables[key] = len(self.variables)
        return self.variables[key]

    def _there(self, value: Value, t: int) -> int | None:
        """The variable, where the value can be of use."""
        return self._variable("there", value, t) if t <= self.latest.get(value, -1) else None

    def _made(self, node: Node, t: int) -> int | None:
        useful = node in self.needed[t] and any(t <= self.latest.get(v, -1) for v in node.outputs)
        return self._variable("made", node, t) if useful else None

    def _row(self, terms: dict[int | None, float], low: float, high: float) -> None:
        self.rows.append(({i: c for i, c in terms.items() if i is not None}, low, high))

    # ---- the program ----

    def _logic(self) -> None:
        for t, reads in enumerate(self.reads):
            for value in self.values:
                there, made = self._there(value, t), self._made(value.node, t)
                after = self._there(value, t + 1)
                if value in reads:
                    self._row({there: 1, made: 1}, 1, math.inf)
                if after is not None:
                    self._row({after: 1, there: -1, made: -1}, -math.inf, 0)
                if made is not None:
                    for read in map(base_of, value.node.inputs):
                        if read in self.users:
                            available = {
                                made: 1.0,
                                self._there(read, t): -1.0,
                                self._made(read.node, t): -1.0,
                            }
                            self._row(available, -math.inf, 0)

    def _memory(self, arena_bytes: float) -> None:
        self._forward_memory(arena_bytes)
        for t, node in enumerate(self.stages):
            if all(self._there(v, t) is None for v in self.values):
                break
            now = self.time[node]
            then = self.time[self.stages[t + 1]] if t + 1 < len(self.stages) else len(self.live)
            fixed = self.live[now] + sum(v.nbytes for v in self.reads[t])
            held = {self._there(v, t + 1): v.nbytes for v in self.values if v not in self.reads[t]}
            self._fits(held, fixed, arena_bytes)
            if then > now + 1:
                after = {self._there(v, t + 1): v.nbytes for v in self.values}
                self._fits(after, self.live[now + 1 : then].max(), arena_bytes)
            self._stage_memory(t, self.before[now], arena_bytes)

    def _forward_memory(self, arena_bytes: float) -> None:
        """What the forward part needs itself, and what is kept beside that."""
        first = self.time[self.stages[0]]
        needed = self.live.copy()
        until: dict[Value, int] = {}
        for value in self.values:
            until[value] = self.last_forward[value]
            reader = self.graph.nodes[until[value]]
            if value in self.backward_reads and _in_place(value, reader):
                until[value] -= 1  # if it is not kept, its reader writes over it
            needed[self.time[value.node] : until[value] + 1] += value.nbytes
        ends = sorted({*until.values(), first - 1})
        for since, end in zip([-1, *ends], ends, strict=False):
            kept = {self._there(v, 0): v.nbytes for v in self.values if until[v] <= since}
            if end > since:
                self._fits(kept, needed[since + 1 : end + 1].max(), arena_bytes)

    def _stage_memory(self, t: int, fixed: float, arena_bytes: float) -> None:
        """While each node runs again, in order."""
        for node in self.nodes:
            made = self._made(node, t)
            if made is None:
                continue
            terms: dict[int | None, float] = {made: self.workspace[node]}
            whole = fixed
            for value in self.values:
                if value.node is node:
                    terms[made] += value.nbytes
                    terms[self._there(value, t)] = value.nbytes
                elif value.node.number > node.number:
                    terms[self._there(value, t)] = value.nbytes
                elif value in self.reads[t]:
                    whole += value.nbytes
                else:
                    still = [
                        n
                        for n in self.users[value]
                        if n.number > node.number or (n is node and not _in_place(value, n))
                    ]
                    wanted = [m for m in (self._made(n, t) for n in still) if m is not None]
                    after = self._there(value, t + 1)
                    if not wanted:
                        terms[after] = value.nbytes
                        continue
                    late = self._variable("late", value, t, still[0])
                    for m in (*wanted, after):
                        self._row({late: 1, m: -1}, 0, math.inf)
                    terms[late] = value.nbytes
            self._fits(terms, whole, arena_bytes)

    def _fits(self, terms: Mapping[int | None, float], fixed: float, arena_bytes: float) -> None:
        scaled = {i: c * _BYTES for i, c in terms.items()}
        self._row(scaled, -math.inf, (arena_bytes - fixed) * _BYTES)

    def solve(self, arena_bytes: float, limit: float, gap: float) -> Optimum:
        try:
            from scipy.optimize import Bounds, LinearConstraint, milp
            from scipy.sparse import csr_array
        except ImportError:
            raise BuildError(
                "the best choice is found with SciPy: pip install 'tinygrad-edge[optimal]'"
            ) from None

        self.rows, self.variables = [], {}
        self._logic()
        self._memory(arena_bytes)
        whole_step = self._variable("the step itself")  # so that the gap is a part of its time
        self._row({whole_step: 1}, 1, 1)
        count = len(self.variables)
        data: list[float] = []
        columns: list[int] = []
        starts = [0]
        for terms, _, _ in self.rows:
            data += terms.values()
            columns += terms.keys()
            starts.append(len(data))
        matrix = csr_array((data, columns, starts), shape=(len(self.rows), count))
        objective = np.zeros(count)
        binary = np.ones(count)
        for key, i in self.variables.items():
            if key[0] == "made":
                objective[i] = self.seconds(key[1]) / self.step_seconds
            binary[i] = key[0] != "late"
        objective[whole_step] = 1.0
        result = milp(
            objective,
            integrality=binary,
            bounds=Bounds(0, 1),
            constraints=LinearConstraint(
                matrix, [low for _, low, _ in self.rows], [high for _, _, high in self.rows]
            ),
            options={"time_limit": limit, "mip_rel_gap": gap},
        )
        proven = math.inf if result.status == _INFEASIBLE else (result.mip_dual_bound or 1.0)
        bound = (proven - 1) * self.step_seconds
        if result.x is None:
            return Optimum(math.inf, bound, frozenset(), frozenset())
        chosen = {key for key, i in self.variables.items() if result.x[i] > 0.5}
        again = frozenset(v for v in self.values if ("there", v, 0) not in chosen)
        anew = frozenset(
            (v, self.stages[t])
            for kind, *key in chosen
            if kind == "made"
            for n, t in [key]
            for v in n.outputs
            if v in self.users
        )
        return Optimum((result.fun - 1) * self.step_seconds, bound, again, anew)


def _choosable(graph: Graph) -> list[Value]:
    """The values that a budget may choose to make again, in order."""
    there_anyway = set(map(base_of, graph.outputs))
    fresh = fresh_until(graph)
    time = {node: i for i, node in enumerate(graph.nodes)}
    last: dict[Value, int] = {}
    for node in graph.nodes:
        for value in map(base_of, node.inputs):
            last[value] = time[node]
    return [
        value
        for node in graph.nodes
        if node.part == "forward" and node.inputs and node.op is not ASSIGN and not node.op.alias
        for value in node.outputs
        if value not in there_anyway
        and not is_small(value)
        and (last.get(value, -1) < fresh[value])
    ]


def _in_place(value: Value, node: Node) -> bool:
    """Whether a node can make its result in the memory of a value that dies there."""
    return any(
        base_of(node.inputs[i]) is value for v in node.outputs for i in node.overwrites(v.index)
    )
