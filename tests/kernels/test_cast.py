"""cast, full and arange_i32 against NumPy: exact."""

import numpy as np
import pytest
from kernels.kernel_call import call
from kernels.samples import normal, same_for_any_threads, same_numbers

FLOATS = ["float32", "float64", "float16"]
INTEGERS = ["int32", "uint32", "uint16", "int8", "uint8"]
TYPES = [*FLOATS, *INTEGERS, "bool"]

# Where roundings and saturations change: ties and ends of float16, ends of the integers.
EDGES = [0, -0.0, np.nan, np.inf, -np.inf, 0.5, -0.5, -0.999, 1, -1, 127, 127.5, 128, -128, -129]
EDGES += [
    255,
    255.9,
    256,
    2**31 - 1,
    2**31,
    -(2**31),
    -(2**31) - 1,
    2**32 - 1,
    2**32,
    1e300,
    -1e300,
]
EDGES += [65504, 65519.99, 65520, 2.0**-24, 2.0**-25, 2.0**-25 * (1 + 2**-40), 3 * 2.0**-26, 1e-45]
EDGES += [
    1 + 2.0**-11,
    1 + 2.0**-11 + 2.0**-40,
    1 + 3 * 2.0**-11,
    1 + 2.0**-24,
    1 + 2.0**-24 + 2.0**-50,
]


def cast(x, to, code=None):
    """Convert an array; `code` names an element type that NumPy lacks."""
    from_code = f"TGE_{x.dtype.name.upper()}"
    fields = {"from": from_code, "to": code or f"TGE_{to.upper()}", "count": x.size}
    status, (y,) = call("cast", "tge_cast_params", fields, [(x.shape, to)], [x])
    assert status == 0
    return y


def samples(dtype):
    """Values of a type that reach all that can happen to them."""
    if dtype == "bool":
        return np.arange(1001) % 3 == 0
    rng = np.random.default_rng(0)
    if dtype in INTEGERS:
        ends = np.iinfo(dtype)
        return rng.integers(ends.min, ends.max, 1001, dtype=dtype, endpoint=True)
    spread = rng.standard_normal(3000) * 10.0 ** rng.integers(-9, 12, 3000)
    with np.errstate(over="ignore"):
        return np.concatenate([EDGES, spread]).astype(dtype)


def converted(x, to):
    """What a cast means."""
    with np.errstate(all="ignore"):
        if to == "bool":
            return x != 0
        if x.dtype.kind == "f" and to in INTEGERS:
            ends = np.iinfo(to)
            return np.clip(
                np.nan_to_num(np.trunc(x.astype(float)), nan=0), ends.min, ends.max
            ).astype(to)
        return x.astype(to)


@pytest.mark.parametrize("to", TYPES)
@pytest.mark.parametrize("dtype", TYPES)
def test_cast_between_any_types(isa, dtype, to):
    x = samples(dtype)
    assert same_numbers(cast(x, to), converted(x, to))


def test_cast_of_each_half(isa):
    halves = np.arange(65536, dtype=np.uint16).view(np.float16)
    floats = cast(halves, "float32")
    assert same_numbers(floats, halves.astype(np.float32))
    assert same_numbers(cast(floats, "float16"), halves)


def test_cast_rounds_between_halves_to_even(isa):
    halves = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float32)
    ties = (halves[1:] + halves[:-1]) / 2
    near = [ties, np.nextafter(ties, np.float32(0)), np.nextafter(ties, np.float32(np.inf))]
    x = np.concatenate([*near, *[-n for n in near]])
    assert same_numbers(cast(x, "float16"), x.astype(np.float16))


def test_cast_to_and_from_bfloat16(isa):
    """The upper half of a float32, rounded to nearest even; NumPy has no such type."""
    x = np.concatenate([samples("float32"), np.float32([1 + 2.0**-8, 1 + 3 * 2.0**-8, -3.4e38])])
    bits = x.view(np.uint32).astype(np.uint64)
    rounded = ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)
    y = cast(x, "float16", "TGE_BFLOAT16").view(np.uint16)
    nan = np.isnan(x)
    assert (y[~nan] == rounded[~nan]).all()
    assert ((y[nan] & 0x7FFF) > 0x7F80).all()

    halves = np.arange(65536, dtype=np.uint16).view(np.float16)
    fields = {"from": "TGE_BFLOAT16", "to": "TGE_FLOAT32", "count": 65536}
    outputs = [((65536,), np.float32)]
    _, (wide,) = call("cast", "tge_cast_params", fields, outputs, [halves])
    exact = (np.arange(65536, dtype=np.uint32) << 16).view(np.float32)
    assert same_numbers(wide, exact)


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257])
@pytest.mark.parametrize(("dtype", "to"), [("float32", "float16"), ("uint8", "float32")])
def test_cast_of_any_length(isa, dtype, to, size):
    x = samples(dtype)[:size]
    assert same_numbers(cast(x, to), converted(x, to))


@pytest.mark.parametrize(("dtype", "to"), [("float32", "float16"), ("float32", "int8")])
def test_cast_bits_are_the_same_for_any_threads(isa, threads, dtype, to):
    x = normal(100_003) * 50
    assert same_for_any_threads(threads, lambda: [cast(x, to)])


def full(dtype, count, value):
    """A contiguous array of one value."""
    fields = {"dtype": f"TGE_{dtype.upper()}", "count": count, "value": value}
    status, (y,) = call("full", "tge_full_params", fields, [((count,), dtype)], [])
    assert status == 0
    return y


@pytest.mark.parametrize("count", [0, 1, 5, 300_001])
@pytest.mark.parametrize("dtype", TYPES)
def test_full(isa, threads, dtype, count):
    for value in (0, 1, 3.7, -2, np.inf):
        expected = np.full(count, converted(np.float64([value]), dtype)[0])
        assert same_numbers(full(dtype, count, value), expected)
    assert same_for_any_threads(threads, lambda: [full(dtype, count, 3.7)])


@pytest.mark.parametrize("count", [0, 1, 1001])
def test_arange(isa, count):
    outputs = [((count,), np.int32)]
    status, (y,) = call("arange_i32", "tge_full_params", {"count": count}, outputs, [])
    assert status == 0
    assert same_numbers(y, np.arange(count, dtype=np.int32))
