"""Augmentation: small random changes of training images that leave their class what it is.

An augmentation sees one image at a time, normalised, float32 of shape (C, H, W): 0 is the mean
colour of the training images, 1 their standard deviation. What it draws depends on the seed, the
epoch and the image's position in the split, hence not on batches, threads, or where a run was
resumed.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ..errors import DataError
from ._philox import Draws, integer

__all__ = [
    "Augmentation",
    "Brightness",
    "Crop",
    "Cutout",
    "Flip",
    "Noise",
    "Rotate",
    "augment_batch",
]


class Augmentation(Protocol):
    """Changes an image, which it may overwrite, by what it draws."""

    def __call__(self, image: np.ndarray, draws: Draws) -> np.ndarray:
        """Return float32 of the same shape."""


@dataclass(frozen=True)
class Flip:
    """Mirror half of the images.

    Parameters
    ----------
    vertical : bool
        Turn them upside down, in place of left to right.
    """

    vertical: bool = False

    def __call__(self, image: np.ndarray, draws: Draws) -> np.ndarray:
        """Flip or not."""
        if draws.below(2):
            return image
        return image[:, ::-1] if self.vertical else image[:, :, ::-1]


@dataclass(frozen=True)
class Crop:
    """Pad each side with the mean colour, and cut the old size out anywhere.

    Parameters
    ----------
    padding : int
        Pixels. An axis of fewer than two pixels is left alone.
    """

    padding: int = 4

    def __post_init__(self) -> None:
        integer("padding", self.padding, 1)

    def __call__(self, image: np.ndarray, draws: Draws) -> np.ndarray:
        """Shift by -padding to padding along each axis."""
        _, height, width = image.shape
        target_y, source_y = self._shift(height, draws)
        target_x, source_x = self._shift(width, draws)
        cropped = np.zeros_like(image)
        cropped[:, target_y, target_x] = image[:, source_y, source_x]
        return cropped

    def _shift(self, size: int, draws: Draws) -> tuple[slice, slice]:
        most = min(self.padding, size - 1)
        shift = draws.below(2 * most + 1) - most
        return slice(max(shift, 0), size + min(shift, 0)), slice(
            max(-shift, 0), size - max(shift, 0)
        )


@dataclass(frozen=True)
class Rotate:
    """Rotate about the centre, bilinearly; the mean colour comes in at the corners.

    Parameters
    ----------
    degrees : float
        At most, to either side.
    """

    degrees: float = 10.0

    def __post_init__(self) -> None:
        _positive("degrees", self.degrees)

    def __call__(self, image: np.ndarray, draws: Draws) -> np.ndarray:
        """Rotate by an angle of -degrees to degrees."""
        _, height, width = image.shape
        angle = math.radians(draws.uniform(-self.degrees, self.degrees))
        cos, sin = np.float32(math.cos(angle)), np.float32(math.sin(angle))
        y = np.arange(height, dtype=np.float32)[:, None] - np.float32((height - 1) / 2)
        x = np.arange(width, dtype=np.float32) - np.float32((width - 1) / 2)
        # Where each pixel comes from, in an image with a frame of mean colour two pixels wide.
        y, x = cos * y - sin * x, sin * y + cos * x
        y = np.clip(y + np.float32((height + 3) / 2), 0, height + 2)
        x = np.clip(x + np.float32((width + 3) / 2), 0, width + 2)
        top, left = np.floor(y), np.floor(x)
        y -= top
        x -= left
        corner = top.astype(np.intp) * (width + 4) + left.astype(np.intp)
        framed = np.zeros((len(image), height + 4, width + 4), np.float32)
        framed[:, 2:-2, 2:-2] = image
        rotated = np.empty_like(image)
        for pixels, result in zip(framed.reshape(len(image), -1), rotated, strict=True):
            upper = _between(pixels, corner, x)
            lower = _between(pixels[width + 4 :], corner, x)
            result[...] = upper + y * (lower - upper)
        return rotated


def _between(pixels: np.ndarray, left: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Interpolate between pixels and their right neighbours."""
    near, far = pixels.take(left), pixels[1:].take(left)
    return near + weight * (far - near)


@dataclass(frozen=True)
class Noise:
    """Add independent normal noise to each value.

    Parameters
    ----------
    std : float
        Its standard deviation, in those of the training images.
    """

    std: float = 0.1

    def __post_init__(self) -> None:
        _positive("std", self.std)

    def __call__(self, image: np.ndarray, draws: Draws) -> np.ndarray:
        """Add noise."""
        image += draws.normal(image.shape) * np.float32(self.std)
        return image


@dataclass(frozen=True)
class Cutout:
    """Cover a square with the mean colour (DeVries and Taylor 2017).

    Parameters
    ----------
    size : int
        Its side in pixels. Its centre is anywhere in the image, so that it may reach over the edge.
    """

    size: int = 8

    def __post_init__(self) -> None:
        integer("size", self.size, 1)

    def __call__(self, image: np.ndarray, draws: Draws) -> np.ndarray:
        """Cover a square."""
        _, height, width = image.shape
        y, x = (draws.below(n) - self.size // 2 for n in (height, width))
        image[:, max(y, 0) : y + self.size, max(x, 0) : x + self.size] = 0
        return image


@dataclass(frozen=True)
class Brightness:
    """Make the whole image lighter or darker.

    Parameters
    ----------
    amount : float
        At most, in standard deviations of the training images.
    """

    amount: float = 0.2

    def __post_init__(self) -> None:
        _positive("amount", self.amount)

    def __call__(self, image: np.ndarray, draws: Draws) -> np.ndarray:
        """Add a number of -amount to amount."""
        image += np.float32(draws.uniform(-self.amount, self.amount))
        return image


def augment_batch(
    images: np.ndarray, rows: np.ndarray, augmentation: Sequence[Augmentation], draws: Draws
) -> None:
    """Augment a batch in place.

    Parameters
    ----------
    images : numpy.ndarray
        Normalised, float32 of shape (B, C, H, W).
    rows : numpy.ndarray
        Their positions in the split, integers of shape (B,).
    augmentation : sequence of Augmentation
        What to do, in this order.
    draws : Draws
        Of the epoch.
    """
    for image, row in zip(images, rows.tolist(), strict=True):
        draws.start(row)
        changed = image
        for change in augmentation:
            changed = change(changed, draws)
        if changed.shape != image.shape:
            raise DataError(f"augmentation made an image of {changed.shape} out of {image.shape}")
        image[...] = changed


def _positive(name: str, value: float) -> None:
    if not 0 < value < math.inf:
        raise DataError(f"{name} is a positive number, not {value!r}")
