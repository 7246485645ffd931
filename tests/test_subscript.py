"""Indexing as NumPy's, values and gradients."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import tinygrad_edge as te
from tinygrad_edge.errors import DTypeError, ShapeError


@given(
    st.data(),
    hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5),
)
def test_basic_indices_are_numpys(data, shape):
    key = data.draw(hnp.basic_indices(shape, allow_newaxis=True, allow_ellipsis=True, max_dims=6))
    array = np.arange(np.prod(shape, dtype=int), dtype=np.float32).reshape(shape)
    np.testing.assert_array_equal(te.Tensor(array)[key].numpy(), array[key])


@pytest.mark.parametrize(
    "key", [np.s_[[2, 0, 0]], np.s_[:, [1, -1]], np.s_[::-1, None, [[0, 1], [1, 2]]], np.s_[1, [0]]]
)
def test_one_list_of_integers(key):
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    x = te.Tensor(array, requires_grad=True)
    np.testing.assert_array_equal(x[key].numpy(), array[key])
    weights = np.random.default_rng(0).standard_normal(array[key].shape).astype(np.float32)
    (x[key] * te.Tensor(weights)).sum().backward()
    expected = np.zeros_like(array)
    np.add.at(expected, key, weights)
    np.testing.assert_allclose(x.grad.numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("key", "error", "message"),
    [
        (np.s_[3], ShapeError, "index 3 is out of range for axis 0 of 3"),
        (np.s_[0, 0, 0], ShapeError, "does not fit 2 axes"),
        (np.s_[..., ...], ShapeError, "does not fit 2 axes"),
        (np.s_[[0], [1]], ShapeError, "at most one"),
        (np.s_[[True, False, True]], DTypeError, "use `where`"),
        (np.s_[[0.5]], DTypeError, "must be integers"),
    ],
)
def test_what_does_not_fit_is_refused(key, error, message):
    with pytest.raises(error, match=message):
        te.Tensor(np.zeros((3, 4)))[key]
