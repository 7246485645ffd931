"""The training loop: steps, tests, snapshots, and how it ends."""

from __future__ import annotations

import signal
import time

from ..errors import NonFiniteError
from ..runtime import Stopped, stopping
from .energy import Meter, meter
from .record import EpochResult, Progress, Record
from .report import Bar
from .run import Run
from .training import Training

__all__ = ["Interrupts", "finished", "steps_done", "train"]

SAVE_SECONDS = 30.0  # between snapshots within an epoch: what a power cut may cost


class Interrupts:
    """The first Ctrl-C asks the run to end soon and whole; a second one ends it where it is."""

    asked = False

    def heed(self) -> None:
        """Stop here, where everything is whole, if that was asked for."""
        if self.asked:
            raise Stopped

    def __enter__(self) -> Interrupts:
        self._before = signal.signal(signal.SIGINT, self._ask)
        return self

    def __exit__(self, *exception: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _ask(self, *_: object) -> None:
        self.asked = True
        signal.signal(signal.SIGINT, signal.default_int_handler)


def steps_done(training: Training, progress: Progress) -> int:
    """Steps of this run, those of earlier processes included."""
    return len(progress.epochs) * training.epoch_steps + progress.batch


def finished(training: Training, progress: Progress) -> bool:
    """Whether all epochs are done, or no more are worth waiting for."""
    settings = training.settings
    patience = settings.patience or settings.epochs
    return len(progress.epochs) == settings.epochs or progress.waited() >= patience


def train(training: Training, files: Run, record: Record, bar: Bar, interrupts: Interrupts) -> bool:
    """Run all that is left to run; gives whether it came to its end."""
    progress = record.progress
    try:
        with stopping(lambda: interrupts.asked), meter() as energy:
            while not finished(training, progress):
                _run_epoch(training, files, record, bar, interrupts, energy)
    except Stopped:  # between steps, or within a step or a test that will be begun again
        files.save(training.state, record)
    return finished(training, progress)


def _run_epoch(
    training: Training,
    files: Run,
    record: Record,
    bar: Bar,
    interrupts: Interrupts,
    energy: Meter,
) -> None:
    progress, settings = record.progress, training.settings
    epoch = len(progress.epochs) + 1
    whole = progress.batch == 0  # what an earlier process spent on the epoch is not known
    energy.restart()
    begun, last_save = time.perf_counter(), time.monotonic()
    for images, labels in training.batches(epoch - 1, progress.batch):
        interrupts.heed()
        try:
            loss = training.run_step(images, labels)
        except NonFiniteError as error:
            number = steps_done(training, progress) + 1
            where = f"step {number} (epoch {epoch}, batch {progress.batch + 1})"
            raise NonFiniteError(f"{where}: {error}") from None
        del images, labels  # before others are made
        now = time.perf_counter()
        progress.batch += 1
        decisions, moves = training.decided(), training.moved()
        if decisions or moves:
            progress.decisions += decisions
            progress.moves += moves
            files.append(*decisions, *moves)
        progress.loss += loss
        progress.seconds += now - begun
        begun = now
        bar.advance(f"epoch {epoch}/{settings.epochs}  loss {loss:.4f}")
        if time.monotonic() - last_save >= SAVE_SECONDS:
            files.save(training.state, record)
            last_save = time.monotonic()
    joules = energy.joules() if whole else None
    interrupts.heed()
    result = _end_epoch(training, progress, joules)
    files.append(result)
    if result.val_accuracy is not None and result is progress.best:
        files.save_best(training.model, record)
    files.save(training.state, record)
    bar.epoch(f"epoch {epoch:>3}/{settings.epochs}  {result}", result)
    if not finished(training, progress):
        interrupts.heed()


def _end_epoch(training: Training, progress: Progress, joules: float | None) -> EpochResult:
    """Test the model, and go on to the next epoch."""
    steps, dataset, batch = training.epoch_steps, training.dataset, training.settings.batch
    result = EpochResult(
        epoch=len(progress.epochs) + 1,
        step=(len(progress.epochs) + 1) * steps,
        loss=progress.loss / steps,
        accuracy=training.accuracy(dataset.test, batch),
        seconds=round(progress.seconds, 3),
        step_ms=round(1e3 * progress.seconds / steps, 3),
        peak_bytes=training.plan().peak_bytes,
        val_accuracy=None if dataset.val is None else training.accuracy(dataset.val, batch),
        joules=None if joules is None else round(joules, 3),
    )
    progress.epochs.append(result)
    progress.batch, progress.loss, progress.seconds = 0, 0.0, 0.0
    return result
