"""Functions that no layer tests: losses against PyTorch, joins against NumPy, and refusals."""

import numpy as np
import pytest

import tinygrad_edge as te
from tinygrad_edge.errors import DataError, DTypeError, ShapeError

F = te.functional

LOGITS = np.float32([[0.5, -1.0, 2.0, 0.0], [1.5, 0.25, -0.75, 3.0], [-2.0, 1.0, 0.5, -0.5]])
LABELS = [2, 0, 1]
WEIGHT = np.float32([1.0, 0.5, 2.0, 0.0])


@pytest.mark.parametrize(
    ("weight", "smoothing", "loss"),
    # torch.nn.functional.cross_entropy of PyTorch 2.13 in float64.
    [
        (None, 0.0, 0.914598065745),
        (None, 0.1, 1.02709806575),
        (None, 1.0, 2.03959806575),
        (WEIGHT, 0.0, 0.791615643145),
        (WEIGHT, 0.1, 0.867656076618),
    ],
)
def test_cross_entropy_is_pytorchs(weight, smoothing, loss, each_runtime):
    found = F.cross_entropy(LOGITS, LABELS, weight, smoothing)
    np.testing.assert_allclose(found.item(), loss, rtol=1e-6)
    assert te.testing.gradcheck(lambda x: F.cross_entropy(x, LABELS, weight, smoothing), LOGITS)


def test_cross_entropy_of_huge_logits_stays_finite(each_runtime):
    loss = F.cross_entropy(np.float32([[1e4, -1e4], [1e30, 0.0]]), [1, 0])
    assert loss.item() == 1e4


def test_mse_loss(each_runtime, normal):
    x, y = normal(3, 4), normal(3, 4)
    expected = np.mean((x.astype(np.float64) - y) ** 2)
    np.testing.assert_allclose(F.mse_loss(x, y).item(), expected, rtol=1e-6)


def test_joins_and_padding_are_numpys(each_runtime, normal):
    x, y = normal(2, 3), normal(2, 3)
    assert np.array_equal(F.concatenate([x, y], axis=-1).numpy(), np.concatenate([x, y], -1))
    for axis in range(-3, 3):
        assert np.array_equal(F.stack([x, y], axis).numpy(), np.stack([x, y], axis))
    widths = [(1, 0), (2, 3)]
    assert np.array_equal(F.pad(x, widths).numpy(), np.pad(x, widths))
    assert np.array_equal(F.where(x > 0, x, -1).numpy(), np.where(x > 0, x, -1))
    assert np.array_equal(F.where(x > 0, 2, y).numpy(), np.where(x > 0, 2, y))


def test_one_hot_rows(each_runtime):
    expected = np.eye(3, dtype=np.float32)[[2, 0]]
    assert np.array_equal(F.one_hot([2, 0], 3).numpy(), expected)
    assert np.array_equal(F.one_hot([3, -1], 3).numpy(), np.zeros((2, 3)))
    assert F.one_hot([[1], [2]], 3, "int32").numpy().tolist() == [[[0, 1, 0]], [[0, 0, 1]]]


def test_normalising_an_empty_batch_gives_one():
    assert F.layer_norm(np.zeros((0, 3)), (3,), np.ones(3)).shape == (0, 3)
    assert F.group_norm(np.zeros((0, 4, 2, 2)), 2).numpy().shape == (0, 4, 2, 2)


X = np.ones((2, 3), np.float32)
IMAGE = np.ones((1, 4, 6, 6), np.float32)
KERNEL = np.ones((1, 4, 3, 3), np.float32)
WRONG = {
    "linear, inner size": (lambda: F.linear(X, np.ones((2, 4))), "inner sizes 3 and 4 differ"),
    "linear, bias": (
        lambda: F.linear(X, np.ones((1, 3)), [1, 2]),
        r"linear: the bias must be \[1\], got \[2\]",
    ),
    "conv2d, bias": (
        lambda: F.conv2d(IMAGE, KERNEL, np.ones(2)),
        r"conv2d: the bias must be \[1\], got \[2\]",
    ),
    "conv2d, stride": (lambda: F.conv2d(IMAGE, KERNEL, stride=(1, 2, 3)), "stride must be an int"),
    "conv2d, padding": (lambda: F.conv2d(IMAGE, KERNEL, padding=0.5), "padding must be an int"),
    "conv2d, groups that do not divide": (
        lambda: F.conv2d(IMAGE, np.ones((3, 1, 3, 3)), groups=3),
        "^conv2d: 4 channels in 3 groups need weights",
    ),
    "conv2d, channels of a group": (
        lambda: F.conv2d(IMAGE, np.ones((4, 2, 3, 3)), groups=4),
        "^conv2d: 4 channels in 4 groups need weights",
    ),
    "adaptive_avg_pool2d, size": (
        lambda: F.adaptive_avg_pool2d(IMAGE, 0),
        r"adaptive_avg_pool2d: cannot make \[0, 0\] pixels of \[1, 4, 6, 6\]",
    ),
    "group_norm, groups": (lambda: F.group_norm(IMAGE, 3), "3 groups do not divide the channels"),
    "group_norm, weight": (
        lambda: F.group_norm(IMAGE, 2, np.ones(1)),
        r"group_norm: the weight must be \[4\], got \[1\]",
    ),
    "layer_norm, shape": (
        lambda: F.layer_norm(X, (2,)),
        r"layer_norm: expected \[\.\.\., \*\[2\]\], got \[2, 3\]",
    ),
    "layer_norm, bias": (
        lambda: F.layer_norm(X, (3,), None, np.ones(1)),
        r"layer_norm: the bias must be \[3\], got \[1\]",
    ),
    "mse_loss, shapes": (
        lambda: F.mse_loss(X, np.ones(3)),
        r"mse_loss: the second tensor must be \[2, 3\], got \[3\]",
    ),
    "cross_entropy, logits": (
        lambda: F.cross_entropy(np.ones(3), [0]),
        r"cross_entropy: needs logits \[N, classes\], got \[3\]",
    ),
    "cross_entropy, empty": (
        lambda: F.cross_entropy(np.ones((0, 3)), np.ones(0, np.int32)),
        "the mean over an empty batch does not exist",
    ),
    "cross_entropy, smoothing": (
        lambda: F.cross_entropy(X, [0, 1], label_smoothing=1.5),
        r"cross_entropy: label_smoothing must be in \[0, 1\], got 1.5",
    ),
    "dropout, probability": (
        lambda: F.dropout(X, -0.1),
        "dropout: the probability must be between 0 and 1, got -0.1",
    ),
    "stack, nothing": (lambda: F.stack([]), "stack: there are no tensors to join"),
    "stack, axis": (lambda: F.stack([X], 3), "stack: axis 3 is out of range for 3 axes"),
    "pad, axes": (lambda: F.pad(X, [(1, 1)]), r"pad: needs \(before, after\) for each of 2 axes"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_is_refused(name):
    call, message = WRONG[name]
    with pytest.raises(ValueError, match=message):
        call()


def test_labels_are_integers_and_classes():
    for call in (lambda y: F.cross_entropy(X, y), lambda y: F.one_hot(y, 3)):
        with pytest.raises(DTypeError, match="labels must be integers, got float32"):
            call([0.0, 1.0])
    with pytest.raises(DataError, match="label 3 at position 1"):
        F.cross_entropy(X, [0, 3]).item()
    with pytest.raises(ShapeError, match=r"labels \[N\]"):
        F.cross_entropy(X, [0, 1, 2])
