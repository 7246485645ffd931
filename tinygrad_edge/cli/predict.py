"""``predict``: what a snapshot's model takes pictures for."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from .. import data
from ..data._progress import progress
from ..errors import DataError, FileError
from ..runtime import set_threads
from .arguments import count
from .report import Report
from .run import Run
from .training import Classifier

__all__ = ["add"]

BATCH = 16  # pictures at a time
TOP = 3  # classes that are named

DESCRIPTION = f"""
Print for each picture the {TOP} classes that a snapshot's model finds most likely, and how sure it
is: from 0 to 1, over all classes 1. A picture of any size and kind is read as those that the model
was trained on. One that cannot be read is told on stderr, and the exit code then is 2.
"""


def add(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser("predict", help="say what is in pictures", description=DESCRIPTION)
    option = parser.add_argument
    option("snapshot", metavar="SNAPSHOT", help="a run's folder, or its snapshot")
    option("images", nargs="+", metavar="IMAGE", help="a picture, or a folder: all that is in it")
    option("--threads", type=count, metavar="N", help="default: all processors")
    option("--json", action="store_true", help="print a JSON object for each picture")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    if args.threads:
        set_threads(args.threads)
    files = Run.at(args.snapshot, best=True)
    record = files.load()
    channels, height, width = record.data.image_shape
    if channels not in (1, 3):
        raise DataError(
            f"{files.snapshot} was trained on {channels}x{height}x{width}, which is no picture"
        )
    classifier = Classifier(record.settings.build(record.data)[0])
    files.load([classifier.model])
    classifier.model.eval()
    paths = [path for place in args.images for path in _pictures(place)]
    report, unread = Report(args.json), 0
    # Where lines go to a terminal, they show how far it is.
    shown = sys.stdout.isatty()
    bar = nullcontext(_quiet) if shown else progress("predicting", len(paths), "items")
    with bar as advance:
        for start in range(0, len(paths), BATCH):
            some = paths[start : start + BATCH]
            pictures: list[tuple[str, np.ndarray]] = []
            for path in some:
                try:
                    pictures.append((path, data.read_image(path, (height, width), channels)))
                except FileError as error:
                    unread += 1
                    print("tinygrad-edge:", " ".join(str(error).split()), file=sys.stderr)
                    report.record({"image": path, "error": str(error)})
            if pictures:
                images = record.data.normalisation(np.stack([image for _, image in pictures]))
                rows = classifier.probabilities(images).borrow()
                for (path, _), row in zip(pictures, rows, strict=True):
                    _tell(report, path, row, record.data.class_names)
            advance(len(some))
    return 2 if unread else 0


def _quiet(count: int) -> None:
    pass


def _pictures(place: str) -> Iterator[str]:
    """Find the files of a folder, hidden ones passed over, in the order of their names."""
    if not os.path.isdir(place):
        yield place
        return
    found = sorted(path for path in Path(place).rglob("*") if path.is_file())
    visible = [p for p in found if not any(n.startswith(".") for n in p.relative_to(place).parts)]
    if not visible:
        raise DataError(f"there is no picture in {place}")
    yield from map(str, visible)


def _tell(report: Report, path: str, row: np.ndarray, names: Sequence[str]) -> None:
    likely = np.argsort(-row, kind="stable")[:TOP]
    classes = {names[i]: round(float(row[i]), 4) for i in likely}
    report.line(f"{path}  " + "  ".join(f"{name} {p:.4f}" for name, p in classes.items()))
    report.record({"image": path, "classes": classes})
