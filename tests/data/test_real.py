"""The published files themselves, where TINYGRAD_EDGE_DATA has them."""

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
from data.python2 import batch_file

from tinygrad_edge import data
from tinygrad_edge.data._mnist import FASHION_MNIST, MNIST

ROOT = os.environ.get("TINYGRAD_EDGE_DATA")


def here(name):
    """Give a path in the data folder, or skip the test."""
    if not ROOT or not (Path(ROOT) / name).exists():
        pytest.skip(f"no {name} in TINYGRAD_EDGE_DATA")
    return Path(ROOT) / name


@pytest.fixture(params=[MNIST, FASHION_MNIST], ids=lambda dataset: dataset.name)
def dataset(request):
    here(request.param.name)
    return request.param


def test_loads(dataset):
    loaded = data.load(dataset.name)
    assert loaded.train.images.shape == (60_000, 1, 28, 28)
    assert loaded.test.images.shape == (10_000, 1, 28, 28)
    assert (
        np.bincount(loaded.test.labels).min() >= 892
    )  # of fives in MNIST; 1,000 of each in the other
    known = {"mnist": (0.1307, 0.3081), "fashion_mnist": (0.2860, 0.3530)}[dataset.name]
    normalisation = loaded.normalisation
    found = normalisation.mean[0] / 255, normalisation.std[0] / 255
    assert found == pytest.approx(known, abs=5e-5)


def test_checksums_are_those_of_the_published_files(dataset):
    for name, digest in dataset.sha256.items():
        path = Path(ROOT) / dataset.name / name
        if path.is_file():
            assert hashlib.sha256(path.read_bytes()).hexdigest() == digest


def test_cifar10():
    folder = here("cifar-10-batches-bin")
    loaded = data.load("cifar10", folder.parent)
    assert loaded.train.images.shape == (50_000, 3, 32, 32)
    assert loaded.test.images.shape == (10_000, 3, 32, 32)
    assert np.bincount(loaded.train.labels).tolist() == [5000] * 10
    assert np.bincount(loaded.test.labels).tolist() == [1000] * 10
    counts = [1005, 974, 1032, 1016, 999, 937, 1030, 1001, 1025, 981]  # of the first batch
    assert np.bincount(loaded.train.labels[:10_000]).tolist() == counts
    normalisation = loaded.normalisation
    assert np.array(normalisation.mean) / 255 == pytest.approx([0.4914, 0.4822, 0.4465], abs=1e-4)
    assert np.array(normalisation.std) / 255 == pytest.approx([0.2470, 0.2435, 0.2616], abs=1e-4)
    assert loaded.held_bytes == 240_000


def test_cifar10_in_its_python_form_is_the_same(tmp_path):
    """Made of the binary form, as the publisher's Python 2 would have written it."""
    binary = data.load("cifar10", here("cifar-10-batches-bin").parent)
    (tmp_path / "cifar-10-batches-py").mkdir()
    names = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
    for i, name in enumerate(names):
        split, rows = (binary.train, slice(10_000 * i, 10_000 * (i + 1)))
        if name == "test_batch":
            split, rows = binary.test, slice(None)
        content = batch_file(split.images[rows], split.labels[rows].tolist())
        (tmp_path / "cifar-10-batches-py" / name).write_bytes(content)
    python = data.load("cifar10", tmp_path)
    assert python.normalisation == binary.normalisation
    rows = np.arange(0, 50_000, 77)
    for form in (python, binary):
        np.testing.assert_array_equal(form.train.labels, binary.train.labels)
        np.testing.assert_array_equal(form.train.images[rows], binary.train.images[rows])
    assert python.held_bytes == 240_000


def test_uci_har():
    loaded = data.load("uci_har", here("UCI HAR Dataset").parent)
    assert loaded.train.images.shape == (7352, 9, 1, 128)
    assert loaded.test.images.shape == (2947, 9, 1, 128)
    labels = np.concatenate([loaded.train.labels, loaded.test.labels])
    assert np.bincount(labels).tolist() == [1722, 1544, 1406, 1777, 1906, 1944]
    assert loaded.normalisation.mean[6] == pytest.approx(0.8, abs=0.02)  # gravity, along x
    assert loaded.skipped == ()
    overlap = loaded.train.images[:2]  # windows half overlap
    np.testing.assert_array_equal(overlap[0, :, :, 64:], overlap[1, :, :, :64])


def test_blood_cells():
    path = here("pbc_blood28.npz")
    loaded = data.load("pbc_blood28", path.parent)
    assert loaded.train.images.shape == (11_950, 3, 28, 28)
    assert (len(loaded.val), len(loaded.test)) == (1701, 3441)
    counts = [831, 2190, 1090, 2019, 853, 985, 2331, 1651]
    assert np.bincount(loaded.train.labels).tolist() == counts
    assert loaded.class_names[0] == "basophil"
    stored = np.load(path)["test_images"]
    np.testing.assert_array_equal(loaded.test.images[::100], stored[::100].transpose(0, 3, 1, 2))
