"""How a run begins: its settings, data and model, chosen or taken from a snapshot."""

from __future__ import annotations

import argparse
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

from .. import data
from ..errors import DataError, FileError
from ..policy import Budget, Default, Policy
from ..policy.budget import as_bytes
from .arguments import budget_of
from .recipes import FEW, OPTIMIZERS, OWN, OWN_FEW, PRECISIONS, RECIPES, Recipe
from .record import DataInfo, Progress, Settings
from .run import Run
from .training import Training

__all__ = ["Start", "resumed", "started"]


class Start(NamedTuple):
    """All that a run is about to go on with."""

    files: Run
    training: Training
    progress: Progress


def started(args: argparse.Namespace) -> Start:
    """Begin a new run: what is not told comes from the recipe."""
    name = args.data or "digits"
    dataset = _opened(name, args.data_dir, args.size, args.patience)
    recipe = _recipe(name, dataset)
    method = OPTIMIZERS[args.optimizer or recipe.optimizer]
    chosen = {"data": name, "lr": method.lr, "seed": 0, **recipe._asdict(), **_given(args)}
    settings = Settings(**chosen)
    if settings.freeze and settings.init is None:
        raise DataError("--freeze keeps weights as they are: name them with --init")
    if settings.dst is not None and settings.sparsity is None:
        raise DataError("--dst moves the non-zeros of sparse weights: give a --sparsity")
    if settings.freeze and settings.sparsity is not None:
        raise DataError("--freeze trains the last layer alone, --sparsity all: leave out one")
    weights = None if settings.init is None else Run.at(settings.init, best=True).snapshot
    training = Training(settings, dataset, _policies(args, settings), weights)
    training.plan()  # a model that the images do not fit shows before a folder is made
    files = Run.new(args.out, f"{dataset.name}-{settings.model}")
    moves = [] if training.moving is None else training.moving.layers()
    return Start(files, training, Progress(moves=moves))


def resumed(args: argparse.Namespace) -> Start:
    """Go on with a run, which keeps its settings and its place."""
    files = Run.at(args.resume)
    if args.out and Path(args.out).resolve() != files.folder.resolve():
        raise FileError(f"a resumed run stays in its folder {files.folder}: leave out --out")
    record = files.load()
    settings = record.settings
    for name, value in _given(args).items():
        kept = getattr(settings, name)
        if value != kept:
            raise FileError(
                f"the run in {files.folder} has {name} {kept}, not {value}: a resumed run keeps "
                "its settings"
            )
    dataset = _opened(settings.data, args.data_dir, settings.size, settings.patience)
    if DataInfo.of(dataset) != record.data:
        raise DataError(f"the {dataset.name} here is not what the run in {files.folder} was fed")
    training = Training(settings, dataset, _policies(args, settings))
    files.load(training.state)
    files.repair(record.progress)
    return Start(files, training, record.progress)


def _given(args: argparse.Namespace) -> dict[str, Any]:
    """The settings that the command line names."""
    found = {setting.name: getattr(args, setting.name) for setting in fields(Settings)}
    budget = budget_of(args)
    allowed = list(budget.allow) if budget else []
    found["allow"] = allowed or None
    found["budget"] = as_bytes(budget.bytes) if budget and allowed else None
    return {name: value for name, value in found.items() if value is not None}


def _policies(args: argparse.Namespace, settings: Settings) -> list[Policy]:
    """The policies of the steps: those that change results stay with the run."""
    within = budget_of(args)
    if settings.budget is not None:
        within = Budget(settings.budget, tuple(settings.allow))
    if settings.precision is None:
        return [within or Default()]
    if within:
        raise DataError(
            "--budget decides how values are kept, as --precision does: leave out one, or let the "
            "budget --allow float16"
        )
    return [Default(), PRECISIONS[settings.precision]]


def _opened(
    name: str, data_dir: str | None, size: int | None, patience: int | None
) -> data.Dataset:
    """Load a data set, with a validation part where an epoch is to be picked."""
    dataset = data.load(name, data_dir, size=size)
    picked = name not in data.SOURCES or patience is not None
    return dataset.with_validation() if picked else dataset


def _recipe(name: str, dataset: data.Dataset) -> Recipe:
    images = len(dataset.train)
    recipe = RECIPES.get(name, OWN_FEW if images < FEW else OWN)
    return recipe._replace(batch=min(recipe.batch, images))
