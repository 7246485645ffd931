import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_edge import data
from tinygrad_edge.data._storage import FileRows
from tinygrad_edge.errors import DataError, FileError

RNG = np.random.default_rng(0)
HWC = RNG.integers(0, 256, (40, 5, 6, 3), dtype=np.uint8)
LABELS = np.arange(40) % 4
SAVES = {"as it is": np.savez, "packed": np.savez_compressed}


def medmnist(images=HWC, labels=LABELS[:, None]):
    return {
        "train_images": images,
        "train_labels": labels,
        "val_images": images[:9],
        "val_labels": labels[:9],
        "test_images": images[9:20],
        "test_labels": labels[9:20],
    }


@pytest.fixture(params=SAVES)
def save(request, tmp_path):
    """A function that saves arrays, and gives the path."""

    def write(**arrays):
        SAVES[request.param](tmp_path / "mine.npz", **arrays)
        return tmp_path / "mine.npz"

    return write


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (HWC, HWC.transpose(0, 3, 1, 2)),
        (HWC[..., 0], HWC[:, None, :, :, 0]),
        (HWC[..., :1], HWC[:, None, :, :, 0]),
        (HWC.transpose(0, 3, 1, 2).copy(), HWC.transpose(0, 3, 1, 2)),
        (np.float32(HWC), HWC.transpose(0, 3, 1, 2)),
        (HWC.astype(">f8"), HWC.transpose(0, 3, 1, 2)),
    ],
    ids=["HWC", "HW", "HW1", "CHW", "float", "big endian"],
)
def test_layouts_of_images(save, stored, expected):
    dataset = data.load(save(**medmnist(stored)))
    assert dataset.name == "mine"
    assert dataset.train.images.shape == expected.shape
    assert dataset.train.images.dtype == stored.dtype
    np.testing.assert_array_equal(dataset.train.images[:], expected)
    np.testing.assert_array_equal(dataset.val.images[[3, 1]], expected[[3, 1]])
    np.testing.assert_array_equal(dataset.test.images[2:5], expected[11:14])
    np.testing.assert_array_equal(dataset.test.labels, LABELS[9:20])
    x, y = dataset.train.batch(np.array([7, 2]))
    assert x.flags.c_contiguous
    np.testing.assert_allclose(x, dataset.normalisation(expected[[7, 2]]), rtol=1e-6)
    assert dataset.class_names == ("0", "1", "2", "3")


def test_what_is_not_packed_is_read_in_its_place(tmp_path):
    np.savez(tmp_path / "a.npz", **medmnist())
    dataset = data.load(tmp_path / "a.npz")
    assert isinstance(dataset.train.images, FileRows)
    assert dataset.held_bytes == 4 * (40 + 9 + 11)


def test_names_by_keras(save):
    arrays = {"x_train": HWC, "y_train": LABELS, "x_test": HWC[:5], "y_test": LABELS[:5]}
    dataset = data.load(save(**arrays))
    assert (len(dataset.train), len(dataset.test), dataset.val) == (40, 5, None)


def test_a_validation_part_may_be_the_test_part(save):
    arrays = {key: array for key, array in medmnist().items() if not key.startswith("test")}
    dataset = data.load(save(**arrays))
    assert (len(dataset.test), dataset.val) == (9, None)


@pytest.mark.parametrize(("x", "y"), [("x", "y"), ("images", "labels"), ("x_train", "y_train")])
def test_without_parts_a_fifth_of_each_class_is_held_out(save, x, y):
    dataset = data.load(save(**{x: HWC, y: LABELS}))
    assert np.bincount(dataset.train.labels).tolist() == [8] * 4
    assert np.bincount(dataset.test.labels).tolist() == [2] * 4
    both = np.concatenate([dataset.train.images[:], dataset.test.images[:]])
    assert sorted(image.tobytes() for image in both) == sorted(
        image.tobytes() for image in HWC.transpose(0, 3, 1, 2).copy()
    )
    for split in (dataset.train, dataset.test):
        for image, label in zip(split.images[:], split.labels, strict=True):
            assert (image == HWC.transpose(0, 3, 1, 2)[LABELS == label]).all((1, 2, 3)).any()
    again = data.load(save(**{x: HWC, y: LABELS}))
    np.testing.assert_array_equal(again.test.images.rows, dataset.test.images.rows)


def test_class_names(save):
    names = np.array(["basophil", "b", "c", "d"])
    assert data.load(save(**medmnist(), class_names=names)).class_names == tuple(names)


def test_missing_values_are_filled_and_told_of(save):
    images = np.float32(HWC)
    images[3, 2, 1, 0] = images[12, 0, 0, 0] = np.nan
    dataset = data.load(save(**medmnist(images)))
    assert dataset.skipped == (
        data.Skipped("training part", "2 missing values: filled by means"),
        data.Skipped("test part", "1 missing values: filled by means"),
        data.Skipped("validation part", "1 missing values: filled by means"),
    )
    for split, row, y, x in ((dataset.train, 3, 2, 1), (dataset.test, 3, 0, 0)):
        batch, _ = split.batch(np.array([row]))
        assert batch[0, 0, y, x] == 0
        assert np.isfinite(batch).all()
    assert dataset.normalisation.mean[0] == pytest.approx(np.nanmean(images[..., 0]), rel=1e-6)


