"""Train as the command line does, and log each epoch in one's own way: here, to a CSV file."""

import csv
import sys
import tempfile
from pathlib import Path
from typing import Any

from tinygrad_edge.cli import main as tinygrad_edge


def main(*words: str) -> Path:
    """Run `train` with these words (its data and options); gives the file."""
    log = Path(tempfile.mkdtemp()) / "epochs.csv"
    words = words or ("digits", "--epochs", "2", "--out", str(log.parent / "run"))

    def write(epoch: dict[str, Any]) -> None:  # any function of a dict does, such as wandb.log
        with open(log, "a", newline="") as file:
            csv.writer(file).writerow([epoch["epoch"], epoch["loss"], epoch["accuracy"]])

    tinygrad_edge(["train", *words], on_epoch=write)
    print(log.read_text())
    return log


if __name__ == "__main__":
    main(*sys.argv[1:])
