import dataclasses
import gzip
import hashlib
import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from tinygrad_edge import data
from tinygrad_edge.data import _folders, _mnist, _sources
from tinygrad_edge.errors import DataError, FileError


@pytest.fixture(autouse=True)
def no_data_folder(monkeypatch):
    monkeypatch.delenv("TINYGRAD_EDGE_DATA", raising=False)


# ---- names


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("minst", "did you mean 'mnist'? "),
        ("Fashion-MNIST", "did you mean 'fashion_mnist'? "),
        ("digit", "did you mean 'digits'? "),
        ("elephants", ""),
    ],
)
@pytest.mark.parametrize("function", [data.load, data.download])
def test_a_misspelt_name(function, name, hint):
    with pytest.raises(DataError) as caught:
        function(name)
    assert str(caught.value) == (
        f"there is no data set {name!r}: {hint}there are digits, mnist, fashion_mnist, cifar10, "
        f"uci_har, and one's own by the path of a folder of pictures or an .npz file"
    )


def test_one_s_own_by_path_and_by_name(tmp_path, monkeypatch):
    images, labels = np.zeros((10, 4, 4), np.uint8), np.arange(10) % 2
    np.savez(tmp_path / "cells.npz", x=images, y=labels)
    monkeypatch.chdir(tmp_path)
    for name, data_dir in (
        ("cells.npz", None),
        (tmp_path / "cells.npz", None),
        ("cells", tmp_path),
    ):
        assert data.load(name, data_dir).name == "cells"
    monkeypatch.setenv("TINYGRAD_EDGE_DATA", str(tmp_path))
    monkeypatch.chdir("/")
    assert data.load("cells").name == "cells"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert data.load("~/cells.npz").name == "cells"
    with pytest.raises(DataError, match="there is no data set 'cell'"):
        data.load("cell")


def test_a_folder_in_the_data_folder(tmp_path):
    image = pytest.importorskip("PIL.Image")
    for name in ("a/0.png", "a/1.png", "b/0.png", "b/1.png"):
        (tmp_path / "flowers" / name).parent.mkdir(parents=True, exist_ok=True)
        image.new("RGB", (4, 4)).save(tmp_path / "flowers" / name)
    assert data.load("flowers", tmp_path, size=4).name == "flowers"


def test_a_name_goes_before_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()
    assert data.load("digits").name == "digits"
    with pytest.raises(DataError, match="pictures of 0 classes"):
        data.load("./digits")


def test_only_pictures_get_a_size(tmp_path):
    np.savez(tmp_path / "cells.npz", x=np.zeros((10, 4, 4), np.uint8), y=np.arange(10) % 2)
    match = "size is for folders of pictures; the images of .* are 1x"
    for name in ("digits", tmp_path / "cells.npz"):
        with pytest.raises(DataError, match=match):
            data.load(name, size=32)


# ---- digits


def test_digits():
    digits = data.load("digits")
    assert digits.train.images.shape == (1437, 1, 8, 8)
    assert digits.test.images.shape == (360, 1, 8, 8)
    assert digits.train.images.dtype == np.uint8
    assert digits.train.images.max() == 16
    # the published counts, and the ink on all 1,797 images
    labels = np.concatenate([digits.train.labels, digits.test.labels])
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert digits.train.images.sum() + digits.test.images.sum() == 561718
    assert digits.class_names == tuple("0123456789")
    assert np.bincount(digits.test.labels).tolist() == [36] * 10
    assert digits.normalisation.mean == pytest.approx([4.8792], abs=1e-4)


