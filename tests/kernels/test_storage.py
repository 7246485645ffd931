"""Saved values in fewer bits: the C kernels against what csrc/kernels.h defines, to the bit."""

import math

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from kernels.kernel_call import call
from kernels.samples import SETTINGS, SPECIAL, normal, same_for_any_threads, same_numbers
from kernels.test_random import philox

GENERATOR = np.uint32([1, 2, 3, 4])
GROUP = 256


def one(name, struct, fields, output, *inputs, **options):
    """The only output of a call that is not refused."""
    status, (y,) = call(name, struct, fields, [output], inputs, **options)
    assert status == 0
    return y


# ---- float16, bfloat16 ----


def encoded(kernel, x):
    return call(kernel, "tge_count_params", {"count": x.size}, [((2 * x.size,), np.uint8)], [x])


def bfloat16(x):
    return encoded("bfloat16_encode_f32", x)


@pytest.mark.parametrize("size", [0, 1, 17, 255, 1000])
def test_float16_is_numpys(isa, size):
    x = np.concatenate([SPECIAL[np.abs(SPECIAL) < 65_520], normal(2000)])[:size]
    status, (y,) = encoded("float16_encode_f32", x)
    assert status == 0
    assert np.array_equal(y.view(np.uint16), x.astype(np.float16).view(np.uint16))


@pytest.mark.parametrize("size", [0, 1, 17, 255, 1000])
def test_bfloat16_there_and_back(isa, size):
    x = np.concatenate([SPECIAL[np.abs(SPECIAL) < 3e38], normal(2000)])[:size]
    bits = x.view(np.uint32).astype(np.uint64)
    status, (y,) = bfloat16(x)
    assert status == 0
    assert np.array_equal(y.view(np.uint16), (bits + 0x7FFF + (bits >> 16 & 1)) >> 16)
    output = ((size,), np.float32)
    back = one("bfloat16_decode_f32", "tge_count_params", {"count": size}, output, y)
    assert same_numbers(back, (y.view(np.uint16).astype(np.uint32) << 16).view(np.float32))
    assert (np.abs(back - x) <= 2.0**-8 * np.abs(x) + 2.0**-134).all()  # half a unit in the last


@pytest.mark.parametrize(
    "kernel, bad",
    [
        *(("bfloat16_encode_f32", bad) for bad in (np.nan, np.inf, -3.4e38)),
        ("float16_encode_f32", -65_520),
    ],
)
def test_16_bits_refuse_the_first_that_is_not_finite(isa, threads, kernel, bad):
    x = normal(100_000)
    x[[70_000, 30_001]] = bad
    for count in (1, 3):
        threads(count)
        assert encoded(kernel, x)[0] == 30_002


# ---- int8 ----


