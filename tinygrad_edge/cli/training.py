"""A training: model, optimizer and compiled steps, made from a run's settings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path

import numpy as np

from .. import data, functional, sparse
from ..compiled import compile
from ..errors import DataError
from ..generator import default_generator, manual_seed
from ..nn import BatchNorm2d, Linear, Module
from ..optim import CosineAnnealingLR
from ..plan import Plan
from ..policy import Decision, Policy
from ..snapshot import Stateful
from ..tensor import Tensor
from .recipes import IMBALANCE, OPTIMIZERS, SPARSE_TRAINING, WARMUP
from .record import DataInfo, Settings

__all__ = ["Classifier", "Training"]


class Classifier:
    """A model and its compiled inference.

    Parameters
    ----------
    model : Module
    """

    def __init__(self, model: Module) -> None:
        self.model = model
        self.probabilities = compile(self._probabilities)

    def _probabilities(self, images: Tensor) -> Tensor:
        return functional.softmax(self.model(images), axis=1)

    def predictions(
        self, split: data.Split, batch: int, advance: Callable[[int], object] = lambda images: None
    ) -> np.ndarray:
        """Give the class of each image of a split, int32; the last batch may be smaller.

        Parameters
        ----------
        split : Split
        batch : int
            Images at a time.
        advance : callable
            Is told after each batch how many images it had.
        """
        self.model.eval()
        classes = []
        for images, labels in data.batches(split, batch, shuffle=False):
            classes.append(self.probabilities(images).borrow().argmax(axis=1))
            advance(len(labels))
        return np.concatenate(classes)

    def accuracy(self, split: data.Split, batch: int) -> float:
        """Fraction of a split's images that get their label."""
        return float(np.mean(self.predictions(split, batch) == split.labels))


class Training(Classifier):
    """A classifier with its optimizer and compiled training step.

    Parameters
    ----------
    settings : Settings
    dataset : Dataset
    policies : sequence of Policy
        For the memory of a step.
    weights : Path, optional
        A file of weights to begin with.

    Attributes
    ----------
    new : tuple of str
        Parameters for which these weights have none that fit.

    Raises
    ------
    DataError
        A batch is larger than the training part.
    """

    def __init__(
        self,
        settings: Settings,
        dataset: data.Dataset,
        policies: Sequence[Policy],
        weights: Path | None = None,
    ) -> None:
        # An epoch's last, smaller batch is left out: each step then is the same plan, and none sees
        # so few images that their statistics mean nothing. Other images are left out each time.
        self.epoch_steps = data.batch_count(len(dataset.train), settings.batch, drop_last=True)
        if not self.epoch_steps:
            raise DataError(
                f"a batch of {settings.batch} is more than the {len(dataset.train)} training "
                f"images of {dataset.name}: give a smaller --batch"
            )
        manual_seed(settings.seed)
        self.settings, self.dataset, self.data = settings, dataset, DataInfo.of(dataset)
        model, self.new = settings.build(self.data, weights)
        super().__init__(model)
        self.pool: sparse.Pool | None = getattr(model, "sparse", None)
        if settings.freeze:
            self._freeze()
        self.steps = settings.epochs * self.epoch_steps
        self.optimizer = OPTIMIZERS[settings.optimizer](self.model.parameters(), settings.lr)
        warmup = round(WARMUP * self.steps)
        self.schedule = CosineAnnealingLR(self.optimizer, self.steps - warmup, warmup=warmup)
        self.moving = self._moving()
        self.class_weights = _class_weights(dataset)
        self.step = compile(self._step, policies=policies)
        self._told = 0
        self._moves: list[sparse.Event] = []
        self._train_mode()

    def _freeze(self) -> None:
        """Train the last linear layer alone."""
        *_, head = (m for m in self.model.modules() if isinstance(m, Linear))
        self.model.requires_grad_(False)
        head.requires_grad_()

    def _moving(self) -> sparse.DynamicSparsity | None:
        """What moves the non-zeros, if anything does."""
        if self.settings.dst is None or self.pool is None:
            return None
        return SPARSE_TRAINING[self.settings.dst](self.pool, self.optimizer, self.steps)

    def _train_mode(self) -> None:
        self.model.train()
        if self.settings.freeze:  # frozen features are those that the weights came with
            for module in self.model.modules():
                if isinstance(module, BatchNorm2d):
                    module.eval()

    def _step(self, images: Tensor, labels: Tensor) -> Tensor:
        loss = functional.cross_entropy(self.model(images), labels, self.class_weights)
        self.optimizer.minimize(loss)
        return loss

    @property
    def state(self) -> list[Stateful]:
        """All that changes from step to step."""
        parts: list[Stateful] = [self.model, self.optimizer, self.schedule, default_generator()]
        if self.settings.allow or self.settings.precision:  # how it rounds is state of the step's
            self.plan()
            parts.append(self.step)
        if self.moving is not None:
            parts.append(self.moving)
        return parts

    def plan(self) -> Plan:
        """The training step's plan, the larger one if some steps need more; nothing runs."""
        images = np.zeros((self.settings.batch, *self.dataset.image_shape), np.float32)
        labels = np.zeros(self.settings.batch, np.int32)
        usual = self.step.plan(images, labels)
        with self.moving.watching() if self.moving else nullcontext():
            return max(usual, self.step.plan(images, labels), key=lambda plan: plan.peak_bytes)

    def batches(self, epoch: int, start: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """An epoch's batches from the one numbered `start` on."""
        augmentation = self.dataset.augmentation
        return data.batches(
            self.dataset.train,
            self.settings.batch,
            seed=self.settings.seed,
            epoch=epoch,
            drop_last=True,
            start=start,
            augment=augmentation,
            prefetch=1 if augmentation else 0,  # the next batch is made beside the step
        )

    def run_step(self, images: np.ndarray, labels: np.ndarray) -> float:
        """Train on a batch; gives the loss."""
        loss = float(self.step(images, labels).item())
        self.schedule.step()
        if self.moving is not None:
            self._moves += self.moving.step()
        return loss

    def decided(self) -> list[Decision]:
        """What a precision that adapts has decided since this was asked last."""
        taken = [] if self.step.precision is None else self.step.precision.decisions[self._told :]
        self._told += len(taken)
        return taken

    def moved(self) -> list[sparse.Event]:
        """How non-zeros have moved since this was asked last."""
        moves, self._moves = self._moves, []
        return moves

    def accuracy(self, split: data.Split, batch: int) -> float:
        """Fraction of a split's images that get their label; training goes on after it."""
        accuracy = super().accuracy(split, batch)
        self._train_mode()
        return accuracy


def _class_weights(dataset: data.Dataset) -> Tensor | None:
    """Make each class count alike in the loss, where their numbers of images differ much."""
    counts = np.bincount(dataset.train.labels, minlength=dataset.num_classes)
    if counts.max() <= IMBALANCE * counts[counts > 0].min():
        return None
    return Tensor(data.class_weights(dataset.train.labels, dataset.num_classes))
