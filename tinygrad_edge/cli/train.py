"""``train``: a model learns a data set, and a run that was stopped goes on."""

from __future__ import annotations

import argparse
import os
import signal
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

from .. import data, models
from ..errors import DataError, FileError, NonFiniteError
from ..runtime import set_threads
from . import curves
from .arguments import DATA, count, name_of, positive, seed
from .recipes import GENERAL, OPTIMIZERS, RECIPES
from .record import DataInfo, EpochResult, Progress, Record, Settings
from .report import Bar, memory_table, progress_bar
from .run import Run
from .training import Training

__all__ = ["add"]

SAVE_SECONDS = 30.0  # between snapshots within an epoch: what a power cut may cost

DESCRIPTION = """
Train a model on a data set; without arguments, on the digits that are part of the package. The
run's folder gets a snapshot after each epoch and every half minute, written whole or not at all; a
line of metrics.jsonl for each epoch; curves.png. Ctrl-C ends the run after the step that it is in;
--resume continues it, also after a crash, to the same bits as if it had never stopped. The order of
the images is new in each epoch; a last batch that is not full is left out.
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
    option("--data-dir", metavar="DIR", help="the folder that holds the data sets' folders")
    option("--out", metavar="DIR", help="the run's folder (default: a new runs/DATA-MODEL)")
    option("--resume", metavar="RUN", help="continue the run in this folder, or of this snapshot")
    parser.set_defaults(run=run)


def _lasting(name: str) -> str:
    """A data set's name; a path so that it stays right when the run is resumed elsewhere."""
    return os.path.abspath(name) if name not in data.SOURCES and os.path.exists(name) else name


def _defaults() -> str:
    recipes = (
        f"{name} {r.epochs} epochs of {r.model} in batches of {r.batch} with {r.optimizer}"
        for name, r in RECIPES.items()
    )
    rates = (f"{method.lr:g} with {name}" for name, method in OPTIMIZERS.items())
    return (
        f"Unless told otherwise: {'; '.join(recipes)}. The learning rate: {', '.join(rates)}. "
        "Data comes from --data-dir, else from TINYGRAD_EDGE_DATA; else it is downloaded."
    )


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    if args.threads:
        set_threads(args.threads)
    files, training, progress = _resumed(args) if args.resume else _started(args)
    record = Record(training.settings, training.data, progress)
    _introduce(files, training, progress)
    if not args.resume:
        files.save(training.state, record)  # what cannot be written shows before an hour has passed
    done = _steps_done(training, progress)
    try:
        with progress_bar(training.steps, done) as bar, _Interrupts() as interrupts:
            finished = _train(training, files, record, bar, interrupts)
    except KeyboardInterrupt:  # the second one: what the last snapshot does not hold is lost
        finished = False
    if progress.epochs and not curves.draw(files.curves, progress.epochs):
        print("no curves.png: drawing needs matplotlib (pip install 'tinygrad-edge[cli]')")
    if not finished:
        print(f"stopped; continue with: tinygrad-edge train --resume {files.folder}")
        return 130
    print(f"test accuracy {progress.epochs[-1].accuracy:.4f}")
    return 0


# ---- before the first step ----


def _given(args: argparse.Namespace) -> dict[str, Any]:
    """The settings that the command line names."""
    found = {setting.name: getattr(args, setting.name) for setting in fields(Settings)}
    return {name: value for name, value in found.items() if value is not None}


def _started(args: argparse.Namespace) -> tuple[Run, Training, Progress]:
    name = args.data or "digits"
    recipe = RECIPES.get(name, GENERAL)
    method = OPTIMIZERS[args.optimizer or recipe.optimizer]
    chosen = {"data": name, "lr": method.lr, "seed": 0, **recipe._asdict(), **_given(args)}
    settings = Settings(**chosen)
    training = Training(settings, data.load(name, args.data_dir))
    training.plan()  # a model that the images do not fit shows before a folder is made
    return Run.new(args.out, f"{training.data.name}-{settings.model}"), training, Progress()


