"""What a command shows: plain lines, and on a terminal a live bar."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from ..plan import megabytes

__all__ = ["Bar", "memory_table", "progress_bar"]


class Bar(Protocol):
    """Shows how far a long work is."""

    def advance(self, text: str) -> None:
        """One more is done; `text` says how it goes."""

    def line(self, text: str) -> None:
        """Print a line that stays."""


class _Plain:
    def advance(self, text: str) -> None:
        pass

    def line(self, text: str) -> None:
        print(text, flush=True)


class _Live:
    def __init__(self, bar: Any, task: Any) -> None:
        self._bar, self._task = bar, task

    def advance(self, text: str) -> None:
        self._bar.update(self._task, advance=1, description=text)

    def line(self, text: str) -> None:
        self._bar.console.print(text, markup=False, highlight=False)


@contextmanager
def progress_bar(total: int, done: int = 0) -> Iterator[Bar]:
    """Show a bar where somebody looks and rich is there to draw it; elsewhere only lines.

    Parameters
    ----------
    total, done : int
        Steps of the whole work, and those of an earlier run.
    """
    if not sys.stdout.isatty():
        yield _Plain()
        return
    try:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn
    except ImportError:
        print("(a progress bar needs rich: pip install 'tinygrad-edge[cli]')")
        yield _Plain()
        return
    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, transient=True) as bar:
        yield _Live(bar, bar.add_task("", total=total, completed=done))


def memory_table(by_kind: Mapping[str, int]) -> str:
    """Bytes by kind, and their sum."""
    rows = [(kind, n) for kind, n in by_kind.items() if n]
    rows.append(("peak", sum(by_kind.values())))
    return "\n".join(f"  {kind:<10} {n:>14,} bytes  {megabytes(n):>10}" for kind, n in rows)
