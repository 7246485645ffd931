import gzip
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tinygrad_edge.data._idx import find_idx, open_idx_images, read_idx
from tinygrad_edge.data._storage import FileRows, Scratch
from tinygrad_edge.errors import DataError, FileError

IMAGES = bytes([0, 0, 8, 3]) + np.array([2, 3, 4], ">u4").tobytes() + bytes(range(24))
ZIPPED = gzip.compress(IMAGES, mtime=0)


@given(array=hnp.arrays(np.uint8, hnp.array_shapes(max_dims=3)), zipped=st.booleans())
def test_reads(tmp_path_factory, array, zipped):
    content = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    content += array.tobytes()
    path = tmp_path_factory.getbasetemp() / ("images.gz" if zipped else "images")
    path.write_bytes(gzip.compress(content) if zipped else content)
    np.testing.assert_array_equal(read_idx(path, array.ndim), array)


REFUSED = {  # name, content, what the message says
    "labels for images": (
        "a",
        b"\0\0\x08\x01" + IMAGES[4:],
        "number 0x00000801, expected 0x000008",
    ),
    "floats": ("a", b"\0\0\x0d\x03" + IMAGES[4:], "0x00000d03, expected 0x00000803"),
    "png": ("a", b"\x89PNG\r\n\x1a\n" + bytes(20), "0x89504e47"),
    "nothing": ("a", b"", "truncated: of 16 bytes, 16 are missing"),
    "part of a header": ("a", IMAGES[:9], "truncated: of 16 bytes, 7 are missing"),
    "cut": ("a", IMAGES[:-1], "announces 2x3x4 bytes, but cannot hold more than 39"),
    "too long": ("a", IMAGES + b"\0", "goes on after the 2x3x4 elements"),
    "empty": ("a", IMAGES[:4] + bytes(12), "holds nothing, its shape is 0x0x0"),
    "huge": ("a.gz", gzip.compress(IMAGES[:4] + b"\xff" * 12), "announces 4294967295x42"),
    "not gzip": ("a.gz", IMAGES, "no intact gzip file"),
    "unpacked content cut": ("a.gz", gzip.compress(IMAGES[:-1]), "of 24 bytes, 1 are missing"),
    "unpacked content too long": ("a.gz", gzip.compress(IMAGES + b"\0"), "goes on after"),
    "gzip header cut": ("a.gz", ZIPPED[:5], "truncated"),
    "gzip stream cut": ("a.gz", ZIPPED[:-12], "truncated: of 24 bytes"),
    "gzip checksum cut": ("a.gz", ZIPPED[:-1], "truncated: the checksum"),
    "gzip checksum wrong": ("a.gz", ZIPPED[:-8] + bytes(8), "no intact gzip file: CRC"),
    "gzip stream damaged": ("a.gz", ZIPPED[:10] + b"\xff" * 9 + ZIPPED[19:], "no intact gzip file"),
}


@pytest.mark.parametrize(("name", "content", "match"), REFUSED.values(), ids=REFUSED)
def test_refuses(tmp_path, name, content, match):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(FileError, match=f"^{path} .*{match}"):
        read_idx(path, 3)


@pytest.mark.parametrize(("name", "content", "match"), REFUSED.values(), ids=REFUSED)
def test_refuses_images(tmp_path, name, content, match):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(FileError, match=f"^{path} .*{match}"):
        open_idx_images(path)


def test_images_are_read_where_they_are(tmp_path):
    (tmp_path / "a").write_bytes(IMAGES)
    images = open_idx_images(tmp_path / "a")
    assert isinstance(images, FileRows)
    np.testing.assert_array_equal(images[[1, 0]], np.arange(24).reshape(2, 1, 3, 4)[[1, 0]])


@pytest.mark.parametrize("kind", [np.ndarray, Scratch])
def test_images_are_unpacked(tmp_path, monkeypatch, kind):
    if kind is Scratch:
        monkeypatch.setattr("tinygrad_edge.data._storage._HELD_BYTES", 23)
    monkeypatch.setattr("tinygrad_edge.data._idx._BLOCK_BYTES", 12)
    (tmp_path / "a.gz").write_bytes(ZIPPED)
    images = open_idx_images(tmp_path / "a.gz")
    assert isinstance(images, kind)
    np.testing.assert_array_equal(images[:], np.arange(24).reshape(2, 1, 3, 4))


@given(data=st.data())
def test_damage_to_a_gzip_file_is_noticed_or_harmless(tmp_path_factory, data):
    damaged = bytearray(ZIPPED)
    damaged[data.draw(st.integers(0, len(ZIPPED) - 1))] ^= data.draw(st.integers(1, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.gz"
    path.write_bytes(damaged)
    try:
        assert read_idx(path, 3).tobytes() == bytes(range(24))
    except FileError:
        pass


def test_folder_in_place_of_a_file(tmp_path):
    with pytest.raises(FileError, match="cannot read"):
        read_idx(tmp_path, 3)


def test_unpacking_holds_few_images(tmp_path):
    header = bytes([0, 0, 8, 3]) + np.array([64, 512, 512], ">u4").tobytes()
    (tmp_path / "a.gz").write_bytes(gzip.compress(header + bytes(16 << 20), 1))
    tracemalloc.start()  # NumPy tells it of its arrays
    images = open_idx_images(tmp_path / "a.gz")
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert images.shape == (64, 1, 512, 512)
    assert held < 100_000
    assert peak < 3 << 20


def test_finds_either_form_the_unpacked_one_first(tmp_path):
    with pytest.raises(DataError, match=f"^{tmp_path} holds neither a nor a.gz"):
        find_idx(tmp_path, "a")
    (tmp_path / "a.gz").touch()
    assert find_idx(tmp_path, "a") == tmp_path / "a.gz"
    (tmp_path / "a").touch()
    assert find_idx(tmp_path, "a") == tmp_path / "a"