def _resumed(args: argparse.Namespace) -> tuple[Run, Training, Progress]:
    files = Run.at(args.resume)
    if args.out and Path(args.out).resolve() != files.folder.resolve():
        raise FileError(f"a resumed run stays in its folder {files.folder}: leave out --out")
    record = files.load()
    for name, value in _given(args).items():
        kept = getattr(record.settings, name)
        if value != kept:
            raise FileError(
                f"the run in {files.folder} has {name} {kept}, not {value}: a resumed run keeps "
                "its settings"
            )
    dataset = data.load(record.settings.data, args.data_dir)
    if DataInfo.of(dataset) != record.data:
        raise DataError(f"the {dataset.name} here is not what the run in {files.folder} was fed")
    training = Training(record.settings, dataset)
    files.load(training.state)
    files.repair(record.progress.epochs)
    return files, training, record.progress


def _introduce(files: Run, training: Training, progress: Progress) -> None:
    settings, dataset = training.settings, training.dataset
    parameters = sum(p.size for p in training.model.parameters())
    shape = "x".join(str(n) for n in dataset.image_shape)
    left_out = len(dataset.train) - training.epoch_steps * settings.batch
    done = _steps_done(training, progress)
    print(
        f"{dataset.name}: {len(dataset.train)} training and {len(dataset.test)} test images of "
        f"{shape}, {dataset.num_classes} classes"
    )
    print(f"{settings.model}: {parameters:,} parameters, {settings.optimizer} at {settings.lr:g}")
    print(
        f"{settings.epochs} epochs of {training.epoch_steps} steps of {settings.batch} images"
        + (f", {left_out} left out of each epoch" if left_out else "")
    )
    print("memory of a step, known before it runs:")
    print(memory_table(training.plan().by_kind()))
    print(f"run: {files.folder}, {done} of {training.steps} steps done", flush=True)


# ---- the loop ----


class _Interrupts:
    """The first Ctrl-C asks the run to end after its step; a second one ends it where it is."""

    asked = False

    def __enter__(self) -> _Interrupts:
        self._before = signal.signal(signal.SIGINT, self._ask)
        return self

    def __exit__(self, *exception: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _ask(self, *_: object) -> None:
        self.asked = True
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _steps_done(training: Training, progress: Progress) -> int:
    return len(progress.epochs) * training.epoch_steps + progress.batch


def _train(
    training: Training, files: Run, record: Record, bar: Bar, interrupts: _Interrupts
) -> bool:
    """Run all that is left to run; gives whether it came to its end."""
    progress, settings = record.progress, training.settings
    last_save = time.monotonic()
    while len(progress.epochs) < settings.epochs:
        epoch = len(progress.epochs) + 1
        begun = time.perf_counter()
        for images, labels in training.batches(epoch - 1, progress.batch):
            try:
                loss = training.run_step(images, labels)
            except NonFiniteError as error:
                number = _steps_done(training, progress) + 1
                where = f"step {number} (epoch {epoch}, batch {progress.batch + 1})"
                raise NonFiniteError(f"{where}: {error}") from None
            now = time.perf_counter()
            progress.batch += 1
            progress.loss += loss
            progress.seconds += now - begun
            begun = now
            bar.advance(f"epoch {epoch}/{settings.epochs}  loss {loss:.4f}")
            if interrupts.asked or time.monotonic() - last_save >= SAVE_SECONDS:
                files.save(training.state, record)
                last_save = time.monotonic()
            if interrupts.asked:
                return False
        result = _end_epoch(training, progress)
        files.append(result)
        files.save(training.state, record)
        last_save = time.monotonic()
        bar.line(f"epoch {epoch:>3}/{settings.epochs}  {result}")
        if interrupts.asked:
            return epoch == settings.epochs
    return True


def _end_epoch(training: Training, progress: Progress) -> EpochResult:
    """Test the model, and go on to the next epoch."""
    steps = training.epoch_steps
    result = EpochResult(
        epoch=len(progress.epochs) + 1,
        step=(len(progress.epochs) + 1) * steps,
        loss=progress.loss / steps,
        accuracy=training.accuracy(training.dataset.test, training.settings.batch),
        seconds=round(progress.seconds, 3),
        step_ms=round(1e3 * progress.seconds / steps, 3),
        peak_bytes=training.plan().peak_bytes,
    )
    progress.epochs.append(result)
    progress.batch, progress.loss, progress.seconds = 0, 0.0, 0.0
    return result
