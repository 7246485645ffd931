"""``train``: a model learns a data set, and a run that was stopped goes on."""

from __future__ import annotations

import argparse
import os
from typing import Any

from .. import data, models, sparse
from ..runtime import release_arena, set_threads
from . import curves, loop
from .arguments import (
    ALLOW,
    BUDGET,
    DATA,
    PRECISION,
    SPARSITY,
    allow,
    budget,
    count,
    name_of,
    positive,
    seed,
    share,
)
from .recipes import (
    FEW,
    IMBALANCE,
    OPTIMIZERS,
    OWN,
    OWN_FEW,
    PRECISIONS,
    RECIPES,
    SPARSE_TRAINING,
    Recipe,
)
from .record import Progress, Record
from .report import Report, memory_table
from .run import Run
from .start import Start, resumed, started

__all__ = ["add"]

SKIPPED_LINES = 5

DESCRIPTION = f"""
Train a model on a data set; without arguments, on the digits that are part of the package. DATA may
be a folder of one's own pictures, with a folder for each class. The run's folder gets a snapshot
after each epoch and every half minute, written whole or not at all; metrics.jsonl with a line for
each epoch, each decision of --precision adaptive and each move of --dst; curves.png. Ctrl-C ends
the run soon, after saving; --resume continues it, also after a crash, to the same bits as if it had
never stopped. The order of the images is new in each epoch, and so is their augmentation where the
data set has one that suits; a last batch that is not full is left out. One's own data have a
validation part, a tenth of the training images where they bring none: the epoch that does best on
it is kept in best.safetensors, which eval and predict prefer. Where the largest class has more than
{IMBALANCE} times the training images of the smallest, the loss weighs images so that all classes
count alike.
"""


def add(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "train",
        help="train a model on a data set",
        description=DESCRIPTION,
        epilog=_defaults(),
    )
    option = parser.add_argument
    option("data", nargs="?", metavar="DATA", type=_lasting, help=f"{DATA} (default: digits)")
    option("--model", type=name_of("model", models.MODELS), help=", ".join(models.MODELS))
    option("--epochs", type=count, metavar="N", help="how often each image is seen")
    option("--batch", type=count, metavar="N", help="images in a step")
    option(
        "--lr", type=positive, metavar="X", help="peak of a rate that warms up, then decays to 0"
    )
    option("--optimizer", type=name_of("optimizer", OPTIMIZERS), help=", ".join(OPTIMIZERS))
    option("--seed", type=seed, metavar="N", help="decides all that is random (default: 0)")
    option("--threads", type=count, metavar="N", help="default: all processors; changes no result")
    option("--budget", type=budget, metavar="BYTES", help=BUDGET)
    option("--allow", type=allow, metavar="NAMES", default=(), help=ALLOW)
    option("--precision", type=name_of("precision", PRECISIONS), metavar="NAME", help=PRECISION)
    option("--sparsity", type=share, metavar="X", help=SPARSITY)
    option(
        "--dst",
        type=name_of("algorithm", SPARSE_TRAINING),
        metavar="NAME",
        help=f"move the non-zeros while they train: {', '.join(SPARSE_TRAINING)}",
    )
    option("--size", type=count, metavar="N", help="pictures of a folder: NxN (default: 64x64)")
    option(
        "--patience",
        type=count,
        metavar="N",
        help="end after N epochs without a better validation accuracy",
    )
    option(
        "--init",
        metavar="WEIGHTS",
        type=os.path.abspath,
        help="begin with these: safetensors of the model, as torchvision names them, or a run",
    )
    option(
        "--freeze",
        action="store_const",
        const=True,
        help="train the last layer alone; the rest stays as --init has it",
    )
    option("--data-dir", metavar="DIR", help="the folder that holds the data sets' folders")
    option("--out", metavar="DIR", help="the run's folder (default: a new runs/DATA-MODEL)")
    option("--resume", metavar="RUN", help="continue the run in this folder, or of this snapshot")
    option("--json", action="store_true", help="print a JSON object for each epoch and for the end")
    parser.set_defaults(run=run)


def _lasting(name: str) -> str:
    """A data set's name; a path so that it stays right when the run is resumed elsewhere."""
    return os.path.abspath(name) if name not in data.SOURCES and os.path.exists(name) else name


