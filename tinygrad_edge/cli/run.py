"""The files of a run: a folder with a snapshot, metrics line by line, curves."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import tinygrad_edge

from .. import snapshot
from ..errors import FileError
from ..files import atomic_write
from ..nn import Module
from ..policy import Decision
from ..sparse import Event
from .record import EpochResult, Progress, Record

__all__ = ["Run"]

#: What a line of the metrics tells.
Line = EpochResult | Decision | Event

SNAPSHOT = "snapshot.safetensors"
BEST = "best.safetensors"
METRICS = "metrics.jsonl"
CURVES = "curves.png"
DENSITIES = "densities.png"


class Run:
    """A run's folder.

    Parameters
    ----------
    path : Path
        Of its snapshot.
    """

    def __init__(self, path: Path) -> None:
        self.snapshot = path
        self.folder = path.parent
        self.best = self.folder / BEST
        self.metrics = self.folder / METRICS
        self.curves = self.folder / CURVES
        self.densities = self.folder / DENSITIES

    @classmethod
    def new(cls, out: str | None, name: str) -> Run:
        """Make a run's folder: `out`, else the first of runs/NAME, runs/NAME-2, ... that is free.

        Raises
        ------
        FileError
            The folder holds a run, or cannot be made.
        """
        try:
            if out is None:
                return cls(_first_free(Path("runs") / name) / SNAPSHOT)
            folder = Path(out)
            folder.mkdir(parents=True, exist_ok=True)
            held = [f for f in (SNAPSHOT, BEST, METRICS, CURVES) if (folder / f).exists()]
        except OSError as error:
            raise FileError(f"cannot make the folder {out or 'runs'}: {error.strerror}") from error
        if held:
            raise FileError(
                f"{folder} holds a run already ({', '.join(held)}): give another --out, or "
                f"continue that run with --resume {folder}"
            )
        return cls(folder / SNAPSHOT)

    @classmethod
    def at(cls, place: str, best: bool = False) -> Run:
        """The run whose folder or snapshot is given.

        Parameters
        ----------
        place : str
        best : bool
            Of a folder, prefer the snapshot of the best epoch, where there is one.

        Raises
        ------
        FileError
            There is none.
        """
        path = Path(place)
        if path.is_dir():
            chosen = path / BEST
            path = chosen if best and chosen.is_file() else path / SNAPSHOT
        if not path.is_file():
            raise FileError(f"there is no {path}: expected a run's folder or its snapshot")
        return cls(path)

    def load(self, objects: Iterable[snapshot.Stateful] = ()) -> Record:
        """Restore objects from the snapshot; gives what it says besides."""
        return Record.read(self.snapshot, snapshot.load(self.snapshot, objects).metadata)

    def save(self, objects: Iterable[snapshot.Stateful], record: Record) -> None:
        """Replace the snapshot."""
        _save(self.snapshot, objects, record)

    def save_best(self, model: Module, record: Record) -> None:
        """Replace the snapshot of the best epoch: the model alone."""
        _save(self.best, [model], record)

    def append(self, *events: Line) -> None:
        """Add epochs, decisions or moves to the metrics, on disk before this returns."""
        try:
            with open(self.metrics, "a", encoding="utf-8") as file:
                file.write("".join(map(_line, events)))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise FileError(f"cannot write {self.metrics}: {error.strerror}") from error

    def repair(self, progress: Progress) -> None:
        """Clear up after a process that was killed.

        It may have left files that have not got their names yet, and in the metrics a torn line or
        an epoch that will be run again: they become what the snapshot knows.
        """
        events: list[Line] = [*progress.decisions, *progress.moves, *progress.epochs]
        events.sort(key=lambda event: event.step)
        for path in (self.snapshot, self.best, self.metrics, self.curves, self.densities):
            for unnamed in self.folder.glob(f".{path.name}.*.tmp"):
                unnamed.unlink(missing_ok=True)
        with atomic_write(self.metrics) as file:
            file.write("".join(map(_line, events)).encode())


def _save(path: Path, objects: Iterable[snapshot.Stateful], record: Record) -> None:
    metadata = {**record.metadata(), "version": tinygrad_edge.__version__}
    snapshot.save(path, objects, metadata)


def _line(event: Line) -> str:
    told = event.measured() if isinstance(event, EpochResult) else asdict(event)
    return json.dumps(told) + "\n"


def _first_free(folder: Path) -> Path:
    folder.parent.mkdir(parents=True, exist_ok=True)
    number = 1
    while True:
        each = folder if number == 1 else folder.with_name(f"{folder.name}-{number}")
        try:
            each.mkdir()  # unlike a look, it cannot give two runs the same folder
            return each
        except FileExistsError:
            number += 1
