import os
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_edge import data
from tinygrad_edge.data import Skipped, _pictures, batches, image_folder
from tinygrad_edge.errors import DataError, FileError

pytest.importorskip("PIL")
from PIL import Image  # noqa: E402


def save(path, colour=(200, 100, 50), size=(12, 10), mode="RGB", **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path, **options)


@pytest.fixture
def flowers(tmp_path):
    """Ten red, ten green and five blue pictures."""
    for name, count, colour in (("a", 10, 0), ("b", 10, 1), ("c", 5, 2)):
        for i in range(count):
            rgb = [10 * i] * 3
            rgb[colour] = 255
            save(tmp_path / "flowers" / name / f"{i}.png", tuple(rgb))
    return tmp_path / "flowers"


def shown(split):
    """The class and the number that each image of a split was painted with."""
    colours = split.images[:][:, :, 0, 0].astype(int)
    return sorted((int(c.argmax()), int(np.sort(c)[0]) // 10) for c in colours)


def test_a_folder_of_folders(flowers):
    dataset = data.load(flowers, size=8)
    assert dataset.name == "flowers"
    assert dataset.class_names == ("a", "b", "c")
    assert dataset.image_shape == (3, 8, 8)
    assert dataset.skipped == ()
    assert np.bincount(dataset.train.labels).tolist() == [8, 8, 4]
    assert np.bincount(dataset.test.labels).tolist() == [2, 2, 1]
    both = shown(dataset.train) + shown(dataset.test)
    assert sorted(both) == [(c, i) for c, n in enumerate((10, 10, 5)) for i in range(n)]
    for split in (dataset.train, dataset.test):
        assert split.images[:][:, :, 0, 0].argmax(axis=1).tolist() == split.labels.tolist()
    assert dataset.augmentation == (data.Flip(), data.Crop(1), data.Brightness(0.2))


def test_the_default_size(flowers):
    assert data.load(str(flowers)).image_shape == (3, 64, 64)
    assert data.load(flowers, size=(6, 9)).image_shape == (3, 6, 9)


def test_the_parts_depend_on_names_and_seed_alone(flowers):
    first = shown(image_folder(flowers, 4).test)
    for path in flowers.rglob("*.png"):
        os.utime(path, (0, 0))
    renamed = flowers.rename(flowers.with_name("plants"))
    assert shown(image_folder(renamed, 6).test) == first
    assert first == [(0, 7), (0, 8), (1, 3), (1, 9), (2, 1)]
    assert shown(image_folder(renamed, 6, seed=1).test) != first


def test_a_new_picture_moves_one_at_most(flowers):
    before = set(shown(image_folder(flowers, 4).test))
    for i in range(20, 25):
        save(flowers / "a" / f"{i}.png", (255, 10 * i, 10 * i))
    after = set(shown(image_folder(flowers, 4).test))
    assert len(after) == len(before) + 1
    assert len(before - after) <= 1


@pytest.mark.parametrize("held_out", [0.01, 0.5, 0.99])
def test_both_parts_have_all_classes(flowers, held_out):
    dataset = image_folder(flowers, 4, held_out=held_out)
    for split in (dataset.train, dataset.test):
        assert np.bincount(split.labels, minlength=3).min() >= 1


@given(shuffle=st.booleans(), prefetch=st.integers(0, 2))
def test_batches(tmp_path_factory, shuffle, prefetch):
    root = tmp_path_factory.getbasetemp() / "two"
    for i in range(6):
        save(root / "ab"[i % 2] / f"{i}.png", (40 * i, 0, 0))
    split = image_folder(root, 4).train
    for x, y in batches(split, 3, shuffle=shuffle, prefetch=prefetch):
        assert x.shape[1:] == (3, 4, 4)
        assert len(x) == len(y)


# ---- what is left out


@pytest.fixture
def messy(flowers):
    """The flowers, with much that is no picture of one."""
    whole = (flowers / "a" / "0.png").read_bytes()
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    Image.fromarray(noise).save(flowers / "a" / "broken.jpg")
    os.truncate(flowers / "a" / "broken.jpg", 1000)
    (flowers / "a" / "empty.jpg").touch()
    (flowers / "a" / ".hidden.png").write_bytes(b"hidden")
    (flowers / "a" / "._0.png").write_bytes(b"what macOS leaves")
    (flowers / "b" / "notes.txt").write_text("picked in May")
    (flowers / "c" / "dangling.png").symlink_to("nowhere")
    (flowers / "empty").mkdir()
    (flowers / "broken").mkdir()
    (flowers / "broken" / "0.png").write_bytes(whole[:50])
    (flowers / ".git").mkdir()
    (flowers / ".git" / "0.png").write_bytes(whole)
    (flowers / "index.csv").touch()
    save(flowers / "b" / "grey.png", 128, mode="L")
    save(flowers / "b" / "deep.png", 30000, mode="I;16")
    save(flowers / "b" / "clear.png", (1, 2, 3, 100), mode="RGBA")
    save(flowers / "c" / "garden" / "2019" / "cmyk.jpg", (0, 9, 9, 9), mode="CMYK")
    os.mkfifo(flowers / "c" / "pipe")
    return flowers


def test_the_report(messy):
    dataset = data.load(messy, size=8)
    assert dataset.class_names == ("a", "b", "c")
    assert len(dataset.train) + len(dataset.test) == 25 + 4
    assert dict(dataset.skipped) == {
        "index.csv": "in no folder of a class",
        "c/dangling.png": "no regular file",
        "c/pipe": "no regular file",
        "a/broken.jpg": dict(dataset.skipped)["a/broken.jpg"],  # as Pillow says it
        "a/empty.jpg": "no picture of a kind that is read here",
        "b/notes.txt": "no picture of a kind that is read here",
        "broken/0.png": "image file is truncated",
        "broken/": "no picture in it can be read",
        "empty/": "no picture in it can be read",
    }
    assert "truncated" in dict(dataset.skipped)["a/broken.jpg"]
    assert dataset.skipped[0] == Skipped(what="index.csv", why="in no folder of a class")


def test_what_is_left_out_moves_nothing(messy, flowers):
    assert shown(data.load(messy).test)[:2] == [(0, 7), (0, 8)]


@pytest.mark.parametrize(
    ("names", "match"),
    [
        ([], "has pictures of 0 classes: expected a folder for each of two or more$"),
        (["a/0.png"], "has pictures of 1 classes"),
        (["0.png"], "of 0 classes: .*; skipped 0.png: in no folder of a class"),
        (["a/0.png", "b/0.png"], "each class of .* has a single picture: to hold one out"),
    ],
)
def test_too_little(tmp_path, names, match):
    for name in names:
        save(tmp_path / name)
    with pytest.raises(DataError, match=match):
        data.load(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"held_out": 0}, "held_out is between 0 and 1, not 0"),
        ({"held_out": 1}, "held_out is between 0 and 1, not 1"),
        ({"seed": -1}, "seed is from 0 to"),
        ({"size": 0}, "size is from 1 to 16384, not 0"),
    ],
)
def test_refuses_arguments(flowers, arguments, match):
    with pytest.raises(DataError, match=match):
        image_folder(flowers, **arguments)


