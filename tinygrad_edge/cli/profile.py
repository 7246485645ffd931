"""``profile``: which blocks of a model fill the memory of a training step, without running it."""

from __future__ import annotations

import argparse
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..files import atomic_write
from ..plan import megabytes
from .arguments import nbytes
from .blocks import Block, blocks
from .model_step import add_options, model_step
from .recipes import OPTIMIZERS
from .report import Report

__all__ = ["add"]

DESCRIPTION = """
Say for each block of a model what its forward pass holds for a moment (temporary, workspace), what
has accumulated for the backward pass when it ends (saved), and the most that lives in the arena
during its calls (peak). A block whose temporary bytes exceed all that is saved in the end is
sensitive (Yoosefi et al. 2023): there, saving less does not help. Nothing runs.
"""


def add(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "profile", help="show which blocks fill the memory of a step", description=DESCRIPTION
    )
    add_options(parser)
    option = parser.add_argument
    option(
        "--freeze",
        metavar="PATTERN",
        help="parameters that are not trained, such as 'features.*'",
    )
    option(
        "--saved",
        type=nbytes,
        metavar="BYTES",
        default=0,
        help="what a network beside the model saves, such as 1.9MB; it counts as saved in the end",
    )
    option("--out", metavar="FILE", type=Path, help="draw the blocks, as PNG")
    option("--json", action="store_true", help="print JSON objects")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    report = Report(args.json)
    step, *batch = model_step(args, OPTIMIZERS[args.optimizer].lr, args.freeze)
    plan = step.plan(*batch)
    found = blocks(plan)
    saved = args.saved + max(block.saved for block in found)
    worst = max(found, key=lambda block: block.peak)
    width = max(len("block"), *(len(block.name) for block in found))
    heads = ("temporary", "workspace", "saved", "peak")
    report.line(f"{'block':<{width}}" + "".join(f"  {name:>12}" for name in heads))
    for block in found:
        notes = ["sensitive"] * (block.temporary > saved) + ["<- peak"] * (block is worst)
        numbers = "".join(f"  {n:>12,}" for n in block[1:])
        report.line(f"{block.name:<{width}}{numbers}  {' '.join(notes)}".rstrip())
        report.record({**block._asdict(), "sensitive": block.temporary > saved})
    sensitive = [block.name for block in found if block.temporary > saved]
    report.line(
        f"\nsaved in the end: {saved:,} bytes; sensitive: {', '.join(sensitive) or 'none'}; "
        f"the peak of the arena: {worst.name}, {megabytes(worst.peak)}"
    )
    report.record({"saved": saved, "sensitive": sensitive, "peak_block": worst.name})
    if args.out and not _draw(args.out, found, saved):
        report.line("no picture: drawing needs matplotlib (pip install 'tinygrad-edge[cli]')")
    return 0


def _draw(path: Path, found: Sequence[Block], saved: int) -> bool:
    """Draw the blocks as PNG; False where matplotlib is not there."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return False
    figure = Figure(figsize=(max(6, 0.38 * len(found) + 2), 4), layout="constrained")
    axes = figure.subplots()
    places = range(len(found))
    # The colours of the window: saved, temporary, temporary of a sensitive block.
    left_behind = [b.saved / 1e6 for b in found]
    passing = [b.temporary / 1e6 for b in found]
    colours = ["#0072b2" if b.temporary > saved else "#56b4e9" for b in found]
    axes.bar(places, left_behind, color="#d55e00", label="saved so far")
    axes.bar(
        places, passing, bottom=left_behind, color=colours, label="temporary (dark: sensitive)"
    )
    axes.plot(places, [b.peak / 1e6 for b in found], "k_", markersize=9, label="peak in any part")
    axes.axhline(saved / 1e6, color="#d55e00", linestyle=":", label="saved in the end")
    axes.set_xticks(places, [b.name for b in found], rotation=60, ha="right", fontsize=8)
    axes.set_ylabel("MB")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    with atomic_write(path) as file:
        file.write(picture.getvalue())
    return True
