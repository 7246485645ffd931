import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_edge.data._philox import Draws, words

uint64 = st.integers(0, 2**64 - 1)


@given(seed=uint64, epoch=uint64, samples=st.lists(st.integers(0, 2**32), min_size=1, max_size=5))
def test_a_sample_begins_its_own_stream(seed, epoch, samples):
    draws = Draws(seed, epoch)
    for sample in samples:
        draws.start(sample)
        fresh = np.random.Philox(
            key=np.array([seed, epoch], np.uint64), counter=[0, 0, sample, 1]
        ).random_raw(5)
        assert [draws.below(2**64) for _ in range(5)] == fresh.tolist()


def test_draws_are_the_same_everywhere():
    """The numbers are part of what a snapshot promises: no NumPy and no machine may change them."""
    draws = Draws(1, 2)
    draws.start(3)
    assert [draws.below(1000) for _ in range(4)] == [739, 172, 540, 91]
    assert [draws.uniform(-1, 1) for _ in range(2)] == [
        -0.8692620623367309,
        0.12746994067616035,
    ]
    assert [float.hex(number) for number in draws.normal((3,)).tolist()] == [
        "-0x1.22444a0000000p+0",
        "-0x1.39897e0000000p-1",
        "0x1.c79bcc0000000p-2",
    ]


def test_a_sample_does_not_share_the_stream_of_the_order():
    draws = Draws(1, 2)
    draws.start(0)
    assert draws.below(2**64) != words(1, 1, 2)[0]


@pytest.mark.parametrize("limit", [1, 2, 7, 2**64])
def test_integers_are_in_range_and_uniform(limit):
    draws = Draws(0, 0)
    draws.start(0)
    drawn = np.array([draws.below(limit) / limit for _ in range(2000)])
    assert drawn.min() >= 0
    assert drawn.max() < 1
    assert abs(drawn.mean() - (limit - 1) / 2 / limit) < 0.03  # 5 standard deviations


def test_normal_numbers_are_nearly_normal():
    draws = Draws(0, 0)
    draws.start(0)
    drawn = draws.normal((1000, 1000))
    assert drawn.dtype == np.float32
    assert abs(drawn.mean()) < 0.005
    assert abs(drawn.std() - 1) < 0.005
    beyond = [(abs(drawn) > limit).mean() for limit in (1, 2, 3)]
    assert beyond == pytest.approx([0.3173, 0.0455, 0.0027], abs=0.006)
    assert abs(drawn).max() < 4.95
