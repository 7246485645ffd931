"""Bringing each channel to mean 0 and standard deviation 1."""

from dataclasses import dataclass

import numpy as np

from ..errors import DataError
from ._images import Images

__all__ = ["BLOCK_BYTES", "Normalisation"]

BLOCK_BYTES = 1 << 20  # of float64, made at a time while all images are gone through


@dataclass(frozen=True)
class Normalisation:
    """Brings each channel to mean 0 and standard deviation 1.

    Parameters
    ----------
    mean, std : tuple of float
        One a channel, in the units of the stored images (0 to 255, say).
    fill_missing : bool
        Take NaN for a missing value, and put the channel's mean in its place: a 0, normalised.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    fill_missing: bool = False

    @classmethod
    def of(cls, images: Images, fill_missing: bool = False) -> "Normalisation":
        """Take the statistics of `images`, a block of them at a time.

        A channel that does not vary, or has no value at all, keeps its scale (std 1). For uint8
        images the sums are exact.

        Raises
        ------
        DataError
            A channel holds infinity, numbers whose squares overflow, or NaN that is not to be
            filled.
        """
        samples, channels, height, width = images.shape
        total, squares = np.zeros(channels), np.zeros(channels)
        count = np.full(channels, samples * height * width)
        rows = max(1, BLOCK_BYTES // (8 * channels * height * width))
        with np.errstate(over="ignore", invalid="ignore"):  # told of below
            for start in range(0, samples, rows):
                block = images[start : start + rows].astype(np.float64)
                if fill_missing:
                    missing = np.isnan(block)
                    block[missing] = 0
                    count -= missing.sum(axis=(0, 2, 3))
                total += block.sum(axis=(0, 2, 3))
                squares += np.square(block, out=block).sum(axis=(0, 2, 3))
        wrong = np.flatnonzero(~np.isfinite(squares))
        if len(wrong):
            raise DataError(f"channel {wrong[0]} of the images holds NaN, infinity or huge numbers")
        mean = total / np.maximum(count, 1)
        std = np.sqrt(np.maximum(squares / np.maximum(count, 1) - mean**2, 0))
        # Of a constant channel, rounding makes up to 1e-7 of the mean; below tiny is no divisor.
        std[std <= 1e-6 * np.abs(mean) + np.finfo(np.float32).tiny] = 1
        return cls(tuple(mean.tolist()), tuple(std.tolist()), fill_missing)

    def __call__(self, images: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Normalise an array of shape (N, C, H, W) into a new float32 one, or into `out`."""
        if out is None:
            out = np.empty(images.shape, np.float32)
        out[...] = images
        out -= np.array(self.mean, np.float32)[:, None, None]
        out /= np.array(self.std, np.float32)[:, None, None]
        if self.fill_missing:
            out[np.isnan(out)] = 0
        return out
