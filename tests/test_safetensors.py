import errno
import json
import os
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tinygrad_edge.errors import FileError
from tinygrad_edge.safetensors import bfloat16, load, save

NUMPY_DTYPES = "f8 f4 f2 i8 i4 i2 i1 u8 u4 u2 u1 ?".split()
arrays = hnp.arrays(
    st.sampled_from(NUMPY_DTYPES), hnp.array_shapes(min_dims=0, min_side=0, max_dims=4, max_side=4)
)
# Hypothesis finds the two names that are taken among the constants of the module.
names = st.text().filter(lambda name: name not in ("__metadata__", "tinygrad_edge.crc32"))
named_arrays = st.dictionaries(names, arrays, max_size=4)
metadata = st.dictionaries(names, st.text(), max_size=3)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("safetensors") / "a.safetensors"


def assert_same(found, expected):
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        assert found[name].shape == array.shape
        assert found[name].tobytes() == array.tobytes()


def write(path, header, data=b""):
    """A file with any header at all: an object, or bytes as they are."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def entry(dtype="F32", shape=(2,), data_offsets=(0, 8)):
    return {"dtype": dtype, "shape": shape, "data_offsets": data_offsets}


# ---- what is written is read again


@given(tensors=named_arrays, strings=metadata)
def test_round_trip(path, tensors, strings):
    save(path, tensors, strings)
    found, found_strings = load(path)
    assert_same(found, tensors)
    assert found_strings == strings


def test_bfloat16_is_kept_apart_from_uint16(path):
    bits = np.array([0x3F80, 0xC000], np.uint16)
    save(path, {"half": bits.astype(bfloat16), "integer": bits})
    found, _ = load(path)
    assert found["half"].dtype.metadata == bfloat16.metadata
    assert found["integer"].dtype.metadata is None
    widened = (found["half"].astype(np.uint32) << 16).view(np.float32)
    np.testing.assert_array_equal(widened, [1, -2])


@pytest.mark.parametrize(
    "array",
    [np.arange(12.0).reshape(3, 4).T, np.arange(9)[::-2], np.arange(4, dtype=">i4"), np.float32(3)],
    ids=["transposed", "negative stride", "big endian", "scalar"],
)
def test_any_layout_is_written(path, array):
    save(path, {"a": array})
    found = load(path)[0]["a"]
    np.testing.assert_array_equal(found, array)
    assert found.shape == array.shape
    assert found.dtype == array.dtype.newbyteorder("<")


def test_result_can_be_written_to_and_is_aligned(path):
    save(path, {"byte": np.zeros(3, np.uint8), "wide": np.zeros(2)})
    found, _ = load(path)
    found["wide"] += 1
    header, data = split(path)
    assert header["wide"]["data_offsets"] == [0, 16]
    assert data % 8 == 0


def split(path):
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), 8 + length


def test_reading_holds_nothing_twice(path):
    tensors = {"a": np.ones(1_000_000), "b": np.ones(1_000_000)}
    save(path, tensors)
    tracemalloc.start()  # NumPy tells it of its arrays
    found, _ = load(path)
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert sum(array.nbytes for array in found.values()) == 16_000_000
    assert 16_000_000 < held < peak < 16_500_000


# ---- the reference implementation


@given(tensors=named_arrays, strings=metadata)
def test_reference_reads_what_is_written(path, tensors, strings):
    reference = pytest.importorskip("safetensors")
    save(path, tensors, strings)
    with reference.safe_open(path, framework="numpy") as file:
        found = {name: file.get_tensor(name) for name in tensors}
        assert set(file.keys()) == set(tensors)
        assert file.metadata().items() >= strings.items()
    assert_same(found, tensors)


@given(tensors=named_arrays.filter(bool), strings=metadata)  # of none it writes no valid JSON
def test_reference_is_read(path, tensors, strings):
    reference = pytest.importorskip("safetensors.numpy")
    reference.save_file(tensors, path, strings)
    found, found_strings = load(path)
    assert_same({name: found[name] for name in tensors}, tensors)
    assert found_strings == strings


def test_rewritten_by_the_reference(path):
    """A copy with its old checksum is sound; one with other numbers is not."""
    reference = pytest.importorskip("safetensors.numpy")
    tensors = {"b": np.arange(3), "a": np.arange(3, dtype=np.float32)}
    save(path, tensors, {"epoch": "3"})
    header, _ = split(path)
    reference.save_file(tensors, path, header["__metadata__"])
    assert load(path)[1] == {"epoch": "3"}
    reference.save_file({**tensors, "b": np.arange(1, 4)}, path, header["__metadata__"])
    with pytest.raises(FileError, match="must drop 'tinygrad_edge.crc32'"):
        load(path)


# ---- what cannot be written


@pytest.mark.parametrize(
    ("tensors", "strings", "match"),
    [
        ({"a": np.zeros(2, complex)}, {}, "'a' is complex128, the format has F64, "),
        ({"a": np.array(["x"])}, {}, "'a' is <U1"),
        ({"a": np.array([None])}, {}, "'a' is object"),
        ({"__metadata__": np.zeros(2)}, {}, "'__metadata__' cannot name a tensor"),
        ({3: np.zeros(2)}, {}, "3 cannot name a tensor"),
        ({}, {"epoch": 3}, "not 'epoch' to 3"),
        ({}, {"tinygrad_edge.crc32": "0"}, "is the checksum"),
    ],
)
def test_refuses_to_write(path, tensors, strings, match):
    path.write_bytes(b"old")
    with pytest.raises(FileError, match=f"cannot write .*a.safetensors: .*{match}"):
        save(path, tensors, strings)
    assert path.read_bytes() == b"old"


def test_a_full_disk_leaves_the_old_file(path, monkeypatch):
    def fsync(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    path.write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(FileError, match="cannot write .*: No space left on device"):
        save(path, {"a": np.arange(3)})
    assert path.read_bytes() == b"old"
    assert os.listdir(path.parent) == [path.name]


# ---- what is not read

HEADERS = {  # header, data, what the message says
    "not json": (b"{nope", b"", "not JSON"),
    "not utf-8": (b'{"\xff": 1}', b"", "not JSON"),
    "nan": (b'{"a": NaN}', b"", "no proper dtype"),
    "nested deeply": (b'{"a":' + b"[" * 100_000, b"", "not JSON"),
    "long integer": (b'{"a":' + b"9" * 5000 + b"}", b"", "not JSON|no proper"),
    "array": (b"[]", b"", "begins with b'\\[\\]'"),
    "empty": (b"", b"", "begins with b''"),
    "text after": (b"{} {}", b"", "not JSON"),
    "same name twice": (b'{"a": {}, "a": {}}', b"", "'a' twice"),
    "same field twice": (b'{"a": {"dtype": "F32", "dtype": "I32"}}', b"", "'dtype' twice"),
    "entry is a number": ({"a": 1}, b"", "'a' has no proper dtype"),
    "field missing": ({"a": {"dtype": "F32", "shape": [2]}}, bytes(8), "no proper dtype"),
    "unknown dtype": ({"a": entry("F31")}, bytes(8), "'a' is 'F31', known are F64, F32"),
    "dtype is a list": ({"a": entry(["F32"])}, bytes(8), "no proper dtype"),
    "shape is a number": ({"a": entry(shape=2)}, bytes(8), "no proper dtype"),
    "axis is negative": ({"a": entry(shape=[-2, -1])}, bytes(8), "impossible shape"),
    "axis is a float": ({"a": entry(shape=[2.0])}, bytes(8), "impossible shape"),
    "axis is a boolean": ({"a": entry(shape=[2, True])}, bytes(8), "impossible shape"),
    "axis is huge": ({"a": entry(shape=[2**70])}, bytes(8), "impossible shape"),
    "too many axes": ({"a": entry(shape=[1] * 40 + [2])}, bytes(8), "impossible shape"),
    "no array is so large": (
        {"a": entry(shape=[0, 2**62, 2**62], data_offsets=(0, 0))},
        b"",
        "too large",
    ),
    "shape and bytes differ": ({"a": entry(shape=[3])}, bytes(8), "takes 12 bytes, not 8"),
    "offset before the data": ({"a": entry(data_offsets=(-4, 4))}, bytes(8), "impossible data_off"),
    "offsets swapped": ({"a": entry(data_offsets=(8, 0))}, bytes(8), "impossible data_off"),
    "offset is a float": ({"a": entry(data_offsets=(0, 8.0))}, bytes(8), "no proper"),
    "one offset": ({"a": entry(data_offsets=(8,))}, bytes(8), "no proper"),
    "offset is huge": ({"a": entry(data_offsets=(0, 2**70))}, bytes(8), "impossible data_off"),
    "overlap": ({"a": entry(), "b": entry(data_offsets=(4, 12))}, bytes(12), "at byte 4, not 8"),
    "same bytes": ({"a": entry(), "b": entry()}, bytes(8), "at byte 0, not 8"),
    "gap": ({"a": entry(), "b": entry(data_offsets=(9, 17))}, bytes(17), "at byte 9, not 8"),
    "data cut off": ({"a": entry()}, bytes(7), "8 bytes of tensors are announced, 7 are there"),
    "data too long": ({"a": entry()}, bytes(9), "8 bytes of tensors are announced, 9 are there"),
    "not a boolean": ({"a": entry("BOOL", data_offsets=(0, 2))}, b"\1\2", "one of its bytes is 2"),
    "metadata is a list": ({"__metadata__": []}, b"", "metadata does not map"),
    "metadata is no text": ({"__metadata__": {"a": 1}}, b"", "metadata does not map"),
}


@pytest.mark.parametrize(("header", "data", "match"), HEADERS.values(), ids=HEADERS)
def test_refuses_to_read(path, header, data, match):
    write(path, header, data)
    with pytest.raises(FileError, match=f"a.safetensors is no intact safetensors file: .*{match}"):
        load(path)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "0 bytes does not fit into a file of 0"),
        (b"\x08", "8 bytes does not fit into a file of 1"),
        (b"\xff" * 8 + b"{}", "18446744073709551615 bytes does not fit"),
        (b"\x03" + bytes(7) + b"{}", "3 bytes does not fit into a file of 10"),
    ],
)
def test_refuses_a_length_beyond_the_file(path, content, match):
    path.write_bytes(content)
    with pytest.raises(FileError, match=match):
        load(path)


def test_refuses_a_header_over_the_limit(path):
    with open(path, "wb") as file:
        file.write((200_000_000).to_bytes(8, "little"))
        file.truncate(300_000_000)  # a hole, it takes no space
    with pytest.raises(FileError, match="over the limit of 100000000"):
        load(path)
    path.unlink()


def test_message_stays_short(path):
    write(path, {"a" * 100_000: 1})
    with pytest.raises(FileError) as caught:
        load(path)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("name", ["missing", "."])
def test_names_a_file_that_cannot_be_opened(tmp_path, name):
    with pytest.raises(FileError, match=f"cannot read .*{tmp_path.name}"):
        load(tmp_path / name)


# ---- damage


@pytest.fixture(scope="module")
def intact(path):
    rng = np.random.default_rng(0)
    tensors = {
        "conv.weight": rng.standard_normal((4, 1, 3, 3)).astype(np.float32),
        "steps": np.array(7, np.int64),
        "mask": rng.random(5) < 0.5,
        "none": np.zeros((0, 3), np.float16),
    }
    save(path, tensors, {"epoch": "3"})
    return tensors, path.read_bytes()


def assert_same_or_refused(path, content, tensors):
    path.write_bytes(content)
    try:
        found, _ = load(path)
    except FileError:
        return
    assert_same(found, tensors)


@settings(max_examples=500)
@given(st.data())
def test_damaged_bytes(path, intact, data):
    tensors, content = intact
    damaged = bytearray(content)
    start = data.draw(st.integers(0, len(content) - 1))
    patch = data.draw(st.binary(min_size=1, max_size=8))
    damaged[start : start + len(patch)] = patch
    assert_same_or_refused(path, bytes(damaged), tensors)


def test_every_single_bit(path, intact):
    tensors, content = intact
    for bit in range(8 * len(content)):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        assert_same_or_refused(path, bytes(damaged), tensors)


def test_every_truncation(path, intact):
    _, content = intact
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(FileError):
            load(path)


@given(st.binary(max_size=60))
def test_arbitrary_bytes(path, content):
    try:
        path.write_bytes(content)
        load(path)
    except FileError:
        pass


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["dtype", "shape", "data_offsets", "__metadata__", "a"]), inner
            )
        ),
    ).filter(lambda value: isinstance(value, dict))
)
def test_arbitrary_headers(path, header):
    write(path, header, bytes(8))
    try:
        load(path)
    except FileError:
        pass
