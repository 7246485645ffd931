"""A bar for work that takes long."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

__all__ = ["progress"]


@contextmanager
def progress(
    name: str, total: int | None, unit: Literal["bytes", "items"]
) -> Iterator[Callable[[int], object]]:
    """Show a bar, where somebody looks and rich is there to draw it.

    Yields
    ------
    callable
        To be told of each bit of work, how many units it was.
    """
    if not sys.stderr.isatty():
        yield lambda count: None
        return
    try:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            MofNCompleteColumn,
            Progress,
            TimeRemainingColumn,
        )
    except ImportError:
        yield lambda count: None
        return
    done = DownloadColumn() if unit == "bytes" else MofNCompleteColumn()
    columns = ("{task.description}", BarColumn(), done, TimeRemainingColumn())
    # Without redirection, what goes to stdout meanwhile stays there: it may be a file.
    with Progress(
        *columns, console=Console(stderr=True), transient=True, redirect_stdout=False
    ) as bar:
        task = bar.add_task(name, total=total)
        yield lambda count: bar.advance(task, count)
