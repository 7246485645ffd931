"""What the strategies draw is what they say."""

import hypothesis
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_edge.functional as F
from tinygrad_edge.testing import strategies as tst

SETTINGS = hypothesis.settings(max_examples=50)


@SETTINGS
@given(tst.shapes(1, 3, 2, 5))
def test_shapes_keep_their_bounds(shape):
    assert 1 <= len(shape) <= 3
    assert all(2 <= n <= 5 for n in shape)


@SETTINGS
@given(tst.broadcastable_shapes(3))
def test_broadcastable_shapes_broadcast(shapes):
    assert len(np.broadcast_shapes(*shapes)) <= 4


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.uint8, np.bool_])
def test_arrays_have_their_dtype_and_bounds(dtype):
    @SETTINGS
    @given(tst.arrays(tst.shapes(), dtype, low=0, high=3, strided=True))
    def check(array):
        assert array.dtype == dtype
        assert ((array >= 0) & (array <= 3)).all()

    check()


def test_arrays_find_every_special_value_and_layout():
    def is_found(condition):
        drawn = tst.arrays((4, 3), special=True, strided=True)
        hypothesis.find(drawn, condition)

    for value in tst.SPECIAL:
        bits = np.float32(value).tobytes()
        is_found(lambda a, bits=bits: any(v.tobytes() == bits for v in a.reshape(-1)))
    is_found(lambda a: a.flags.c_contiguous and np.isfinite(a).all())
    is_found(lambda a: min(a.strides) < 0)
    is_found(lambda a: 4 < a.strides[0] < a.strides[1])


@SETTINGS
@given(tst.conv2d_configs())
def test_conv2d_configs_fit(config):
    x, w = np.ones(config.x_shape, np.float32), np.ones(config.w_shape, np.float32)
    assert F.conv2d(x, w, **config.attrs).shape == config.y_shape


@SETTINGS
@given(st.booleans().flatmap(lambda kind: st.tuples(st.just(kind), tst.conv2d_configs(kind))))
def test_conv2d_configs_are_depthwise_or_not(drawn):
    depthwise, config = drawn
    assert (config.groups > 1 and config.w_shape[1] == 1) is depthwise


@SETTINGS
@given(tst.pool2d_configs())
def test_pool2d_configs_fit(config):
    x = np.ones(config.x_shape, np.float32)
    assert F.max_pool2d(x, **config.attrs).shape == config.y_shape
    assert F.avg_pool2d(x, **config.attrs).shape == config.y_shape