def test_no_such_folder(tmp_path):
    with pytest.raises(FileError, match="cannot read .*nothing: No such file"):
        image_folder(tmp_path / "nothing")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read all")
def test_a_class_that_may_not_be_read(flowers):
    (flowers / "a").chmod(0)
    try:
        assert Skipped("a", "Permission denied") in data.load(flowers).skipped
    finally:
        (flowers / "a").chmod(0o700)


# ---- folders that are divided already


def divide(root, *parts):
    for number, part in enumerate(parts):
        for i in range(6):
            save(root / part / "ab"[i % 2] / f"{i}.png", (number, number, number))


@pytest.mark.parametrize(
    ("parts", "val", "test"),
    [
        (["train", "val", "test"], "val", "test"),
        (["train", "test"], None, "test"),
        (["train", "val"], None, "val"),
        (["Training", "Validation"], None, "Validation"),
    ],
)
def test_parts_that_are_given(tmp_path, parts, val, test):
    divide(tmp_path, *parts)
    dataset = data.load(tmp_path)
    assert dataset.class_names == ("a", "b")
    assert (len(dataset.train), len(dataset.test)) == (6, 6)
    assert (dataset.val is None) == (val is None)
    assert (dataset.train.images[:] == 0).all()
    assert (dataset.test.images[:] == parts.index(test)).all()
    assert val is None or (dataset.val.images[:] == parts.index(val)).all()


