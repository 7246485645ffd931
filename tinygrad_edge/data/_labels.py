"""What follows from the labels of a data set: weights of classes, and parts with all classes."""

import numpy as np
from numpy.typing import ArrayLike

from ..errors import DataError

__all__ = ["class_weights", "hold_out"]


def class_weights(labels: ArrayLike, num_classes: int) -> np.ndarray:
    """Return weights that make each class count alike: N / (number of classes * its samples).

    They average 1 over the samples, so that a loss keeps its scale (King and Zeng 2001; the
    "balanced" weights of scikit-learn). A class without samples has weight 0.

    Parameters
    ----------
    labels : array_like of int, shape (N,)
        Each from 0 to `num_classes` - 1.
    num_classes : int
        How many classes there are.

    Returns
    -------
    numpy.ndarray
        float32 of shape (num_classes,).

    Raises
    ------
    DataError
        There are no labels, or one is not a class.

    Examples
    --------
    >>> import tinygrad_edge as te
    >>> te.data.class_weights([0, 0, 0, 1], 2)
    array([0.6666667, 2.       ], dtype=float32)
    """
    array = np.asarray(labels)
    if array.ndim != 1 or not array.size or array.dtype.kind not in "iu":
        raise DataError(
            f"labels are integers of shape (N,), not {array.dtype} of shape {array.shape}"
        )
    if array.min() < 0 or array.max() >= num_classes:
        raise DataError(
            f"labels go from 0 to {num_classes - 1}, not from {array.min()} to {array.max()}"
        )
    counts = np.bincount(array, minlength=num_classes)
    present = np.count_nonzero(counts)
    weights = np.zeros(num_classes, np.float32)
    np.divide(array.size, present * counts, out=weights, where=counts > 0, casting="same_kind")
    return weights


def hold_out(
    labels: np.ndarray, rank: np.ndarray, fraction: float
) -> tuple[np.ndarray, np.ndarray]:
    """Divide samples into two parts that both have all classes.

    Parameters
    ----------
    labels : numpy.ndarray
        int, shape (N,).
    rank : numpy.ndarray
        Shape (N,). Of each class, the samples of the lowest rank are held out.
    fraction : float
        How much of each class to hold out: at least one of two samples, and none of a single one.

    Returns
    -------
    kept, held_out : numpy.ndarray
        Positions in ascending order.
    """
    held = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        count = min(max(1, round(fraction * len(members))), len(members) - 1)
        held[members[np.argsort(rank[members], kind="stable")[:count]]] = True
    return np.flatnonzero(~held), np.flatnonzero(held)
