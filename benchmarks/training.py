"""What the benchmarks that compare accuracies train with, so that they train alike."""

import itertools
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

import tinygrad_edge as te
from tinygrad_edge.cli.recipes import OPTIMIZERS
from tinygrad_edge.policy import Policy

WARMUP = 0.05
#: Steps whose losses are averaged in the end.
LAST = 100

Batch = tuple[np.ndarray, np.ndarray]


def endless(
    data: te.data.Dataset, batch: int, seed: int, augment: Sequence[te.data.Augmentation] = ()
) -> Iterator[Batch]:
    """Epoch after epoch, in an order that depends on the seed."""
    for epoch in itertools.count():
        yield from te.data.batches(
            data.train, batch, seed=seed, epoch=epoch, drop_last=True, augment=augment
        )


def training_step(
    model: te.nn.Module, optimizer: te.optim.Optimizer, policies: Sequence[Policy] | None = None
) -> te.CompiledStep:
    """A compiled step from images and labels to the loss."""

    @te.compile(policies=policies)
    def step(images: te.Tensor, labels: te.Tensor) -> te.Tensor:
        loss = te.functional.cross_entropy(model(images), labels)
        optimizer.minimize(loss)
        return loss

    return step


class Trained(NamedTuple):
    """What came of training to the end, and what it took; the loss is the mean of the last ones."""

    loss: float
    peak_bytes: int
    seconds: float


class Training:
    """A model, its optimizer, and the step that trains it.

    Parameters
    ----------
    model : str
    data : Dataset
        That the model is made for.
    rate : float
        At its highest.
    seed : int
    policies : sequence of Policy, optional
    sparsity : float
        Share of the weights that are zeros and not stored.
    distribution : str
        Of the non-zeros over the layers, as `sparsify` takes it.
    optimizer : str
        As the command line takes it.
    """

    def __init__(
        self,
        model: str,
        data: te.data.Dataset,
        rate: float,
        seed: int = 0,
        policies: Sequence[Policy] | None = None,
        sparsity: float = 0.0,
        distribution: str = "uniform",
        optimizer: str = "sgd",
    ) -> None:
        te.manual_seed(seed)
        build = getattr(te.models, model)
        self.model = build(num_classes=data.num_classes, in_channels=data.image_shape[0])
        self.pool = None
        if sparsity:
            self.pool = te.sparse.sparsify(self.model, sparsity, distribution)
        self.optimizer = OPTIMIZERS[optimizer](self.model.parameters(), lr=rate)
        self.step = training_step(self.model, self.optimizer, policies)
        self.classes = te.compile(lambda x: self.model(x))

    def to_the_end(
        self, batches: Iterable[Batch], steps: int, after: Callable[[], object] | None = None
    ) -> Trained:
        """Train until the rate has fallen to 0; `after` is called after each step."""
        warmup = round(WARMUP * steps)
        schedule = te.optim.CosineAnnealingLR(self.optimizer, steps - warmup, warmup=warmup)
        begun, losses = time.perf_counter(), []
        for images, labels in itertools.islice(batches, steps):
            losses.append(self.step(images, labels).item())
            schedule.step()
            if after is not None:
                after()
        seconds = time.perf_counter() - begun
        peak = self.step.plan(images, labels).peak_bytes
        return Trained(statistics.fmean(losses[-LAST:]), peak, seconds)

    def accuracy(self, split: te.data.Split) -> float:
        """Percentage of a split's images that get their label."""
        self.model.eval()
        right = sum(
            int((self.classes(x).numpy().argmax(1) == y).sum())
            for x, y in te.data.batches(split, 250, shuffle=False)
        )
        return 100 * right / len(split)
