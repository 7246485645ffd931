"""dropout_f32 and generator_advance against Philox in NumPy's uint64: exact."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from kernels.kernel_call import call
from kernels.samples import SETTINGS, normal, same_for_any_threads, same_numbers

LOW, SHIFT = np.uint64(0xFFFFFFFF), np.uint64(32)


def philox(counter, key):
    """Philox4x32-10 (Salmon et al. 2011): four words for four words of counter, two of key."""
    a, b, c, d = (np.asarray(word, np.uint64) for word in counter)
    low, high = (np.uint64(word) for word in key)
    for _ in range(10):
        first, second = a * np.uint64(0xD2511F53), c * np.uint64(0xCD9E8D57)
        a, b = second >> SHIFT ^ b ^ low, second & LOW
        c, d = first >> SHIFT ^ d ^ high, first & LOW
        low, high = low + np.uint64(0x9E3779B9) & LOW, high + np.uint64(0xBB67AE85) & LOW
    return a, b, c, d


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [  # the authors' known answers
        ([0] * 4, [0] * 2, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xA4093822, 0x299F31D0],
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_the_reference_gives_the_known_answers(counter, key, words):
    assert tuple(int(word) for word in philox(counter, key)) == words


def uniform(generator, first, site, samples, size):
    """The numbers in [0, 1) that csrc/kernels.h defines."""
    element = np.arange(size)
    sample = np.arange(first, first + samples)[:, None] % 2**32
    counter = [element // 4, sample, site, generator[2]]
    words = philox(counter, [generator[0] ^ generator[3], generator[1]])
    words = np.stack(np.broadcast_arrays(*words))
    word = words[element % 4, np.arange(samples)[:, None], element]
    return (word >> np.uint64(8)).astype(np.float32) * np.float32(2.0**-24)


def dropout(x, generator, first, site, probability, **options):
    """Run the kernel on x[samples][size]."""
    fields = {"samples": len(x), "size": x.shape[1], "site": site}
    inputs = [x, np.uint32(generator), np.int32([first]), np.float32([probability])]
    outputs = [(x.shape, np.float32)]
    status, (y,) = call("dropout_f32", "tge_dropout_params", fields, outputs, inputs, **options)
    assert status == 0
    return y


def check(x, generator, first, site, probability):
    u = uniform(np.uint32(generator), first, site, *x.shape)
    with np.errstate(all="ignore"):
        kept = x * (np.float32(1) / (np.float32(1) - np.float32(probability)))
    expected = np.where(u >= np.float32(probability), kept, np.float32(0))
    assert same_numbers(dropout(x, generator, first, site, probability), expected)
    assert same_numbers(dropout(x, generator, first, site, probability, in_place={0: 0}), expected)


words = st.integers(0, 2**32 - 1)


@SETTINGS
@hypothesis.given(
    samples=st.integers(0, 4),
    size=st.one_of(st.integers(0, 40), st.integers(250, 520)),
    generator=st.tuples(words, words, words, words),
    first=st.integers(-5, 1000),
    site=st.integers(0, 100),
    probability=st.sampled_from([0, 0.1, 0.5, 1]),
)
def test_dropout(isa, samples, size, generator, first, site, probability):
    check(normal((samples, size)), generator, first, site, probability)


def test_dropout_of_large_arrays(isa, threads):
    x = normal((3, 40_001))
    check(x, (1, 2, 3, 4), 0, 5, 0.3)
    assert same_for_any_threads(threads, lambda: [dropout(x, (1, 2, 3, 4), 0, 5, 0.3)])


def test_a_number_equal_to_the_probability_is_kept(isa):
    drawn = uniform(np.uint32((1, 2, 3, 4)), 0, 5, 1, 40)[0]
    y = dropout(np.ones((1, 40), np.float32), (1, 2, 3, 4), 0, 5, drawn[17])
    assert y[0, 17] > 0
    assert ((y[0] > 0) == (drawn >= drawn[17])).all()


def test_a_sample_draws_the_same_in_any_batch(isa):
    x = normal((7, 100))
    whole = dropout(x, (1, 2, 3, 4), 10, 5, 0.5)
    assert same_numbers(dropout(x[2:5].copy(), (1, 2, 3, 4), 12, 5, 0.5), whole[2:5])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_dropped_is_zero_whatever_it_was(isa, value):
    x = np.full((1, 1000), value, np.float32)
    y = dropout(x, (1, 2, 3, 4), 0, 0, 0.5)
    assert 300 < (y == 0).sum() < 700


@pytest.mark.parametrize(
    ("generator", "following"),
    [
        ((7, 8, 0, 0), (7, 8, 1, 0)),
        ((7, 8, 2**32 - 1, 5), (7, 8, 0, 6)),
        ((7, 8, 2**32 - 1, 2**32 - 1), (7, 8, 0, 0)),
    ],
)
@pytest.mark.parametrize("in_place", [None, {0: 0}])
def test_generator_advances_by_one_step(isa, generator, following, in_place):
    outputs, inputs = [((4,), np.uint32)], [np.uint32(generator)]
    fields = {"count": 4}
    name = "generator_advance"
    _, (y,) = call(name, "tge_count_params", fields, outputs, inputs, in_place=in_place)
    assert tuple(y) == following
