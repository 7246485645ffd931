"""Which class a model takes for which: counted, as a table, as a picture."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..files import atomic_write

__all__ = ["counts", "draw", "recall", "table"]

MOST_NUMBERED = 20  # classes whose counts are written into the picture
WIDE = 1 << 16  # characters


def counts(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Count images by their class (rows) and the class that they are taken for (columns)."""
    pairs = labels.astype(np.int64) * classes + predicted
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def recall(confusion: np.ndarray) -> list[float | None]:
    """Fraction of each class's images that are found; None for a class without images."""
    found = zip(np.diag(confusion).tolist(), confusion.sum(axis=1).tolist(), strict=True)
    return [right / images if images else None for right, images in found]


def table(confusion: np.ndarray, names: Sequence[str]) -> bool:
    """Print counts and recall, a row for each class; False where rich is not there."""
    try:
        from rich.box import SIMPLE
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text
    except ImportError:
        return False
    columns = [str(i) for i in range(len(names))]
    shown = Table("class", box=SIMPLE)
    for column in columns:
        shown.add_column(column, justify="right")
    shown.add_column("recall", justify="right")
    for i, (name, row, part) in enumerate(zip(names, confusion, recall(confusion), strict=True)):
        cells = [Text(str(n) if n else ".", "bold" if i == j else "") for j, n in enumerate(row)]
        shown.add_row(Text(f"{i} {name}"), *cells, "" if part is None else f"{part:.4f}")
    # As wide as it needs to be: a line that a terminal breaks is better than numbers cut short.
    Console(width=WIDE, highlight=False).print(shown)
    return True


def draw(path: Path, confusion: np.ndarray, names: Sequence[str]) -> bool:
    """Draw it as PNG, each row's colours by its fractions; False where matplotlib is not there."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return False
    fractions = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    side = 3 + 0.45 * min(len(names), 40)
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    axes.imshow(fractions, cmap="Blues", vmin=0, vmax=1)
    ticks = range(len(names))
    labels = [name.encode(errors="replace").decode() for name in names]  # of folders: any bytes
    axes.set_xticks(ticks, labels, rotation=90, parse_math=False)
    axes.set_yticks(ticks, labels, parse_math=False)
    axes.set(xlabel="taken for", ylabel="class")
    if len(names) <= MOST_NUMBERED:
        for i, j in np.argwhere(confusion):
            colour = "white" if fractions[i, j] > 0.5 else "black"
            axes.text(j, i, str(confusion[i, j]), ha="center", va="center", color=colour)
    picture = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a letter that no font has is drawn as a box
        figure.savefig(picture, format="png", dpi=120)
    with atomic_write(path) as file:
        file.write(picture.getvalue())
    return True
