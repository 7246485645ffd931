"""``eval``: how well a snapshot's model does on the test part of a data set."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

from .. import data
from ..errors import DataError
from ..runtime import set_threads
from .arguments import DATA, count
from .run import Run
from .training import Classifier

__all__ = ["add"]


def add(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "eval",
        help="test a snapshot's model",
        description="Print the accuracy of a snapshot's model on the test part of a data set.",
    )
    option = parser.add_argument
    option("snapshot", metavar="SNAPSHOT", help="a run's folder, or its snapshot")
    option("data", nargs="?", metavar="DATA", help=f"{DATA} (default: what it was trained on)")
    option("--batch", type=count, metavar="N", default=256, help="images at a time (default: 256)")
    option("--threads", type=count, metavar="N", help="default: all processors")
    option("--data-dir", metavar="DIR", help="the folder that holds the data sets' folders")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    if args.threads:
        set_threads(args.threads)
    files = Run.at(args.snapshot)
    record = files.load()
    dataset = data.load(args.data or record.settings.data, args.data_dir)
    expected = (record.data.image_shape, len(record.data.class_names))
    found = (list(dataset.image_shape), dataset.num_classes)
    if found != expected:
        raise DataError(
            f"{files.snapshot} was trained on images of {_text(*expected)}, but {dataset.name} has "
            f"{_text(*found)}"
        )
    classifier = Classifier(record.data.build(record.settings.model))
    files.load([classifier.model])
    # The model knows the world as its training part was normalised.
    test = replace(dataset.test, normalisation=record.data.normalisation)
    print(
        f"{record.settings.model} of {files.snapshot} on {len(test)} test images of {dataset.name}"
    )
    print(f"test accuracy {classifier.accuracy(test, args.batch):.4f}")
    return 0


def _text(shape: list[int], classes: int) -> str:
    return f"{'x'.join(map(str, shape))} in {classes} classes"