def int8(x, generator=GENERATOR, first=0, site=0):
    """The kernel on x[samples][size]."""
    fields = {"samples": x.shape[0], "size": x.shape[1], "site": site}
    outputs = [(x.shape, np.int8), ((len(x), -(-x.shape[1] // GROUP)), np.float32)]
    inputs = [x, generator, np.int32([first])]
    return call("int8_encode_f32", "tge_dropout_params", fields, outputs, inputs)


def from_int8(q, scale):
    fields = {"samples": q.shape[0], "size": q.shape[1], "site": 0}
    output = (q.shape, np.float32)
    return one("int8_decode_f32", "tge_dropout_params", fields, output, q, scale)


def expected_int8(x, generator, first, site):
    """Element by element, as the definition reads."""
    samples, size = x.shape
    element = np.arange(size)
    sample = np.arange(first, first + samples)[:, None] % 2**32
    key = [generator[0] ^ generator[3], generator[1]]
    words = np.stack(np.broadcast_arrays(*philox([element // 16, sample, site, generator[2]], key)))
    word = words[element % 16 // 4, np.arange(samples)[:, None], element]
    byte = word >> np.uint64(8) * (element % 4).astype(np.uint64) & np.uint64(0xFF)
    q, scales = np.empty(x.shape, np.int8), []
    for start in range(0, size, GROUP):
        group = slice(start, start + GROUP)
        largest = np.abs(x[:, group]).max(1, keepdims=True)
        whole = largest >= 2.0**-100
        inverse = np.where(whole, np.float32(127) / np.where(whole, largest, 1), np.float32(0))
        moved = x[:, group] * inverse
        moved += (byte[:, group].astype(np.float32) + np.float32(0.5)) / 256 + np.float32(128)
        q[:, group] = np.floor(moved) - 128
        scales.append(np.where(whole, largest / np.float32(127), np.float32(0)))
    empty = np.empty((samples, 0), np.float32)
    return q, np.concatenate(scales, 1) if scales else empty


words = st.integers(0, 2**32 - 1)


@SETTINGS
@hypothesis.given(
    samples=st.integers(0, 4),
    size=st.one_of(st.integers(0, 40), st.integers(250, 520)),
    generator=st.tuples(words, words, words, words),
    first=st.integers(-5, 1000),
    site=st.integers(0, 100),
    size_of=st.sampled_from([1.0, 1e-31, 7e-31, 1e37]),
)
def test_int8_is_the_definition_and_off_by_less_than_a_step(
    isa, samples, size, generator, first, site, size_of
):
    x = normal((samples, size)) * np.float32(size_of)
    status, (q, scale) = int8(x, np.uint32(generator), first, site)
    assert status == 0
    expected = expected_int8(x, np.uint32(generator), first, site)
    assert np.array_equal(q, expected[0])
    assert same_numbers(scale, expected[1])
    back = from_int8(q, scale)
    steps = np.repeat(scale, GROUP, axis=1)[:, :size]
    assert same_numbers(back, q * steps)
    # A threshold lies within 1/512 of each end of a step; three roundings of at most 127 add less.
    assert (np.abs(back - x) < np.maximum(steps, 2.0**-100)).all()


def test_int8_is_right_on_average(isa):
    """And exact for zeros and for the largest of a group."""
    x = np.linspace(-1, 1, GROUP, dtype=np.float32)
    x[[0, 128]] = -1, 0
    many = np.repeat(x[None], 4000, axis=0)
    status, (q, scale) = int8(many)
    assert status == 0
    error = (from_int8(q, scale) - many) * 127
    # The mean of 4000 draws of a variance of at most 1/4 step is within 5 deviations, and its
    # expectation within half of the distance between thresholds.
    assert np.abs(error.mean(0)).max() <= 1 / 512 + 5 * 0.5 / math.sqrt(4000)
    assert (q[:, [0, 128]] == [-127, 0]).all()
    assert np.unique(q[:, 77]).size == 2


def test_int8_draws_by_sample_number_alone(isa, threads):
    x = normal((6, 700))
    assert same_for_any_threads(threads, lambda: int8(np.repeat(x, 60, axis=0))[1])
    _, (whole, _) = int8(x)
    halves = [int8(part, first=first)[1][0] for first, part in ((0, x[:3]), (3, x[3:]))]
    assert np.array_equal(whole, np.concatenate(halves))
    others = [int8(x, site=1), int8(x, GENERATOR + np.uint32([0, 0, 1, 0]))]
    assert all((other[1][0] != whole).any() for other in others)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_int8_refuses_the_first_that_is_not_finite(isa, threads, bad):
    x = normal((3, 50_000))
    x[2, 7] = x[1, 49_999] = x[1, 30_000] = bad
    for count in (1, 3):
        threads(count)
        assert int8(x)[0] == 80_001


# ---- bits ----


@SETTINGS
@hypothesis.given(
    size=st.one_of(st.integers(0, 70), st.integers(32_700, 32_800)),
    high=st.sampled_from([math.inf, 6.0]),
    seed=st.integers(0, 9),
)
def test_masks(isa, size, high, seed):
    x = np.resize(np.concatenate([SPECIAL, 5 * normal(1001, seed)]), size).astype(np.float32)
    fields = {"count": size, "bits": 1, "high": high}
    bits = one("mask_encode_f32", "tge_pack_params", fields, ((-(-size // 8),), np.uint8), x)
    expected = (x > 0) & (x < high)
    assert np.array_equal(bits, np.packbits(expected, bitorder="little"))
    output = ((size,), np.float32)
    ones = one("mask_decode_f32", "tge_pack_params", fields, output, bits)
    assert same_numbers(ones, expected.astype(np.float32))
    g = x[::-1].copy()
    for options in ({}, {"in_place": {0: 0}}):
        y = one("mask_apply_f32", "tge_pack_params", fields, output, g, bits, **options)
        assert same_numbers(y, np.where(expected, g, np.float32(0)))


def test_mask_bits_are_the_same_for_any_threads(isa, threads):
    x = normal(100_003)
    fields = {"count": x.size, "bits": 1, "high": 1.0}
    output = ((-(-x.size // 8),), np.uint8)
    assert same_for_any_threads(
        threads, lambda: [one("mask_encode_f32", "tge_pack_params", fields, output, x)]
    )


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("size", [0, 1, 7, 8, 1001, 70_001])
def test_small_numbers(isa, threads, bits, size):
    x = np.random.default_rng(0).integers(0, 2**bits, size).astype(np.uint8)
    fields = {"count": size, "bits": bits, "high": 0.0}
    output = ((-(-size * bits // 8),), np.uint8)
    packed = one("pack_u8", "tge_pack_params", fields, output, x)
    number = (x[:, None] >> np.arange(bits, dtype=np.uint8)) & 1
    assert np.array_equal(packed, np.packbits(number.ravel(), bitorder="little"))
    back = one("unpack_u8", "tge_pack_params", fields, ((size,), np.uint8), packed)
    assert np.array_equal(back, x)


# ---- what storing would lose ----


def losses(x):
    fields = {"samples": x.shape[0], "size": x.shape[1], "site": 0}
    return one("storage_losses_f32", "tge_dropout_params", fields, ((4,), np.float32), x)


@pytest.mark.parametrize("size_of", [1.0, 1e-6, 1e5])
def test_losses_are_those_of_storing(isa, size_of):
    x = normal((9, 700)) * np.float32(size_of)
    x[:, ::3] = 0
    largest, tiny, half, int8_loss = losses(x)
    assert largest == np.abs(x).max()
    assert tiny == np.float32(((np.abs(x) < 2.0**-14) & (x != 0)).sum() / (x != 0).sum())
    rms = np.sqrt((x.astype(np.float64) ** 2).mean())
    with np.errstate(over="ignore"):
        expected = np.sqrt(((x.astype(np.float64) - x.astype(np.float16)) ** 2).mean()) / rms
    if size_of == 1e5:
        assert np.isinf(half) and np.isinf(expected)
    else:
        # The square of each of 256 terms is rounded, and so is each sum.
        assert abs(half - expected) <= 300 * 2.0**-24 * expected
    found = from_int8(*int8(x)[1]) - x
    # 4200 random roundings: their mean square is within 10 % of what is expected.
    assert abs(int8_loss * rms / np.sqrt((found.astype(np.float64) ** 2).mean()) - 1) < 0.1


def test_losses_of_nothing_and_of_what_is_not_finite(isa, threads):
    assert (losses(np.zeros((2, 3), np.float32)) == 0).all()
    assert (losses(np.zeros((0, 3), np.float32)) == 0).all()
    for bad in (np.nan, np.inf):
        x = normal((3, 50_000))
        x[2, 7] = bad
        assert not np.isfinite(losses(x)[[0, 2, 3]]).any()
    assert same_for_any_threads(threads, lambda: [losses(normal((3, 50_000)))])
