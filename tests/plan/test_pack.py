"""Packing: no overlap, aligned, and near the bound."""

from hypothesis import given
from hypothesis import strategies as st

from tinygrad_edge.plan.pack import ALIGNMENT, Block, aligned, live_bytes, pack

blocks = st.lists(
    st.builds(
        lambda start, life, nbytes: Block(start, start + life, nbytes),
        st.integers(0, 30),
        st.integers(0, 15),
        st.integers(0, 5000),
    ),
    max_size=40,
)


@given(blocks)
def test_live_blocks_do_not_overlap(found):
    offsets, height = pack(found)
    for i, (a, at) in enumerate(zip(found, offsets, strict=True)):
        assert at % ALIGNMENT == 0
        assert 0 <= at and at + a.nbytes <= height
        for b, other in zip(found[:i], offsets[:i], strict=True):
            if a.start <= b.end and b.start <= a.end and a.nbytes and b.nbytes:
                assert at + a.nbytes <= other or other + b.nbytes <= at


@given(blocks)
def test_height_is_at_least_what_is_live(found):
    _, height = pack(found)
    assert height >= max(live_bytes(found), default=0)


def test_a_stack_is_packed_without_loss():
    """Textbook backprop: what is made first dies last."""
    found = [Block(i, 39 - i, 100 * (i % 7 + 1)) for i in range(20)]
    _, height = pack(found)
    assert height == max(live_bytes([b._replace(nbytes=aligned(b.nbytes)) for b in found]))


def test_same_blocks_same_offsets():
    found = [Block(i % 5, i % 5 + i % 3, 64 * (i % 4 + 1)) for i in range(30)]
    assert pack(found) == pack(found)
