"""``eval``: how well a snapshot's model does on the test part of a data set."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from .. import data
from ..data._progress import progress
from ..errors import DataError, FileError
from ..runtime import set_threads
from . import confusion
from .arguments import DATA, count
from .report import Report
from .run import Run
from .training import Classifier

__all__ = ["add"]

PICTURE = "confusion.png"
LISTED = 3  # names of classes in an error

DESCRIPTION = """
Print how well a snapshot's model does on the test part of a data set: the accuracy; of each class
the recall, which is the part of its images that are found; and the confusion matrix, also as
confusion.png.
"""


def add(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "eval",
        help="test a snapshot's model",
        description=DESCRIPTION,
    )
    option = parser.add_argument
    option("snapshot", metavar="SNAPSHOT", help="a run's folder, or its snapshot")
    option("data", nargs="?", metavar="DATA", help=f"{DATA} (default: what it was trained on)")
    option("--batch", type=count, metavar="N", default=256, help="images at a time (default: 256)")
    option("--threads", type=count, metavar="N", help="default: all processors")
    option("--data-dir", metavar="DIR", help="the folder that holds the data sets' folders")
    option("--out", metavar="DIR", help="where confusion.png goes (default: the snapshot's folder)")
    option("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    if args.threads:
        set_threads(args.threads)
    files = Run.at(args.snapshot, best=True)
    record = files.load()
    name = args.data or record.settings.data
    size = None if name in data.SOURCES else record.settings.size
    dataset = data.load(name, args.data_dir, size=size)
    expected = (record.data.image_shape, record.data.class_names)
    found = (list(dataset.image_shape), list(dataset.class_names))
    if found != expected:
        raise DataError(
            f"{files.snapshot} was trained on images of {_text(*expected)}, but {dataset.name} has "
            f"{_text(*found)}"
        )
    classifier = Classifier(record.settings.build(record.data)[0])
    files.load([classifier.model])
    # The model knows the world as its training part was normalised.
    test = replace(dataset.test, normalisation=record.data.normalisation)
    with progress("testing", len(test), "items") as advance:
        predicted = classifier.predictions(test, args.batch, advance)
    counts = confusion.counts(test.labels, predicted, dataset.num_classes)
    report = Report(args.json)
    report.line(
        f"{record.settings.model} of {files.snapshot} on {len(test)} test images of {dataset.name}"
    )
    _detail(report, counts, dataset.class_names)
    _draw(report, Path(args.out or files.folder) / PICTURE, counts, dataset.class_names)
    accuracy = float(np.trace(counts)) / len(test)
    report.line(f"test accuracy {accuracy:.4f}")
    recall = dict(zip(dataset.class_names, confusion.recall(counts), strict=True))
    numbers = {"images": len(test), "accuracy": accuracy, "recall": recall}
    report.record({**numbers, "confusion": counts.tolist()})
    return 0


def _detail(report: Report, counts: np.ndarray, names: Sequence[str]) -> None:
    """Show a table, or without rich the recalls alone."""
    if report.as_json or confusion.table(counts, names):
        return
    report.line("(a table needs rich: pip install 'tinygrad-edge[cli]')")
    for name, found in zip(names, confusion.recall(counts), strict=True):
        report.line(f"recall {'none' if found is None else f'{found:.4f}'}  {name}")


def _draw(report: Report, picture: Path, counts: np.ndarray, names: Sequence[str]) -> None:
    """Draw the matrix; the numbers are told also where it cannot be drawn."""
    try:
        drawn = confusion.draw(picture, counts, names)
    except FileError as error:
        report.line(f"no {PICTURE}: {error}")
        return
    remedy = "drawing needs matplotlib (pip install 'tinygrad-edge[cli]')"
    report.line(f"confusion matrix: {picture}" if drawn else f"no {PICTURE}: {remedy}")


def _text(shape: Sequence[int], names: Sequence[str]) -> str:
    listed = ", ".join(names[:LISTED]) + (", ..." if len(names) > LISTED else "")
    return f"{'x'.join(map(str, shape))} in {len(names)} classes ({listed})"
