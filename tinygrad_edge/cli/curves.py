"""Loss and accuracy of a run as a picture."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..files import atomic_write

__all__ = ["draw"]


def draw(path: Path, metrics: Sequence[Mapping[str, Any]]) -> bool:
    """Draw the epochs' metrics as PNG; False where matplotlib is not there."""
    try:
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator
    except ImportError:
        return False
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    epochs = [row["epoch"] for row in metrics]
    for axes, name, unit in zip(
        figure.subplots(1, 2), ("loss", "accuracy"), ("training loss", "test accuracy"), strict=True
    ):
        axes.plot(epochs, [row[name] for row in metrics], marker="." if len(epochs) < 40 else "")
        axes.set(xlabel="epoch", ylabel=unit)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    with atomic_write(path) as file:
        file.write(picture.getvalue())
    return True
