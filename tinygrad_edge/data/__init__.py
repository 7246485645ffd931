"""Data sets: found or downloaded, checked, and cut into batches.

>>> import tinygrad_edge as te
>>> digits = te.data.load("digits")
>>> images, labels = next(te.data.batches(digits.train, 64, seed=0, epoch=0))
>>> images.shape, images.dtype, labels.dtype
((64, 1, 8, 8), dtype('float32'), dtype('int32'))

A `Dataset` has a training and a test `Split`, whose images stay as they are stored, as a rule in
their files, until a batch is made of them. One's own pictures become one by ``load(folder)``, one's
own arrays by ``load("arrays.npz")`` or ``Dataset.from_arrays``.
"""

from ._augment import Augmentation, Brightness, Crop, Cutout, Flip, Noise, Rotate
from ._batches import batch_count, batches, epoch_order
from ._dataset import Dataset, Skipped, Split
from ._image_folder import image_folder
from ._images import Images
from ._labels import class_weights
from ._normalisation import Normalisation
from ._npz import load_npz
from ._patches import Patches, PatchSplit
from ._photo import read_image
from ._sources import SOURCES, download, load

__all__ = [
    "SOURCES",
    "Augmentation",
    "Brightness",
    "Crop",
    "Cutout",
    "Dataset",
    "Flip",
    "Images",
    "Noise",
    "Normalisation",
    "PatchSplit",
    "Patches",
    "Rotate",
    "Skipped",
    "Split",
    "batch_count",
    "batches",
    "class_weights",
    "download",
    "epoch_order",
    "image_folder",
    "load",
    "load_npz",
    "read_image",
]