def test_a_channel_without_any_value_is_0(save):
    images = np.float32(HWC)
    images[..., 1] = np.nan
    images[..., 2] = 5
    dataset = data.load(save(**medmnist(images)))
    batch, _ = dataset.train.batch(np.arange(40))
    assert (batch[:, 1:] == 0).all()


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (
            {"train_images": None},
            "has no array train_images, x_train, x or images; it has train_la",
        ),
        ({"train_labels": None}, "has no array train_labels; it has train_images, val_images"),
        ({"train_labels": np.zeros((40, 14), int)}, r"train_labels is int64 of shape \(40, 14\)"),
        (
            {"train_labels": LABELS * 0.5},
            r"train_labels is float64 of shape \(40,\); expected an int",
        ),
        ({"val_labels": LABELS}, r"val_images has shape \(9, 5, 6, 3\), but val_labels \(40,\)"),
        ({"train_labels": LABELS - 1}, "label -1 of image 0 is not one of the 4"),
        ({"train_images": HWC.astype(int)}, "images are uint8 or float .* not int64"),
        (
            {"train_images": HWC.reshape(40, -1)},
            r"train_images has shape \(40, 90\); expected \(N, ",
        ),
        ({"train_images": HWC[:0], "train_labels": LABELS[:0]}, r"train_images has shape \(0, "),
        ({"test_images": HWC[:11, 1:]}, r"but test images of shape \(3, 4, 6\)"),
        ({"train_images": np.full(HWC.shape, np.inf)}, "holds infinity"),
        ({"class_names": np.arange(4)}, "class_names is int64 of shape .* a string for each class"),
        ({"class_names": np.array(["a", "b"])}, "label 2 of image 2 is not one of the 2 classes"),
    ],
)
def test_arrays_that_do_not_fit(save, change, match):
    arrays = {key: array for key, array in {**medmnist(), **change}.items() if array is not None}
    with pytest.raises(DataError, match=match):
        data.load(save(**arrays))


def test_objects_are_refused(save):
    made = np.array([{"a": 1}] * 40, object)
    path = save(**{**medmnist(), "train_labels": made})
    with pytest.raises(FileError, match="train_labels holds Python objects: save an array of numb"):
        data.load(path)


def test_fortran_order_is_refused(save):
    with pytest.raises(FileError, match="train_images is in Fortran order"):
        data.load(save(**medmnist(np.asfortranarray(HWC))))


# ---- damage


@pytest.mark.parametrize("content", [b"", b"PK\x05\x06", b"no zip file at all" * 100])
def test_no_npz_file(tmp_path, content):
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(FileError, match="a.npz is no intact .npz file"):
        data.load(tmp_path / "a.npz")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"nothing",
        b"\x93NUMPY\x09\x00",
        b"\x93NUMPY\x01\x00\x02\x00((",
        b"\x93NUMPY\x01\x00\x02\x00\xff",
    ],
    ids=["empty", "text", "another version", "half a tuple", "half a header"],
)
def test_a_member_that_is_no_array(tmp_path, content):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as file:
        file.writestr("x.npy", content)
        file.writestr("y.npy", b"nothing")
    with pytest.raises(FileError, match="x is no array file"):
        data.load(tmp_path / "a.npz")


@pytest.mark.parametrize("shape", ["(1000000000000, 5, 6, 3)", "(-40, -5, 6, 3)", "(39, 5, 6, 3)"])
def test_a_header_that_lies(tmp_path, shape):
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}}}".encode()
    header += b" " * (117 - len(header)) + b"\n"
    content = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + HWC.tobytes()
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as file:
        file.writestr("x.npy", content)
        file.writestr("y.npy", b"")
    with pytest.raises(
        FileError, match=r"x announces uint8 of shape \(.*\), and 3600 bytes follow"
    ):
        data.load(tmp_path / "a.npz")


@given(place=st.integers(0, 2**32), value=st.integers(1, 255), packed=st.booleans())
def test_damage_is_noticed_or_harmless(tmp_path_factory, place, value, packed):
    images = np.tile(HWC[..., 0], (1, 3, 3))  # more than zipfile reads with the header
    path = tmp_path_factory.getbasetemp() / "damaged.npz"
    (np.savez_compressed if packed else np.savez)(path, **medmnist(images))
    content = bytearray(path.read_bytes())
    content[place % len(content)] ^= value
    path.write_bytes(content)
    try:
        dataset = data.load(path)
    except (DataError, FileError):
        return
    np.testing.assert_array_equal(dataset.train.images[:][:, 0], images)
    np.testing.assert_array_equal(dataset.train.labels, LABELS)


def test_a_member_with_an_impossible_name(save):
    path = save(**medmnist())
    content = bytearray(path.read_bytes())
    entry = content.index(b"PK\x01\x02")  # of the directory at the end
    content[entry + 8 : entry + 10] = b"\x00\x08"  # names are UTF-8
    content[entry + 46] = 0xFF
    path.write_bytes(content)
    with pytest.raises(FileError, match="no intact .npz file: 'utf-8' codec can't decode"):
        data.load(path)


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9, 0.99])
def test_a_truncated_file(save, kept):
    path = save(**medmnist())
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    with pytest.raises(FileError, match="no intact .npz file"):
        data.load(path)