def _defaults() -> str:
    own = {f"fewer than {FEW} images of one's own": OWN_FEW, "more of them": OWN}
    recipes = (f"{name} {_text(recipe)}" for name, recipe in {**RECIPES, **own}.items())
    rates = (f"{method.lr:g} with {name}" for name, method in OPTIMIZERS.items())
    return (
        f"Unless told otherwise: {'; '.join(recipes)}. The learning rate: {', '.join(rates)}. "
        "Data comes from --data-dir, else from TINYGRAD_EDGE_DATA; else it is downloaded."
    )


def _text(recipe: Recipe) -> str:
    model, epochs, batch, optimizer = recipe
    return f"{epochs} epochs of {model} in batches of {batch} with {optimizer}"


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    if args.threads:
        set_threads(args.threads)
    report = Report(args.json, args.on_epoch)
    start = resumed(args) if args.resume else started(args)
    files, training, progress = start
    record = Record(training.settings, training.data, progress)
    _introduce(report, start)
    if not args.resume:
        files.save(training.state, record)  # what cannot be written shows before an hour has passed
        if progress.moves:
            files.append(*progress.moves)
    done = loop.steps_done(training, progress)
    try:
        with report.progress_bar(training.steps, done) as bar, loop.Interrupts() as interrupts:
            finished = loop.train(training, files, record, bar, interrupts)
    except KeyboardInterrupt:  # the second one: what the last snapshot does not hold is lost
        finished = False
    release_arena()  # what draws is large, and shall not come on top of a step's memory
    if progress.epochs and not curves.draw(files.curves, progress.epochs):
        report.line("no curves.png: drawing needs matplotlib (pip install 'tinygrad-edge[cli]')")
    if progress.moves:
        sparse.draw_densities(files.densities, progress.moves)
    _conclude(report, files, progress, finished)
    return 0 if finished else 130


def _introduce(report: Report, start: Start) -> None:
    files, training, progress = start
    settings, dataset = training.settings, training.dataset
    parameters = sum(p.size for p in training.model.parameters())
    shape = "x".join(str(n) for n in dataset.image_shape)
    unused = len(dataset.train) - training.epoch_steps * settings.batch
    validation = "" if dataset.val is None else f", {len(dataset.val)} validation"
    report.line(
        f"{dataset.name}: {len(dataset.train)} training{validation} and {len(dataset.test)} test "
        f"images of {shape}, {dataset.num_classes} classes"
    )
    for what, why in dataset.skipped[:SKIPPED_LINES]:
        report.line(f"  left out {what}: {why}")
    if len(dataset.skipped) > SKIPPED_LINES:
        report.line(f"  and {len(dataset.skipped) - SKIPPED_LINES} more were left out")
    if training.class_weights is not None:
        report.line(
            f"the largest class has more than {IMBALANCE} times the images of the smallest: in the "
            "loss, all classes count alike"
        )
    report.line(
        f"{settings.model}: {parameters:,} parameters, {settings.optimizer} at {settings.lr:g}"
    )
    if settings.init is not None:
        rest = "the last layer alone is trained" if settings.freeze else "all of it is trained"
        head = f"; begun anew: {', '.join(training.new)}" if training.new else ""
        report.line(f"weights of {settings.init}: {rest}{head}")
    if training.pool is not None:
        moving = f"; {settings.dst} moves them" if settings.dst else ""
        report.line(
            f"sparse weights: {training.pool.nonzeros:,} non-zeros in {len(training.pool.layers)} "
            f"layers{moving}"
        )
    report.line(
        f"{settings.epochs} epochs of {training.epoch_steps} steps of {settings.batch} images"
        + (f", {unused} left out of each epoch" if unused else "")
    )
    report.line("memory of a step, known before it runs:")
    plan = training.plan()
    report.line(memory_table(plan.by_kind()))
    for remark in plan.graph.remarks:
        report.line(f"  {remark}")
    done = loop.steps_done(training, progress)
    report.line(f"run: {files.folder}, {done} of {training.steps} steps done")


def _conclude(report: Report, files: Run, progress: Progress, finished: bool) -> None:
    end: dict[str, Any] = {"finished": finished, "run": str(files.folder)}
    if not finished:
        resume = f"tinygrad-edge train --resume {files.folder}"
        report.line(f"stopped; continue with: {resume}")
        report.record({**end, "resume": resume})
        return
    best = progress.best
    if best.val_accuracy is not None:
        report.line(
            f"epoch {best.epoch} did best on the validation images, {best.val_accuracy:.4f}: "
            f"{files.best}"
        )
    report.line(f"test accuracy {best.accuracy:.4f}")
    report.record({**end, **best.measured()})
