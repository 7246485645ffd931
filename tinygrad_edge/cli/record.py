"""What a run's snapshot says besides its tensors: enough to build the same again, and to use it."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from .. import data, models, sparse
from ..errors import FileError
from ..nn import Module
from ..policy import Decision
from .recipes import OPTIMIZERS, PRECISIONS, SPARSE_TRAINING

__all__ = ["DataInfo", "EpochResult", "Progress", "Record", "Settings"]


@dataclass(frozen=True)
class Settings:
    """What decides the numbers of a run; a resumed run keeps all of it.

    ``size`` is for a folder of pictures; ``patience`` epochs without a better validation accuracy
    end the run; ``init`` names the weights that it began with, of which ``freeze`` keeps all but
    the last layer's. A ``budget`` in bytes decides numbers by what it may ``allow`` itself; one
    that allows nothing changes none, and is no setting. ``precision`` is how saved values are
    stored; ``sparsity`` the share of the weights that are zeros, and ``dst`` what moves the others.
    """

    data: str
    model: str
    epochs: int
    batch: int
    optimizer: str
    lr: float
    seed: int
    size: int | None = None
    patience: int | None = None
    init: str | None = None
    freeze: bool = False
    budget: int | None = None
    allow: list[str] = field(default_factory=list)
    precision: str | None = None
    sparsity: float | None = None
    dst: str | None = None

    def build(
        self, images: DataInfo, weights: Path | None = None
    ) -> tuple[Module, tuple[str, ...]]:
        """Make the model, and say which parameters the weights to begin with have none for."""
        model = images.build(self.model)
        new = () if weights is None else models.load_weights(model, weights)
        if self.sparsity is not None:
            sparse.sparsify(model, self.sparsity)
        return model, new


@dataclass(frozen=True)
class DataInfo:
    """What the model was trained on, and what its inputs go through."""

    name: str
    class_names: list[str]
    image_shape: list[int]
    train_images: int
    mean: list[float]
    std: list[float]
    fill_missing: bool

    @classmethod
    def of(cls, dataset: data.Dataset) -> DataInfo:
        """Describe a data set."""
        normalisation = dataset.normalisation
        return cls(
            dataset.name,
            list(dataset.class_names),
            list(dataset.image_shape),
            len(dataset.train),
            list(normalisation.mean),
            list(normalisation.std),
            normalisation.fill_missing,
        )

    @property
    def normalisation(self) -> data.Normalisation:
        """What the training part asked for."""
        return data.Normalisation(tuple(self.mean), tuple(self.std), self.fill_missing)

    def build(self, model: str) -> Module:
        """Make the model of that name for such images and classes."""
        channels, height, width = self.image_shape
        return models.build(model, len(self.class_names), channels, (height, width))


@dataclass(frozen=True)
class EpochResult:
    """What an epoch has measured: a line of the metrics.

    ``loss`` is the mean of its steps, ``accuracy`` that on the test part afterwards, and
    ``val_accuracy`` on the validation part; ``seconds``, ``step_ms`` and ``joules`` include the
    making of batches; ``peak_bytes`` is the plan's. What is not measured is None, and absent in
    files.
    """

    epoch: int
    step: int
    loss: float
    accuracy: float
    seconds: float
    step_ms: float
    peak_bytes: int
    val_accuracy: float | None = None
    joules: float | None = None

    def __str__(self) -> str:
        energy = "" if self.joules is None else f"  {self.joules:.1f} J"
        validation = "" if self.val_accuracy is None else f"validation {self.val_accuracy:.4f}  "
        return (
            f"loss {self.loss:.4f}  {validation}test accuracy {self.accuracy:.4f}  "
            f"{self.step_ms:.2f} ms/step  {self.seconds:.1f} s{energy}"
        )

    def measured(self) -> dict[str, Any]:
        """As a line of JSON has it."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass
class Progress:
    """How far a run is.

    Parameters
    ----------
    batch : int
        Batches done of the present epoch.
    loss : float
        Sum of their losses.
    seconds : float
        Spent on them.
    epochs : list of EpochResult
        The epochs done.
    decisions : list of Decision
        What a precision that adapts has decided.
    moves : list of sparse.Event
        How the non-zeros of sparse weights have moved.
    """

    batch: int = 0
    loss: float = 0.0
    seconds: float = 0.0
    epochs: list[EpochResult] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    moves: list[sparse.Event] = field(default_factory=list)

    @property
    def best(self) -> EpochResult:
        """The epoch of the best validation accuracy; the last of several, whose rate was lowest.

        Without a validation part it is the last epoch: to pick one by the test would be to train on
        it.
        """
        return max(self.epochs, key=lambda result: (result.val_accuracy or 0.0, result.epoch))

    def waited(self) -> int:
        """Epochs since the validation accuracy was better than ever before."""
        values = [result.val_accuracy or 0.0 for result in self.epochs]
        return len(values) - 1 - values.index(max(values)) if values else 0


@dataclass(frozen=True)
class Record:
    """All of it."""

    settings: Settings
    data: DataInfo
    progress: Progress

    @classmethod
    def read(cls, path: str | os.PathLike[str], metadata: Mapping[str, Any]) -> Record:
        """Take the metadata of a snapshot.

        Raises
        ------
        FileError
            A part is missing, or is not what a run writes.
        """
        try:
            parts = get_type_hints(cls)
            record = cls(**{name: _read(part, metadata[name]) for name, part in parts.items()})
            record._check()
        except (KeyError, ValueError) as error:
            raise FileError(
                f"{os.fspath(path)} is no snapshot that train has written: {error} is not as it "
                "should be in its metadata"
            ) from None
        return record

    def metadata(self) -> dict[str, Any]:
        """As a snapshot holds it."""
        progress = {**asdict(self.progress), "epochs": [e.measured() for e in self.progress.epochs]}
        return {**asdict(self), "progress": progress}

    def _check(self) -> None:
        """Refuse what has the right types and yet cannot be."""
        s, d, p = self.settings, self.data, self.progress
        channels, *size = d.image_shape
        possible = {
            "settings": min(s.epochs, s.batch, s.size or 1, s.patience or 1) > 0
            and 0 < s.lr < math.inf
            and 0 <= s.seed < 2**64
            and s.optimizer in OPTIMIZERS
            and s.precision in (None, *PRECISIONS)
            and 0 <= (s.sparsity or 0) < 1
            and s.dst in (None, *SPARSE_TRAINING),
            "data": len(size) == 2
            and min(d.image_shape) > 0
            and len(d.mean) == len(d.std) == channels
            and 0 not in d.std
            and len(d.class_names) > 0,
            "progress": len(p.epochs) <= s.epochs and p.batch >= 0,
        }
        for name, holds in possible.items():
            if not holds:
                raise ValueError(repr(name))


def _read(expected: Any, value: Any) -> Any:
    """Turn JSON into a type, a dataclass or a list too; a ValueError names what does not fit."""
    if get_origin(expected) is list and type(value) is list:
        (item,) = get_args(expected)
        return [_read(item, each) for each in value]
    if is_dataclass(expected) and isinstance(expected, type) and type(value) is dict:
        types = get_type_hints(expected)
        needed = {f.name for f in fields(expected) if f.default is f.default_factory is MISSING}
        if needed <= value.keys() <= types.keys():
            return expected(**{name: _read(types[name], each) for name, each in value.items()})
    options = get_args(expected) if isinstance(expected, UnionType) else (expected,)
    if type(value) in options or (float in options and type(value) is int):
        return value
    raise ValueError(repr(value)[:100])
