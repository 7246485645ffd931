import os
import pickle
import re
import warnings

import numpy as np
import pytest
from data.python2 import Pickle, batch_file
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_edge import data
from tinygrad_edge.data._batch_file import read_batch_file
from tinygrad_edge.errors import DataError, FileError

NAMES = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (6, 4, 3, 32, 32), dtype=np.uint8)
LABELS = RNG.integers(0, 10, (6, 4))
WHOLE = batch_file(IMAGES[0], LABELS[0].tolist())


def write_binary(folder):
    for name, images, labels in zip(NAMES, IMAGES, LABELS, strict=True):
        records = np.concatenate([labels[:, None].astype(np.uint8), images.reshape(4, -1)], 1)
        (folder / f"{name}.bin").write_bytes(records.tobytes())


def write_python(folder):
    for name, images, labels in zip(NAMES, IMAGES, LABELS, strict=True):
        (folder / name).write_bytes(batch_file(images, labels.tolist()))


FORMS = {"cifar-10-batches-bin": write_binary, "cifar-10-batches-py": write_python}


@pytest.fixture(params=FORMS)
def folder(tmp_path, request):
    folder = tmp_path / request.param
    folder.mkdir()
    FORMS[request.param](folder)
    return folder


def test_reads_either_form(folder):
    dataset = data.load("cifar10", folder.parent)
    assert dataset.image_shape == (3, 32, 32)
    assert dataset.class_names[0] == "airplane"
    assert dataset.num_classes == 10
    np.testing.assert_array_equal(dataset.train.images[:], IMAGES[:5].reshape(-1, 3, 32, 32))
    np.testing.assert_array_equal(dataset.train.labels, LABELS[:5].reshape(-1))
    np.testing.assert_array_equal(dataset.test.images[[3, 0]], IMAGES[5, [3, 0]])
    np.testing.assert_array_equal(dataset.test.labels, LABELS[5])
    assert dataset.normalisation.mean == pytest.approx(IMAGES[:5].mean(axis=(0, 1, 3, 4)))
    assert dataset.held_bytes == 4 * 24  # the labels
    assert dataset.augmentation == (data.Flip(), data.Crop(4))


def test_prefers_the_form_that_needs_no_interpreter(tmp_path):
    for name, write in FORMS.items():
        (tmp_path / name).mkdir()
        write(tmp_path / name)
    (tmp_path / "cifar-10-batches-py" / "test_batch").write_bytes(b"")
    assert len(data.load("cifar10", tmp_path).train) == 20


def test_names_both_folders_where_there_is_none(tmp_path):
    with pytest.raises(DataError, match="no folder .*cifar-10-batches-bin or .*-py: .*download"):
        data.load("cifar10", tmp_path)


@pytest.mark.parametrize("folder", ["cifar-10-batches-bin"], indirect=True)
@pytest.mark.parametrize("size", [0, 3072, 4 * 3073 - 1])
def test_a_binary_file_of_another_size(folder, size):
    os.truncate(folder / "data_batch_3.bin", size)
    match = f"data_batch_3.bin is truncated, .*: expected images of 3073 bytes, found {size} bytes"
    with pytest.raises(FileError, match=match):
        data.load("cifar10", folder.parent)


def test_a_missing_batch(folder):
    path = next(folder.glob("data_batch_2*"))
    path.unlink()
    with pytest.raises(FileError, match=f"cannot read {path}: No such file"):
        data.load("cifar10", folder.parent)


# ---- the Python form


def test_the_test_s_writer_writes_what_python_reads():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy has moved what the file names
        content = pickle.loads(WHOLE, encoding="bytes")
    assert content[b"labels"] == LABELS[0].tolist()
    np.testing.assert_array_equal(content[b"data"], IMAGES[0].reshape(4, -1))
    assert content[b"data"].dtype == np.uint8


def test_pixels_are_found_and_not_read(tmp_path):
    (tmp_path / "batch").write_bytes(WHOLE)
    batch = read_batch_file(tmp_path / "batch")
    assert batch.labels == LABELS[0].tolist()
    assert batch.shape == (4, 3072)
    assert WHOLE[batch.offset :].startswith(IMAGES[0].tobytes())


def test_many_strings_are_remembered(tmp_path):
    images = np.zeros((1500, 3, 32, 32), np.uint8)
    (tmp_path / "batch").write_bytes(batch_file(images, [7] * 1500))
    assert read_batch_file(tmp_path / "batch").labels == [7] * 1500


class Command:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("protocol", range(6))
def test_runs_nothing(tmp_path, protocol):
    path, made = tmp_path / "batch", tmp_path / "made"
    path.write_bytes(pickle.dumps({b"labels": [1], b"data": Command(made)}, protocol))
    with pytest.raises(FileError, match=f"^{path} is no batch of CIFAR-10"):
        read_batch_file(path)
    assert not made.exists()


def hostile(**changes):
    """The sound file, with one piece of it replaced."""
    ((old, new),) = changes.values()
    assert WHOLE.count(old) >= 1
    return WHOLE.replace(old, new)


