"""Batches of a split, in an order that depends on nothing but two numbers."""

from collections.abc import Generator, Sequence
from contextlib import closing
from math import prod

import numpy as np

from ._augment import Augmentation, augment_batch
from ._dataset import Split
from ._philox import Draws, integer, words
from ._prefetch import prefetched

__all__ = ["Batch", "batch_count", "batches", "epoch_order"]

Batch = tuple[np.ndarray, np.ndarray]

#: Bytes of a batch of float32 up to which it is made ahead whole.
WHOLE_BYTES = 1 << 23


def epoch_order(samples: int, seed: int, epoch: int) -> np.ndarray:
    """Return the order in which an epoch visits `samples` samples: a uniform permutation.

    Each sample draws 64 bits from Philox4x64-10 (Salmon et al. 2011) with the key (seed, epoch),
    and the samples are sorted by them. NumPy keeps that stream the same for ever, which it does not
    promise of ``Generator.permutation``.
    """
    return np.argsort(words(samples, seed, epoch), kind="stable")


def batch_count(samples: int, batch: int, drop_last: bool = False) -> int:
    """Return how many batches of `batch` an epoch over `samples` samples has."""
    integer("batch", batch, 1)
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
    augment: Sequence[Augmentation] = (),
    prefetch: int = 0,
) -> Generator[Batch, None, None]:
    """Iterate over one epoch of a split.

    Parameters
    ----------
    split : Split
        What to go through.
    batch : int
        Samples in a batch; the last one of an epoch may have fewer.
    seed, epoch : int
        They alone decide the order, see `epoch_order`, and with an image's position in the split
        its augmentation. From 0 to 2**64 - 1.
    shuffle : bool
        False visits the samples as they are stored.
    drop_last : bool
        Leave out a last batch of fewer samples.
    start : int
        How many batches of the epoch are done: those that follow come as if they had been drawn.
    augment : sequence of Augmentation
        What to do to each image, in this order; ``dataset.augmentation`` suits the data set.
    prefetch : int
        Make so many batches ahead, in a thread; the batches are the same. Of batches above 8 MB the
        thread only reads the images, as they are stored; they become float32 when their turn comes.
        Closing the generator ends the thread, so does dropping it.

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
    FileError
        While iterating: a file cannot be read any more.

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
    integer("start", start, 0, count)
    integer("prefetch", prefetch, 0)
    order = epoch_order(len(split), seed, epoch) if shuffle else np.arange(len(split))
    draws = Draws(seed, epoch)

    positions = (order[i * batch : (i + 1) * batch] for i in range(start, count))

    def augmented(images: np.ndarray, rows: np.ndarray) -> Batch:
        if augment:
            augment_batch(images, rows, augment, draws)
        return images, split.labels[rows]

    def make(rows: np.ndarray) -> Batch:
        return augmented(split.batch(rows)[0], rows)

    def read(rows: np.ndarray) -> Batch:
        return split.images[rows], rows

    def finish(stored: Batch) -> Batch:
        images, rows = stored
        return augmented(split.normalisation(images), rows)

    def late() -> Generator[Batch, None, None]:
        with closing(prefetched(map(read, positions), prefetch)) as ahead:
            yield from map(finish, ahead)  # which holds neither

    if not prefetch:
        return (make(rows) for rows in positions)
    if 4 * batch * prod(split.images.shape[1:]) <= WHOLE_BYTES:
        return prefetched(map(make, positions), prefetch)
    return late()
