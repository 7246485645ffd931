"""Memory block by block: what passes through, and what stays behind (Yoosefi et al. 2023)."""

from __future__ import annotations

from typing import NamedTuple

from ..plan import Plan

__all__ = ["Block", "block_of", "blocks"]


class Block(NamedTuple):
    """Bytes of a block of a model.

    Parameters
    ----------
    name : str
        The module path up to its first number: ``features.2``, ``layer1.0``.
    temporary : int
        The most values of the forward part that live at one moment in it and are not saved: what
        goes into its layers and comes out, and what a residual sum waits for.
    workspace : int
        The most that kernels of its forward part want besides.
    saved : int
        What has accumulated for the backward part when its forward part ends.
    peak : int
        The most that lives in the arena at one moment of its calls, in any part.
    """

    name: str
    temporary: int
    workspace: int
    saved: int
    peak: int


def block_of(path: str) -> str:
    """The block that a module belongs to: its path up to the first number, else its first word."""
    words = path.split(".")
    number = next((i for i, word in enumerate(words) if word.isdecimal()), 0)
    return ".".join(words[: number + 1]) or "loss"


def blocks(plan: Plan) -> list[Block]:
    """Account for the blocks of a plan, in the order of the forward part.

    A block's forward part ends where the next block begins: what updates its running statistics
    later, once the step can no longer fail, is no part of it.
    """
    found: dict[str, Block] = {}
    current = ""
    for call in plan.calls:
        live = plan.live(call.time)
        sums = dict.fromkeys(("temporary", "workspace", "saved", "gradient"), 0)
        for entry in live:
            sums[entry.kind] += entry.nbytes
        name, total = block_of(call.node.path), sum(sums.values())
        if call.node.part == "forward" and (name == current or name not in found):
            current = name
            now = Block(name, sums["temporary"], sums["workspace"], sums["saved"], total)
            before = found.get(name, now)
            found[name] = Block(name, *map(max, before[1:], now[1:]))._replace(saved=now.saved)
        elif name in found:
            found[name] = found[name]._replace(peak=max(found[name].peak, total))
    return list(found.values())
