"""The published files themselves, where TINYGRAD_EDGE_DATA has them."""

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest

from tinygrad_edge import data
from tinygrad_edge.data._mnist import FASHION_MNIST, MNIST

ROOT = os.environ.get("TINYGRAD_EDGE_DATA")


@pytest.fixture(params=[MNIST, FASHION_MNIST], ids=lambda dataset: dataset.name)
def dataset(request):
    if not ROOT or not (Path(ROOT) / request.param.name).is_dir():
        pytest.skip(f"no {request.param.name} in TINYGRAD_EDGE_DATA")
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
