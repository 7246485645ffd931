"""``bench``: how fast the kernels are here, and where a training step's time goes."""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .. import runtime, timing
from ..compiled import compile
from ..data._progress import progress
from ..errors import BuildError, DataError
from ..plan import Call
from ..runtime import _ffi, set_threads
from . import roofline
from .arguments import count
from .kernel_cases import CASES
from .measure import Cost, Peak, cost, peak, repeat, times, together
from .model_step import add_options, model_step
from .report import Report

__all__ = ["add"]

DESCRIPTION = """
Without MODEL, measure each kernel on a few shapes. With it, measure the step that trains the model
with made-up images: forward, backward, update, and each operation. Speeds are given beside their
share of this machine's peak: the time that the arithmetic takes in registers, or the traffic
between kernels from memory, whichever is longer, over the time taken. It exceeds 100 % where
Winograd's filtering saves operations, or a cache the traffic. On a busy machine all figures are
wrong.
"""

KERNEL_SECONDS = 0.2  # for each case
STEP_SECONDS = 2.0  # for whole steps, and again for their calls

Costs = dict[str, dict[str, Cost]]  # by part, then by operation; or by kernel, then by case


def add(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "bench", help="measure kernels, or a model's training step", description=DESCRIPTION
    )
    add_options(parser, nargs="?")
    option = parser.add_argument
    option("--threads", type=count, metavar="N", help="default: all processors")
    option(
        "--calibrate",
        action="store_true",
        help="keep the time of each of the model's calls, for plans to come",
    )
    option("--out", metavar="FILE", type=Path, help="draw a roofline, as PNG")
    option("--json", action="store_true", help="print JSON objects")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    if runtime.current().name != "native":
        raise BuildError("bench measures the compiled kernels, and the runtime is numpy")
    if args.calibrate and args.model is None:
        raise DataError("--calibrate keeps the times of a model's calls: name a MODEL")
    if args.threads:
        set_threads(args.threads)
    report = Report(args.json)
    top = peak()
    threads = f"{runtime.threads()} thread{'s' if runtime.threads() > 1 else ''}"
    report.line(
        f"{_ffi.isa()}, {threads}; at best {top.flops / 1e9:.0f} GFLOP/s in registers, "
        f"{top.bandwidth / 1e9:.1f} GB/s from memory"
    )
    machine = {"isa": _ffi.isa(), "threads": runtime.threads()}
    report.record({**machine, "peak_flops": top.flops, "peak_bandwidth": top.bandwidth})
    rows = _model(args, report, top) if args.model else _kernels(report, top)
    if args.out and not roofline.draw(args.out, top, rows):
        report.line("no picture: drawing needs matplotlib (pip install 'tinygrad-edge[cli]')")
    return 0


# ---- kernels ----


def _kernels(report: Report, top: Peak) -> Costs:
    rows: Costs = {}
    with progress("measuring", len(CASES), "items") as advance:
        for case in CASES:
            found = times(compile(case.step), case.arrays(), KERNEL_SECONDS, min)
            for kernel in case.kernels.split():
                calls = [cost(c, s) for c, s in found if c.kernel and c.kernel.name == kernel]
                largest = max(calls, key=lambda c: (c.flops, c.bytes))
                rows.setdefault(kernel, {})[case.label] = largest
            advance(1)
    _table(report, ("kernel", "shape"), rows, top)
    return {"kernels": {f"{k} {label}": c for k, each in rows.items() for label, c in each.items()}}


# ---- a model ----


def _model(args: argparse.Namespace, report: Report, top: Peak) -> Costs:
    step, *batch = model_step(args, lr=0.0)  # with which no number grows, however often it runs
    plan = step.plan(*batch)
    with progress("measuring", 2, "items") as advance:
        step(*batch)
        seconds = statistics.median(repeat(lambda: step(*batch), STEP_SECONDS))
        advance(1)
        found = times(step, batch, STEP_SECONDS)
        advance(1)
    grouped: dict[str, dict[str, list[Cost]]] = {}
    for call, taken in found:
        name = call.node.op.name if call.moves is None else "copy"
        grouped.setdefault(call.node.part, {}).setdefault(name, []).append(cost(call, taken))
    rows = {p: {name: together(cs) for name, cs in each.items()} for p, each in grouped.items()}
    parts = {part: {"all": together(costs.values())} for part, costs in rows.items()}
    alone = sum(taken for _, taken in found)
    report.line(
        f"{args.model}, {args.batch} images of {'x'.join(map(str, args.size))}: "
        f"{1e3 * seconds:.2f} ms a step, {args.batch / seconds:.0f} images/s, "
        f"{plan.peak_bytes:,} bytes; its calls one at a time {1e3 * alone:.2f} ms"
    )
    report.record({"model": args.model, "step_seconds": seconds, "peak_bytes": plan.peak_bytes})
    _table(report, ("part", "operation"), parts, top)
    _table(report, ("part", "operation"), rows, top)
    if args.calibrate:
        _store(report, found)
    return rows


def _store(report: Report, found: Iterable[tuple[Call, float]]) -> None:
    by_call: dict[str, list[float]] = {}
    for call, taken in found:
        if call.kernel is not None:
            by_call.setdefault(timing.signature(call.kernel), []).append(taken)
    medians = {name: statistics.median(taken) for name, taken in by_call.items()}
    file = timing.store(_ffi.isa(), runtime.threads(), medians)
    report.line(f"\nthe times of {len(medians)} different calls are in {file}")
    report.record({"calibrated": len(medians), "file": str(file)})


# ---- tables ----


def _table(report: Report, names: tuple[str, str], rows: Costs, top: Peak) -> None:
    total = sum(cost.seconds for costs in rows.values() for cost in costs.values())
    outer = max(map(len, (*rows, names[0])))
    inner = max(map(len, (*(name for costs in rows.values() for name in costs), names[1])))
    report.line(
        f"\n{names[0]:<{outer}}  {names[1]:<{inner}}  calls        ms   share  GFLOP/s   GB/s  "
        "of peak"
    )
    for group, costs in rows.items():
        for name, each in sorted(costs.items(), key=lambda item: -item[1].seconds):
            speeds = each.flops / each.seconds / 1e9, each.bytes / each.seconds / 1e9
            report.line(
                f"{group:<{outer}}  {name:<{inner}}  {each.calls:>5}  {1e3 * each.seconds:>8.3f}  "
                f"{each.seconds / total:>6.1%}  {speeds[0]:>7.1f}  {speeds[1]:>5.1f}  "
                f"{each.of_peak(top):>7.0%}"
            )
            keys = dict(zip(names, (group, name), strict=True))
            report.record({**keys, **each._asdict(), "of_peak": each.of_peak(top)})
