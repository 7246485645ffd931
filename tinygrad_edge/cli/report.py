"""What a command shows: lines, on a terminal a live bar; or JSON for scripts, and nothing else."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from ..plan import megabytes
from .record import EpochResult

__all__ = ["Bar", "Report", "memory_table"]


class Bar(Protocol):
    """Shows how far a training is."""

    def advance(self, text: str) -> None:
        """One more step is done; `text` says how it goes."""

    def epoch(self, text: str, result: EpochResult) -> None:
        """Show what an epoch has measured."""


class _Plain:
    def __init__(self, report: Report) -> None:
        self._report = report

    def advance(self, text: str) -> None:
        pass

    def epoch(self, text: str, result: EpochResult) -> None:
        self._report.line(text)
        self._report.epoch(result)


class _Live:
    def __init__(self, report: Report, bar: Any, task: Any) -> None:
        self._report, self._bar, self._task = report, bar, task

    def advance(self, text: str) -> None:
        self._bar.update(self._task, advance=1, description=text)

    def epoch(self, text: str, result: EpochResult) -> None:
        self._bar.console.print(text, markup=False, highlight=False)
        self._report.epoch(result)


class Report:
    """What goes to stdout: lines for people, or one JSON object a line.

    Parameters
    ----------
    as_json : bool
    on_epoch : callable, optional
        Gets what each epoch has measured, too.
    """

    def __init__(
        self, as_json: bool, on_epoch: Callable[[dict[str, Any]], object] | None = None
    ) -> None:
        self.as_json, self._on_epoch = as_json, on_epoch

    def line(self, text: str) -> None:
        """Print a line for people."""
        if not self.as_json:
            print(text, flush=True)

    def record(self, fields: Mapping[str, Any]) -> None:
        """Print an object for scripts."""
        if self.as_json:
            print(json.dumps(fields), flush=True)

    def epoch(self, result: EpochResult) -> None:
        """Hand on what an epoch has measured."""
        self.record(result.measured())
        if self._on_epoch is not None:
            self._on_epoch(result.measured())

    @contextmanager
    def progress_bar(self, total: int, done: int = 0) -> Iterator[Bar]:
        """Show a bar where somebody looks and rich is there to draw it; elsewhere only lines.

        Parameters
        ----------
        total, done : int
            Steps of the whole training, and those of an earlier run.
        """
        if self.as_json or not sys.stdout.isatty():
            yield _Plain(self)
            return
        try:
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn
        except ImportError:
            self.line("(a progress bar needs rich: pip install 'tinygrad-edge[cli]')")
            yield _Plain(self)
            return
        columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, transient=True) as bar:
            yield _Live(self, bar, bar.add_task("", total=total, completed=done))


def memory_table(by_kind: Mapping[str, int]) -> str:
    """Bytes by kind, and their sum."""
    rows = [(kind, n) for kind, n in by_kind.items() if n]
    rows.append(("peak", sum(by_kind.values())))
    return "\n".join(f"  {kind:<10} {n:>14,} bytes  {megabytes(n):>10}" for kind, n in rows)
