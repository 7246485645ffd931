"""Training on patches of images, and testing on images by the votes of their patches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import DataError
from ._dataset import Split
from ._images import Images, held_bytes
from ._normalisation import BLOCK_BYTES
from ._philox import integer

__all__ = ["PatchSplit", "Patches"]


@dataclass(frozen=True)
class Patches:
    """Cut the images of a split into square patches, each with its image's label.

    A step then has the memory of patches and not of images (the last step of Nitsenko's pipeline).
    Train on ``Patches(32, keep=...)``, which do not overlap, and test on ``Patches(32, stride=8)``
    with `PatchSplit.vote`.

    Parameters
    ----------
    size : int
        Height and width of a patch.
    stride : int, optional
        Between patches, along both axes; their size unless given. What is left over at the bottom
        and at the right of an image is in no patch.
    keep : callable, optional
        Content filter: says of a patch as it is stored, an array of shape (C, size, size), whether
        it holds anything to learn from. An image without any such patch keeps them all.

    Examples
    --------
    >>> import tinygrad_edge as te
    >>> digits = te.data.load("digits")
    >>> inked = te.data.Patches(4, keep=lambda patch: patch.mean() > 2)
    >>> inked(digits.train)
    PatchSplit(5446 patches of 1x4x4, of 1437 images)
    >>> te.data.Patches(4, stride=2)(digits.test)
    PatchSplit(3240 patches of 1x4x4, of 360 images)
    """

    size: int
    stride: int | None = None
    keep: Callable[[np.ndarray], bool] | None = None

    def __post_init__(self) -> None:
        integer("size", self.size, 1)
        integer("stride", self.step, 1)

    @property
    def step(self) -> int:
        """Distance between patches."""
        return self.size if self.stride is None else self.stride

    def __call__(self, split: Split) -> PatchSplit:
        """Cut a split's images.

        Raises
        ------
        DataError
            The images are smaller than a patch.
        """
        height, width = split.images.shape[2:]
        if min(height, width) < self.size:
            raise DataError(
                f"patches of {self.size}x{self.size} do not fit images of {height}x{width}"
            )
        corners = np.stack(
            np.meshgrid(
                np.arange(0, height - self.size + 1, self.step),
                np.arange(0, width - self.size + 1, self.step),
                indexing="ij",
            ),
            axis=-1,
        ).reshape(-1, 2)
        if self.keep is None:
            kept = np.ones((len(split), len(corners)), bool)
        else:
            kept = self._with_content(split.images, corners)
        image, corner = np.nonzero(kept)
        cut = _PatchImages(split.images, image, corners[corner], self.size)
        return PatchSplit(cut, split.labels[image], split.normalisation, image, len(split))

    def _with_content(self, images: Images, corners: np.ndarray) -> np.ndarray:
        """For each image, which patches are kept; a few images are looked at at a time."""
        assert self.keep is not None
        kept = np.empty((images.shape[0], len(corners)), bool)
        step = max(1, BLOCK_BYTES // max(1, images[:1].nbytes))
        for start in range(0, len(kept), step):
            for i, image in enumerate(images[start : start + step], start):
                for j, (y, x) in enumerate(corners.tolist()):
                    kept[i, j] = self.keep(image[:, y : y + self.size, x : x + self.size])
        kept[~kept.any(axis=1)] = True
        return kept


class _PatchImages:
    """Patches, cut out when they are asked for.

    Parameters
    ----------
    images : Images
    image : numpy.ndarray
        The image of each patch, ascending, integers of shape (P,).
    corners : numpy.ndarray
        Top and left of each patch, integers of shape (P, 2).
    size : int
    """

    def __init__(self, images: Images, image: np.ndarray, corners: np.ndarray, size: int) -> None:
        self.images, self.image, self.corners = images, image, corners.astype(np.int32)
        self.shape = (len(image), images.shape[1], size, size)
        self.dtype = images.dtype

    def __getitem__(self, rows: Any) -> np.ndarray:
        needed, position = np.unique(self.image[rows], return_inverse=True)
        whole = self.images[needed]
        size = self.shape[-1]
        found = np.empty((len(position), *self.shape[1:]), self.dtype)
        for patch, i, (y, x) in zip(found, position, self.corners[rows].tolist(), strict=True):
            patch[...] = whole[i, :, y : y + size, x : x + size]
        return found

    @property
    def held_bytes(self) -> int:
        """Where patches are, and what the images hold."""
        return self.image.nbytes + self.corners.nbytes + held_bytes(self.images)


@dataclass(frozen=True, eq=False, repr=False)
class PatchSplit(Split):
    """A split of patches.

    Parameters
    ----------
    images, labels, normalisation
        As a split's, of patches.
    image_of : numpy.ndarray
        The image of each patch, ascending, integers of shape (P,).
    image_count : int
    """

    image_of: np.ndarray
    image_count: int

    def vote(self, scores: np.ndarray) -> np.ndarray:
        """Class of each image by what its patches say together.

        Parameters
        ----------
        scores : numpy.ndarray
            Of shape (P, classes), in the order of the patches: probabilities, or 0 and 1 for one
            vote a patch.

        Returns
        -------
        numpy.ndarray
            int32 of shape (image_count,): the class with the largest sum, the first of equals.

        Raises
        ------
        DataError
            There is not one row for each patch.
        """
        if scores.ndim != 2 or len(scores) != len(self):
            raise DataError(f"expected {len(self)} rows of scores, got shape {scores.shape}")
        starts = np.searchsorted(self.image_of, np.arange(self.image_count))
        sums = np.add.reduceat(scores, starts, axis=0, dtype=np.float64)
        return sums.argmax(axis=1).astype(np.int32)

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.images.shape[1:]))
        return f"PatchSplit({len(self)} patches of {shape}, of {self.image_count} images)"
