"""The roofline model (Williams et al. 2009) of what was measured, as a picture."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..files import atomic_write
from .measure import Cost, Peak

__all__ = ["draw"]

_NAMED = 20  # as many of the longest have a number and a name
_LEAST = 0.001  # of the time: what takes less is left out


def draw(path: Path, peak: Peak, rows: Mapping[str, Mapping[str, Cost]]) -> bool:
    """Draw arithmetic against intensity, as PNG; False where matplotlib is not there.

    Parameters
    ----------
    path : Path
    peak : Peak
    rows : mapping
        For each colour, costs by name. What does no arithmetic has no place.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return False
    costs = [(part, name, cost) for part, each in rows.items() for name, cost in each.items()]
    total = sum(cost.seconds for _, _, cost in costs)
    costs = [c for c in costs if c[2].flops and c[2].bytes and c[2].seconds > _LEAST * total]
    costs.sort(key=lambda c: -c[2].seconds)

    figure = Figure(figsize=(11, 5.5), layout="constrained")
    axes = figure.subplots()
    for part in rows:
        own = [cost for of, _, cost in costs if of == part]
        across, up = zip(*map(_point, own), strict=True) if own else ((), ())
        sizes = [20 + 600 * cost.seconds / total for cost in own]
        axes.scatter(across, up, sizes, alpha=0.5, label=part)
    names = []
    for number, (part, name, cost) in enumerate(costs[:_NAMED], 1):
        axes.annotate(str(number), _point(cost), fontsize=8, ha="center", va="center")
        names.append(f"{number:>2}  {cost.seconds / total:5.1%}  {part} {name}")
    axes.text(1.02, 1, "\n".join(names), transform=axes.transAxes, fontsize=8, va="top")

    intensity = np.geomspace(0.03, 3000, 200)
    roof = np.minimum(peak.flops, peak.bandwidth * intensity) / 1e9
    text = f"{peak.flops / 1e9:.0f} GFLOP/s, {peak.bandwidth / 1e9:.1f} GB/s"
    axes.plot(intensity, roof, color="black", label=text)
    axes.set(xscale="log", yscale="log", xlabel="operations a byte", ylabel="GFLOP/s")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", markerscale=0.5)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    with atomic_write(path) as file:
        file.write(picture.getvalue())
    return True


def _point(cost: Cost) -> tuple[float, float]:
    """Operations a byte, and GFLOP/s."""
    return cost.flops / cost.bytes, cost.flops / cost.seconds / 1e9
