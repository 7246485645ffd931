"""What a run's snapshot says besides its tensors: enough to build the same again, and to use it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from .. import models
from ..data import Dataset, Normalisation
from ..errors import FileError
from ..nn import Module

__all__ = ["DataInfo", "ModelInfo", "Progress", "Record", "Settings"]

Part = TypeVar("Part")


@dataclass(frozen=True)
class Settings:
    """What decides the numbers of a run; a resumed run keeps all of it."""

    data: str
    model: str
    epochs: int
    batch: int
    optimizer: str
    lr: float
    seed: int


@dataclass(frozen=True)
class ModelInfo:
    """How to build the model: what `models.build` takes."""

    name: str
    num_classes: int
    in_channels: int
    size: list[int]

    @classmethod
    def of(cls, name: str, dataset: Dataset) -> ModelInfo:
        """Describe the model of that name for a data set."""
        channels, *size = dataset.image_shape
        return cls(name, dataset.num_classes, channels, size)

    def build(self) -> Module:
        """Make the model."""
        height, width = self.size
        return models.build(self.name, self.num_classes, self.in_channels, (height, width))


@dataclass(frozen=True)
class DataInfo:
    """What the model was trained on."""

    name: str
    class_names: list[str]
    image_shape: list[int]
    train_images: int
    mean: list[float]
    std: list[float]

    @classmethod
    def of(cls, dataset: Dataset) -> DataInfo:
        """Describe a data set."""
        mean, std = dataset.normalisation.mean, dataset.normalisation.std
        shape, names = list(dataset.image_shape), list(dataset.class_names)
        return cls(dataset.name, names, shape, len(dataset.train), list(mean), list(std))

    @property
    def normalisation(self) -> Normalisation:
        """What the model's inputs went through."""
        return Normalisation(tuple(self.mean), tuple(self.std))


@dataclass
class Progress:
    """How far a run is.

    Parameters
    ----------
    epoch : int
        Epochs done.
    batch : int
        Batches done of the next one.
    loss : float
        Sum of their losses.
    seconds : float
        Spent on them.
    metrics : list of dict
        What each epoch done has measured.
    """

    epoch: int = 0
    batch: int = 0
    loss: float = 0.0
    seconds: float = 0.0
    metrics: list[dict] = field(default_factory=list)


@dataclass(frozen=True)
class Record:
    """All of it."""

    settings: Settings
    model: ModelInfo
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
        parts = get_type_hints(cls)
        for name, part in parts.items():
            if not _fits(part, metadata.get(name)):
                raise FileError(
                    f"{os.fspath(path)} is no snapshot that train has written: its metadata have "
                    f"no proper {name!r}"
                )
        return cls(**{name: part(**metadata[name]) for name, part in parts.items()})

    def metadata(self) -> dict[str, Any]:
        """As a snapshot holds it."""
        return {part.name: asdict(getattr(self, part.name)) for part in fields(self)}


def _fits(expected: Any, value: Any) -> bool:
    """Whether a JSON value is of a type, which may be a list's or a dataclass."""
    if get_origin(expected) is list:
        (item,) = get_args(expected)
        return isinstance(value, list) and all(_fits(item, v) for v in value)
    if hasattr(expected, "__dataclass_fields__"):
        types = get_type_hints(expected)
        return (
            isinstance(value, dict)
            and value.keys() == types.keys()
            and all(_fits(types[name], v) for name, v in value.items())
        )
    return type(value) is expected or (expected is float and type(value) is int)
