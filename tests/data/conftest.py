import gzip

import numpy as np
import pytest


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """Nothing that these tests unpack goes to the user's cache."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        monkeypatch.delenv("TMPDIR", raising=False)
        yield


@pytest.fixture
def idx():
    """A function that gives an array as an idx file."""

    def encode(array):
        header = np.array([0x800 + array.ndim, *array.shape], ">u4")
        return header.tobytes() + array.astype(np.uint8).tobytes()

    return encode


@pytest.fixture
def arrays():
    """Seven training and five test images of 3x2, with labels, under MNIST's file names."""
    rng = np.random.default_rng(0)
    return {
        "train-images-idx3-ubyte": rng.integers(0, 256, (7, 3, 2)),
        "train-labels-idx1-ubyte": np.arange(7),
        "t10k-images-idx3-ubyte": rng.integers(0, 256, (5, 3, 2)),
        "t10k-labels-idx1-ubyte": np.arange(5) + 5,
    }


@pytest.fixture
def zipped(arrays, idx):
    """The content of the four gzipped files of `arrays`, by name."""
    return {f"{name}.gz": gzip.compress(idx(array)) for name, array in arrays.items()}


@pytest.fixture
def data_dir(tmp_path, zipped):
    """A data folder: mnist/ holds the four files."""
    (tmp_path / "mnist").mkdir()
    for name, content in zipped.items():
        (tmp_path / "mnist" / name).write_bytes(content)
    return tmp_path
