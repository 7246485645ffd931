"""Data sets: found or downloaded, checked, and cut into batches.

>>> import tinygrad_edge as te
>>> digits = te.data.load("digits")
>>> images, labels = next(te.data.batches(digits.train, 64, seed=0, epoch=0))
>>> images.shape, images.dtype, labels.dtype
((64, 1, 8, 8), dtype('float32'), dtype('int32'))

A `Dataset` has a training and a test `Split`, whose images stay as they are stored until a batch is
made of them. One's own arrays become one by ``Dataset.from_arrays``.
"""

from ._batches import batch_count, batches, epoch_order
from ._dataset import Dataset, Images, Normalisation, Split
from ._sources import SOURCES, download, load

__all__ = [
    "SOURCES",
    "Dataset",
    "Images",
    "Normalisation",
    "Split",
    "batch_count",
    "batches",
    "download",
    "epoch_order",
    "load",
]