def test_digits_are_made_as_their_readme_says(tmp_path, monkeypatch):
    pytest.importorskip("sklearn")
    folder = Path(_mnist.__file__).parent / "digits"
    recipe = re.search(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(recipe[1], {})
    made = {f.name: gzip.decompress(f.read_bytes()) for f in tmp_path.iterdir()}
    assert made == {f.name: gzip.decompress(f.read_bytes()) for f in folder.glob("*.gz")}


def test_digits_are_small():
    folder = Path(_mnist.__file__).parent / "digits"
    assert sum(f.stat().st_size for f in folder.iterdir()) < 60_000


def test_digits_need_no_download(tmp_path):
    assert len(data.load("digits", tmp_path).train) == 1437
    with pytest.raises(DataError, match="digits is part of the package"):
        data.download("digits")


# ---- four idx files


@pytest.mark.parametrize("packed", [True, False])
def test_reads_a_folder(data_dir, arrays, packed):
    if not packed:
        for path in (data_dir / "mnist").iterdir():
            path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
            path.unlink()
    dataset = data.load("mnist", data_dir)
    assert dataset.name == "mnist"
    assert dataset.train.images.dtype == np.uint8
    for split, prefix in ((dataset.train, "train"), (dataset.test, "t10k")):
        images, labels = (
            arrays[f"{prefix}-images-idx3-ubyte"],
            arrays[f"{prefix}-labels-idx1-ubyte"],
        )
        np.testing.assert_array_equal(split.images[:], images[:, None])
        np.testing.assert_array_equal(split.labels, labels)
    assert dataset.num_classes == 10


def replace(data_dir, name, content):
    (data_dir / "mnist" / name).write_bytes(content)


def test_more_labels_than_images(data_dir, idx, arrays):
    replace(data_dir, "train-labels-idx1-ubyte.gz", gzip.compress(idx(np.arange(8))))
    match = "train-images-idx3-ubyte.gz holds 7 images, but .*train-labels-idx1-ubyte.gz 8 labels"
    with pytest.raises(DataError, match=match):
        data.load("mnist", data_dir)


def test_a_label_that_is_no_class(data_dir, idx):
    replace(data_dir, "t10k-labels-idx1-ubyte.gz", gzip.compress(idx(np.array([1, 2, 10, 3, 11]))))
    match = "mnist, test part: label 10 of image 2 is not one of the 10 classes, 0 to 9"
    with pytest.raises(DataError, match=match):
        data.load("mnist", data_dir)


def test_parts_of_different_shapes(data_dir, idx):
    replace(data_dir, "t10k-images-idx3-ubyte.gz", gzip.compress(idx(np.ones((5, 2, 3)))))
    with pytest.raises(DataError, match=r"\(1, 3, 2\), but test images of shape \(1, 2, 3\)"):
        data.load("mnist", data_dir)


def test_a_truncated_file(data_dir, zipped):
    name = "t10k-images-idx3-ubyte.gz"
    replace(data_dir, name, zipped[name][:-10])
    with pytest.raises(FileError, match=f"{name} is truncated: of 30 bytes"):
        data.load("mnist", data_dir)


def test_a_missing_file(data_dir):
    (data_dir / "mnist" / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(
        DataError, match="mnist holds neither t10k-labels-idx1-ubyte nor t10k-.*.gz"
    ):
        data.load("mnist", data_dir)


# ---- where data is looked for


def test_a_missing_folder_says_where_it_looked_and_how_to_download(tmp_path, monkeypatch):
    with pytest.raises(DataError) as caught:
        data.load("mnist", tmp_path)
    assert str(caught.value) == (
        f"there is no folder {tmp_path / 'mnist'}: tinygrad_edge.data.download('mnist', "
        f"{str(tmp_path)!r}) makes it, and without data_dir the data goes to a cache"
    )
    monkeypatch.setenv("TINYGRAD_EDGE_DATA", str(tmp_path))
    with pytest.raises(DataError, match="without TINYGRAD_EDGE_DATA the data goes to a cache"):
        data.load("mnist")


def test_the_environment_names_a_folder_that_the_caller_overrides(data_dir, monkeypatch):
    monkeypatch.setenv("TINYGRAD_EDGE_DATA", str(data_dir))
    assert len(data.load("mnist").train) == 7
    with pytest.raises(DataError, match="no folder .*elsewhere"):
        data.load("mnist", data_dir / "elsewhere")


@pytest.mark.parametrize(
    ("platform", "variables", "folder"),
    [
        ("linux", {}, "home/.cache/tinygrad_edge"),
        ("linux", {"XDG_CACHE_HOME": "{}/xdg"}, "xdg/tinygrad_edge"),
        ("linux", {"XDG_CACHE_HOME": "relative"}, "home/.cache/tinygrad_edge"),
        ("linux", {"XDG_CACHE_HOME": ""}, "home/.cache/tinygrad_edge"),
        ("darwin", {"XDG_CACHE_HOME": "{}/xdg"}, "home/Library/Caches/tinygrad_edge"),
        ("win32", {"LOCALAPPDATA": "{}/local"}, "local/tinygrad_edge"),
        ("linux", {"TINYGRAD_EDGE_DATA": "{}/data"}, "data"),
        ("linux", {"TINYGRAD_EDGE_DATA": "~/data"}, "home/data"),
    ],
)
def test_downloads_go_where_the_platform_wants_them(
    tmp_path, monkeypatch, platform, variables, folder
):
    monkeypatch.setattr(sys, "platform", platform)
    for variable in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value.format(tmp_path))
    assert _folders.download_root(None) == tmp_path / folder


def test_a_user_without_a_home_folder(monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # what it does for such a user
    with pytest.raises(DataError, match="no home folder .*: set TINYGRAD_EDGE_DATA to a folder"):
        data.load("mnist")


# ---- downloading


@pytest.fixture
def published(data_dir, zipped, monkeypatch):
    """The four small files in place of MNIST, with a mirror on this machine and an empty cache."""
    small = dataclasses.replace(
        _mnist.MNIST,
        mirrors=((data_dir / "mnist").as_uri() + "/",),
        sha256={name: hashlib.sha256(content).hexdigest() for name, content in zipped.items()},
    )
    monkeypatch.setitem(_sources.SOURCES, "mnist", _sources.Source(small.load, small.download))
    monkeypatch.setattr(_folders, "cache_folder", lambda: data_dir / "cache")
    return data_dir


def test_loading_downloads_once_into_the_cache(published):
    assert len(data.load("mnist").train) == 7
    (published / "mnist").rename(published / "gone")
    assert len(data.load("mnist").train) == 7
    assert len(list((published / "cache" / "mnist").iterdir())) == 4


def test_downloads_where_loading_looks(published, monkeypatch):
    assert data.download("mnist", published / "own") == published / "own" / "mnist"
    assert len(data.load("mnist", published / "own").train) == 7
    monkeypatch.setenv("TINYGRAD_EDGE_DATA", str(published / "environment"))
    assert data.download("mnist") == published / "environment" / "mnist"
    assert len(data.load("mnist").train) == 7


def test_a_given_folder_is_never_downloaded_to_unasked(published):
    with pytest.raises(DataError, match="no folder"):
        data.load("mnist", published / "own")
    assert not (published / "own").exists()


def test_the_table_names_all_four_files():
    for dataset in (_mnist.MNIST, _mnist.FASHION_MNIST):
        assert sorted(dataset.sha256) == sorted(
            f"{prefix}-{kind}-ubyte.gz"
            for prefix in ("train", "t10k")
            for kind in ("images-idx3", "labels-idx1")
        )
        assert all(len(digest) == 64 for digest in dataset.sha256.values())
        assert all(mirror.endswith("/") for mirror in dataset.mirrors)
        assert len(dataset.class_names) == 10
