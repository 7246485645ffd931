import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_edge.sparse.apportion import apportion

WEIGHTS = st.lists(st.one_of(st.just(0.0), st.floats(0, 1e30)), min_size=1, max_size=12)


@given(WEIGHTS, st.data())
def test_parts_are_the_total_within_their_limits(weights, data):
    names = [f"layer{i}" for i in range(len(weights))]
    limits = {name: data.draw(st.integers(0, 100)) for name in names}
    total = data.draw(st.integers(0, sum(limits.values())))
    weights = dict(zip(names, weights, strict=True))
    parts = apportion(total, weights, limits)
    assert list(parts) == names
    assert sum(parts.values()) == total
    assert all(0 <= parts[name] <= limits[name] for name in names)
    # Who weighs more never gets less, unless a limit holds it back.
    for one in names:
        for other in names:
            if weights[one] > weights[other] and parts[one] < parts[other]:
                assert parts[one] == limits[one]


@pytest.mark.parametrize(
    ("total", "weights", "limits", "parts"),
    [
        (10, (1, 1, 1), (9, 9, 9), (4, 3, 3)),  # equal remainders: in order
        (7, (0.5, 0.3, 0.2), (9, 9, 9), (4, 2, 1)),  # 3.5, 2.1, 1.4
        (9, (8, 1, 1), (2, 9, 9), (2, 4, 3)),  # what is above the limit goes to the others
        (9, (8, 1, 0), (2, 3, 9), (2, 3, 4)),  # to one of no weight, when all others are full
        (5, (0, 0), (4, 6), (2, 3)),  # no weights: by the limits
        (0, (1, 1), (0, 0), (0, 0)),
    ],
)
def test_shares(total, weights, limits, parts):
    names = "abc"[: len(parts)]
    as_dict = (dict(zip(names, each, strict=True)) for each in (weights, limits))
    assert tuple(apportion(total, *as_dict).values()) == parts


def test_more_than_the_limits_is_refused():
    with pytest.raises(ValueError, match=r"cannot share 5 out within \{'a': 4\}"):
        apportion(5, {"a": 1.0}, {"a": 4})