REFUSED = {  # content, what the message says
    "another function": (
        hostile(a=(b"numpy.core.multiarray\n_reconstruct", b"os\nsystem")),
        "names 'os system', which has no business there",
    ),
    "part of a name": (
        hostile(a=(b"cnumpy\ndtype", b"cnumpy.ctypeslib\ndtype")),
        "names 'numpy.ctypeslib dtype'",
    ),
    "python 3": (pickle.dumps({b"labels": [1]}, 4), "its protocol is 4, expected 2"),
    "an unknown instruction": (b"\x80\x02\x93.", r"instruction b'\\x93' at byte 2 is not one"),
    "persistent name": (b"\x80\x02Pname\n.", "instruction b'P' at byte 2"),
    "instance": (b"\x80\x02(ios\nsystem\n.", "instruction b'i' at byte 3"),
    "empty": (b"", "it is truncated"),
    "cut in the pixels": (WHOLE[:5000], "it is truncated"),
    "cut at the end": (WHOLE[:-1], "it is truncated"),
    "negative length": (b"\x80\x02T\xff\xff\xff\xff.", "it is truncated"),
    "huge length": (b"\x80\x02T\xff\xff\xff\x7f.", "it is truncated"),
    "nothing on the stack": (b"\x80\x02.", "or damaged"),
    "unknown memory": (b"\x80\x02h\x05.", "or damaged"),
    "a list as a key": (b"\x80\x02}(]Nu.", "a key of it is no string"),
    "no dictionary": (b"\x80\x02].", "or damaged"),
    "without labels": (hostile(a=(b"U\x06labels", b"U\x06lables")), "or damaged"),
    "labels of another kind": (
        hostile(a=(b"U\x06labelsq\x04]q\x05(K", b"U\x06labelsq\x04]q\x05(NK")),
        "its labels are not integers",
    ),
    "floats": (hostile(a=(b"U\x02u1", b"U\x02f4")), "its elements are not uint8"),
    "a shape that does not fit": (
        hostile(a=(b"K\x04M\x00\x0c\x86", b"K\x05M\x00\x0c\x86")),
        r"shape \(5, 3072\) does not have 12288 bytes",
    ),
    "a shape of text": (
        hostile(a=(b"K\x04M\x00\x0c\x86", b"U\x01aJ\xff\xff\xff\x7f\x86")),
        r"shape \(b'a', 2147483647\) does not have",
    ),
    "a deep shape": (
        b"\x80\x02}(U\x06labels]U\x04datacnumpy.core.multiarray\n_reconstruct\nN\x85R(K\x01N"
        + b"\x85" * 100_000
        + b"K\x01\x86cnumpy\ndtype\n\x89T\0\x10\0\0"
        + bytes(4096)
        + b"tbu.",
        "or damaged",
    ),
    "endless": (b"\x80\x02" + b"N" * (1 << 19), "it goes on for too long"),
    "deep": (b"\x80\x02N" + b"\x85" * 200_000 + b".", "or damaged"),
    "not a pickle": (b"\x89PNG\r\n\x1a\n", "not one of its|or damaged"),
}


@pytest.mark.parametrize(("content", "match"), REFUSED.values(), ids=REFUSED)
def test_refuses(tmp_path, content, match):
    path = tmp_path / "batch"
    path.write_bytes(content)
    with pytest.raises(FileError, match=f"^{re.escape(str(path))} .*{match}"):
        read_batch_file(path)


def test_refuses_fortran_order(tmp_path):
    (tmp_path / "batch").write_bytes(WHOLE.replace(b"b\x89T", b"bNT"))
    with pytest.raises(FileError, match="its data is no array of uint8 in C order"):
        read_batch_file(tmp_path / "batch")


def test_more_labels_than_images(tmp_path):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    write_python(folder)
    (folder / "data_batch_1").write_bytes(batch_file(IMAGES[0], [1] * 5))
    match = r"data_batch_1 holds 5 labels, but an array of shape \(4, 3072\): expected \(5, 3072\)"
    with pytest.raises(DataError, match=match):
        data.load("cifar10", tmp_path)


@given(data=st.data())
def test_damage_ends_in_an_error_or_in_nothing(tmp_path_factory, data):
    """Whatever a byte becomes: one of our errors, or labels and a place inside the file."""
    damaged = bytearray(WHOLE)
    start = WHOLE.index(IMAGES[0].tobytes())
    place = st.one_of(st.integers(0, start), st.integers(start + 4 * 3072, len(WHOLE) - 1))
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(place)] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(damaged)
    try:
        batch = read_batch_file(path)
    except FileError:
        return
    assert all(type(label) is int for label in batch.labels)
    assert 0 < batch.offset <= len(WHOLE) - batch.shape[0] * batch.shape[1]


@given(instructions=st.lists(st.sampled_from(sorted(set(WHOLE[:60] + WHOLE[-200:]))), max_size=40))
def test_programs_of_no_sense(tmp_path_factory, instructions):
    path = tmp_path_factory.getbasetemp() / "program"
    path.write_bytes(b"\x80\x02" + bytes(instructions))
    with pytest.raises(FileError):
        read_batch_file(path)


def test_the_stack_s_description_of_an_array_alone(tmp_path):
    alone = Pickle()
    alone.array(4, 3072, IMAGES[0].tobytes())
    (tmp_path / "batch").write_bytes(bytes(alone.code) + b".")
    with pytest.raises(FileError, match="or damaged"):
        read_batch_file(tmp_path / "batch")