def test_what_does_not_belong_to_a_part(tmp_path):
    divide(tmp_path, "train", "test")
    save(tmp_path / "test" / "z" / "0.png")
    save(tmp_path / "test" / "0.png")
    save(tmp_path / "old" / "a" / "0.png")
    assert data.load(tmp_path).skipped == (
        Skipped("old/", "beside train, val and test"),
        Skipped("test/0.png", "in no folder of a class"),
        Skipped("test/z/0.png", "no training picture is of its class"),
    )


def test_no_test_picture_that_can_be_read(tmp_path):
    divide(tmp_path, "train", "test")
    for path in (tmp_path / "test").rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(DataError, match="has no picture for testing that can be read"):
        data.load(tmp_path)


def test_classes_may_be_called_like_parts(tmp_path):
    for name in ("train", "bus"):
        for i in range(5):
            save(tmp_path / name / f"{i}.png")
    assert data.load(tmp_path).class_names == ("bus", "train")


# ---- reading again


def test_pictures_are_decoded_once(flowers, monkeypatch):
    dataset = data.load(flowers, size=8)
    monkeypatch.setattr(_pictures, "decode", lambda *arguments: pytest.fail("decoded again"))
    for _ in batches(dataset.train, 4):
        pass


@pytest.fixture(params=["no room", "no disk", "full disk"])
def forgetful(request, flowers, monkeypatch):
    """The flowers, loaded where decoded pictures cannot be kept."""
    if request.param == "no room":
        monkeypatch.setattr(_pictures, "_MOST_KEPT", 0)
    else:
        monkeypatch.setattr("tinygrad_edge.data._storage._HELD_BYTES", 0)
    if request.param == "no disk":
        (flowers.parent / "file").touch()
        monkeypatch.setenv("TMPDIR", str(flowers.parent / "file"))
    if request.param == "full disk":
        monkeypatch.setattr(os, "pwritev", lambda *arguments: 0)
    return data.load(flowers, size=8)


def test_where_nothing_can_be_kept_pictures_are_decoded_again(forgetful, flowers):
    again = image_folder(flowers, 8)
    np.testing.assert_array_equal(forgetful.train.images[:], again.train.images[:])
    assert forgetful.held_bytes < 10_000


def test_a_picture_that_is_gone(forgetful, flowers):
    for path in flowers.rglob("*.png"):
        path.unlink()
    with pytest.raises(FileError, match=r"cannot read .*\.png any more: No such file or directory"):
        next(batches(forgetful.train, 4, prefetch=1))


def test_many_pictures_are_not_held(flowers, monkeypatch):
    monkeypatch.setattr("tinygrad_edge.data._storage._HELD_BYTES", 0)
    dataset = data.load(flowers, size=200)
    assert dataset.held_bytes < 10_000  # of 3 MB
    assert data.load(flowers, size=200).train.images[:].nbytes == 20 * 3 * 200 * 200


def test_an_error_in_a_thread_is_told(flowers, monkeypatch):
    def decode(*arguments):
        if threading.current_thread() is threading.main_thread():
            return whole(*arguments)
        raise MemoryError("no room for a picture")

    whole = _pictures.decode
    monkeypatch.setattr(_pictures, "decode", decode)
    with pytest.raises(MemoryError, match="no room for a picture"):
        data.load(flowers)


def test_an_interrupt_lets_each_thread_finish_its_picture(flowers, monkeypatch):
    begun, go_on, decoded = threading.Event(), threading.Event(), []

    def decode(*arguments):
        begun.set()
        assert go_on.wait(10)
        decoded.append(arguments)
        raise _pictures.Unreadable("interrupted")

    def interrupted(thread):
        assert begun.wait(10)
        raise KeyboardInterrupt

    before = threading.active_count()
    monkeypatch.setattr(_pictures, "decode", decode)
    with monkeypatch.context() as context, pytest.raises(KeyboardInterrupt):
        context.setattr(threading.Thread, "join", interrupted)
        data.load(flowers)
    threads = set(threading.enumerate()) - {threading.current_thread()}
    go_on.set()
    for thread in threads:
        thread.join(10)
    assert threading.active_count() == before
    assert len(decoded) <= len(threads)
