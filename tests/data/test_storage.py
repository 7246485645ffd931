import errno
import gc
import os
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_edge.data import Dataset
from tinygrad_edge.data._images import Rows, held_bytes
from tinygrad_edge.data._storage import File, FileRows, Records, Scratch, allocate
from tinygrad_edge.errors import FileError

ARRAY = np.random.default_rng(0).integers(0, 256, (11, 2, 3, 4), dtype=np.uint8)
FLOATS = ARRAY.astype(np.float32)
indices = st.one_of(
    st.lists(st.integers(-11, 10)).map(lambda rows: np.array(rows, np.intp)),
    st.builds(slice, *[st.none() | st.integers(-15, 15)] * 2, st.none() | st.integers(1, 4)),
)


@pytest.fixture(scope="module", params=["with preadv", "without"], autouse=True)
def systems(request):
    """As on Linux, and as on a system that cannot read at a position."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        if request.param == "without":
            monkeypatch.delattr(os, "preadv")
            monkeypatch.delattr(os, "pwritev")
        yield


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The array in two files of 4 and 7 images, each image after three other bytes."""
    folder = tmp_path_factory.mktemp("records")
    parts = []
    for name, part in (("a", ARRAY[:4]), ("b", ARRAY[4:])):
        path = folder / name
        path.write_bytes(b"head" + b"".join(b"xyz" + image.tobytes() for image in part))
        parts.append(Records(File.open(path), 7, 3 + 24, len(part)))
    return FileRows(parts, (2, 3, 4), ARRAY.dtype)


@pytest.fixture(scope="module")
def scratch():
    images = Scratch(FLOATS.shape, FLOATS.dtype)
    images[0:5] = FLOATS[:5]
    images[5:11] = FLOATS[5:].transpose(0, 1, 3, 2).copy().transpose(0, 1, 3, 2)
    return images


@given(rows=indices)
def test_files_are_indexed_like_an_array(files, rows):
    assert files.shape == ARRAY.shape
    assert files.dtype == ARRAY.dtype
    np.testing.assert_array_equal(files[rows], ARRAY[rows])


@given(rows=indices)
def test_scratch_is_indexed_like_an_array(scratch, rows):
    assert scratch[rows].dtype == np.float32
    np.testing.assert_array_equal(scratch[rows], FLOATS[rows])


@given(rows=indices, chosen=st.lists(st.integers(0, 10), min_size=1).map(np.array))
def test_rows_of_rows(files, rows, chosen):
    some = Rows(files, chosen)
    assert some.shape == (len(chosen), 2, 3, 4)
    rows = rows if isinstance(rows, slice) else rows[np.abs(rows) < len(chosen)]
    np.testing.assert_array_equal(some[rows], ARRAY[chosen][rows])


def test_channels_may_come_last(tmp_path):
    (tmp_path / "a").write_bytes(ARRAY.tobytes())
    records = Records(File.open(tmp_path / "a"), 0, 24, 11)
    images = FileRows([records], (2, 3, 4), ARRAY.dtype, channels_last=True)
    assert images.shape == (11, 4, 2, 3)
    np.testing.assert_array_equal(images[[3, 1]], ARRAY[[3, 1]].transpose(0, 3, 1, 2))


def test_a_file_that_became_shorter(tmp_path):
    (tmp_path / "a").write_bytes(ARRAY.tobytes())
    images = FileRows([Records(File.open(tmp_path / "a"), 0, 24, 11)], (2, 3, 4), ARRAY.dtype)
    os.truncate(tmp_path / "a", 60)
    np.testing.assert_array_equal(images[:2], ARRAY[:2])
    with pytest.raises(FileError, match="a is truncated: expected 24 bytes from 48 on, found 12"):
        images[2:3]


def test_a_missing_file(tmp_path):
    with pytest.raises(FileError, match="cannot read .*nothing: No such file"):
        File.open(tmp_path / "nothing")


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc")
def test_files_are_closed_when_nobody_refers_to_them(tmp_path):
    (tmp_path / "a").write_bytes(bytes(24))
    before = len(os.listdir("/proc/self/fd"))
    images = [FileRows([Records(File.open(tmp_path / "a"), 0, 24, 1)], (2, 3, 4), ARRAY.dtype)]
    images.append(Scratch((1, 1, 1, 1), ARRAY.dtype))
    assert len(os.listdir("/proc/self/fd")) == before + 2
    images.clear()
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before


def test_few_bytes_stay_in_memory_and_many_do_not():
    few, many = allocate((8, 1, 1024, 1024), ARRAY.dtype), allocate((9, 1, 1024, 1024), ARRAY.dtype)
    assert isinstance(few, np.ndarray)
    assert held_bytes(few) == 8 << 20
    assert isinstance(many, Scratch)
    assert held_bytes(many) == 0


def test_memory_maps_are_not_held(tmp_path):
    np.save(tmp_path / "a.npy", ARRAY)
    assert held_bytes(np.load(tmp_path / "a.npy", mmap_mode="r")) == 0
    assert held_bytes(np.load(tmp_path / "a.npy")) == ARRAY.nbytes


def test_a_scratch_file_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "new"))
    Scratch((1, 1, 1, 1), ARRAY.dtype)[0:1] = ARRAY[:1, :1, :1, :1]
    assert os.listdir(tmp_path / "new") == []


def test_no_folder_for_scratch_files(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "file" / "folder"))
    with pytest.raises(
        FileError, match="cannot make a file for unpacked .* set TMPDIR to a folder"
    ):
        Scratch((1, 1, 1, 1), ARRAY.dtype)


def test_a_user_without_a_home_folder(monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # what it does for such a user
    with pytest.raises(FileError, match="no folder for unpacked images: set TMPDIR"):
        Scratch((1, 1, 1, 1), ARRAY.dtype)


def test_a_full_disk(scratch, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if not hasattr(os, "pwritev"):
        pytest.skip("the other way of writing")
    monkeypatch.setattr(os, "pwritev", full)
    with pytest.raises(FileError, match="cannot write a scratch file .*No space left on device"):
        scratch[0:1] = FLOATS[:1]


def test_a_data_set_in_files_holds_its_labels(files):
    labels = np.arange(11) % 3
    dataset = Dataset.from_arrays("mine", (files, labels), (Rows(files, np.arange(3)), labels[:3]))
    assert dataset.held_bytes == 4 * 11 + 4 * 3 + 8 * 3
    plain = Dataset.from_arrays("mine", (ARRAY, labels), (ARRAY[:3], labels[:3]))
    assert plain.held_bytes == ARRAY.nbytes + ARRAY[:3].nbytes + 4 * 11 + 4 * 3
    tracemalloc.start()
    dataset.train.batch(np.array([1, 2]))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20_000
    x, y = dataset.train.batch(np.array([7, 2]))
    expected, _ = plain.train.batch(np.array([7, 2]))
    np.testing.assert_array_equal(x, expected)
    assert y.tolist() == [1, 2]


def test_rows_hold_their_share():
    rows = Rows(ARRAY, np.arange(5))
    assert held_bytes(rows) == 5 * 8 + ARRAY.nbytes * 5 // 11
