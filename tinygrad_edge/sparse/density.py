"""Each layer's density over time, as a table and as a picture."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable

from ..files import atomic_write
from .dynamic import Event

__all__ = ["density_table", "draw_densities"]

#: Steps that a table has room for.
_COLUMNS = 8


def density_table(events: Iterable[Event]) -> str:
    """Print densities in percent: a row for each layer, and at most eight of the steps.

    Parameters
    ----------
    events : iterable of Event
        What `DynamicSparsity.step` gave, and `layers` for how all began.

    Examples
    --------
    >>> from tinygrad_edge.sparse import Event
    >>> print(density_table([Event(0, "a", 0, 0, 10, 0.1), Event(50, "a", 3, 8, 15, 0.15)]))
    layer      0     50
    a      10.00  15.00
    """
    layers = _by_layer(events)
    steps = sorted({step for densities in layers.values() for step in densities})
    last = max(len(steps) - 1, 0)
    shown = sorted({steps[i * last // (_COLUMNS - 1)] for i in range(_COLUMNS)}) if steps else []
    width = max(map(len, ("layer", *layers)))
    lines = [f"{'layer':<{width}}" + "".join(f"{step:>7}" for step in shown)]
    for name, densities in layers.items():
        cells = (f"{100 * densities[s]:7.2f}" if s in densities else " " * 7 for s in shown)
        lines.append(f"{name:<{width}}" + "".join(cells))
    return "\n".join(lines)


def draw_densities(path: str | os.PathLike[str], events: Iterable[Event]) -> bool:
    """Draw a line for each layer, as PNG; False where matplotlib is not there.

    Parameters
    ----------
    path : str or path
    events : iterable of Event
        As for `density_table`.
    """
    try:
        from matplotlib import colormaps
        from matplotlib.figure import Figure
    except ImportError:
        return False
    layers = _by_layer(events)
    figure = Figure(figsize=(9, 4.5), layout="constrained")
    axes = figure.subplots()
    shades = colormaps["viridis"]
    for i, (name, densities) in enumerate(layers.items()):
        shade = shades(i / max(len(layers) - 1, 1))  # from the first layer to the last
        percent = [100 * density for density in densities.values()]
        axes.plot(list(densities), percent, color=shade, label=name, drawstyle="steps-post")
    axes.set(xlabel="step", ylabel="density, %", ylim=(0, None))
    axes.grid(alpha=0.3)
    if layers:
        figure.legend(loc="outside right upper", fontsize=max(4, min(9, 240 // len(layers))))
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    with atomic_write(path) as file:
        file.write(picture.getvalue())
    return True


def _by_layer(events: Iterable[Event]) -> dict[str, dict[int, float]]:
    """Densities by step, of each layer."""
    found: dict[str, dict[int, float]] = {}
    for event in sorted(events, key=lambda event: event.step):
        found.setdefault(event.layer, {})[event.step] = event.density
    return found
