"""Batches of a split, in an order that depends on nothing but two numbers."""

import operator
from collections.abc import Iterator

import numpy as np

from ..errors import DataError
from ._dataset import Split

__all__ = ["batch_count", "batches", "epoch_order"]


def epoch_order(samples: int, seed: int, epoch: int) -> np.ndarray:
    """Return the order in which an epoch visits `samples` samples: a uniform permutation.

    Each sample draws 64 bits from Philox4x64-10 (Salmon et al. 2011) with the key (seed, epoch),
    and the samples are sorted by them. NumPy keeps that stream the same for ever, which it does not
    promise of ``Generator.permutation``.
    """
    key = [_integer("seed", seed, 0, 2**64 - 1), _integer("epoch", epoch, 0, 2**64 - 1)]
    bits = np.random.Philox(key=np.array(key, np.uint64)).random_raw(samples)
    return np.argsort(bits, kind="stable")


def batch_count(samples: int, batch: int, drop_last: bool = False) -> int:
    """Return how many batches of `batch` an epoch over `samples` samples has."""
    _integer("batch", batch, 1)
    return samples // batch if drop_last else -(-samples // batch)


def batches(
    split: Split,
    batch: int,
    *,
    seed: int = 0,
    epoch: int = 0,
    shuffle: bool = True,
    drop_last: bool = False,
    start: int = 0,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Iterate over one epoch of a split.

    Parameters
    ----------
    split : Split
        What to go through.
    batch : int
        Samples in a batch; the last one of an epoch may have fewer.
    seed, epoch : int
        They alone decide the order, see `epoch_order`. From 0 to 2**64 - 1.
    shuffle : bool
        False visits the samples as they are stored.
    drop_last : bool
        Leave out a last batch of fewer samples.
    start : int
        How many batches of the epoch are done: those that follow come as if they had been drawn.

    Yields
    ------
    images : numpy.ndarray
        Normalised, float32 of shape (B, C, H, W).
    labels : numpy.ndarray
        int32 of shape (B,).

    Raises
    ------
    DataError
        A number is out of its range.

    Examples
    --------
    >>> import tinygrad_edge as te
    >>> digits = te.data.load("digits")
    >>> for images, labels in te.data.batches(digits.train, 512, seed=1, epoch=0):
    ...     print(images.shape, images.dtype, labels[:4])
    (512, 1, 8, 8) float32 [7 2 5 0]
    (512, 1, 8, 8) float32 [0 8 8 8]
    (413, 1, 8, 8) float32 [1 7 3 6]
    """
    count = batch_count(len(split), batch, drop_last)
    _integer("start", start, 0, count)
    order = epoch_order(len(split), seed, epoch) if shuffle else np.arange(len(split))
    return (split.batch(order[i * batch : (i + 1) * batch]) for i in range(start, count))


def _integer(name: str, value: int, low: int, high: int | None = None) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        raise DataError(f"{name} is an integer, not {value!r}") from None
    if number < low or (high is not None and number > high):
        limit = f"from {low} to {high}" if high is not None else f"at least {low}"
        raise DataError(f"{name} is {limit}, not {number}")
    return number
