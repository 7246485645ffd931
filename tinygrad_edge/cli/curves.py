"""Loss and accuracy of a run as a picture."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from ..files import atomic_write
from .record import EpochResult

__all__ = ["draw"]


def draw(path: Path, epochs: Sequence[EpochResult]) -> bool:
    """Draw what the epochs measured, as PNG; False where matplotlib is not there."""
    try:
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator
    except ImportError:
        return False
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    numbers = [result.epoch for result in epochs]
    curves = {
        "loss": {"training": [result.loss for result in epochs]},
        "accuracy": {"test": [result.accuracy for result in epochs]},
    }
    validation = [result.val_accuracy for result in epochs if result.val_accuracy is not None]
    if validation:
        curves["accuracy"]["validation"] = validation
    for axes, (name, parts) in zip(figure.subplots(1, 2), curves.items(), strict=True):
        for part, values in parts.items():
            axes.plot(numbers, values, marker="." if len(numbers) < 40 else "", label=part)
        axes.legend()
        axes.set(xlabel="epoch", ylabel=name)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    with atomic_write(path) as file:
        file.write(picture.getvalue())
    return True
