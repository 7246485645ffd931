"""The data sets that come as four idx files: digits, MNIST, Fashion-MNIST."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import DataError
from ._augment import Augmentation, Crop, Flip
from ._dataset import Dataset
from ._download import fetch
from ._folders import DataDir, download_root, given_folder
from ._idx import find_idx, open_idx_images, read_idx
from ._images import Images

__all__ = ["FASHION_MNIST", "MNIST", "IdxDataset", "load_digits"]

_DIGITS = tuple("0123456789")


@dataclass(frozen=True)
class IdxDataset:
    """A data set in the layout of MNIST, and where it is to be had.

    Parameters
    ----------
    name : str
        Of the data set and of its folder.
    class_names : tuple of str
        One a class, in the order of the labels.
    mirrors : tuple of str
        Addresses, to which a file's name is appended, in the order of preference.
    sha256 : mapping of str to str
        The digest of each file.
    augmentation : tuple of Augmentation
        What suits the images.
    """

    name: str
    class_names: tuple[str, ...]
    mirrors: tuple[str, ...]
    sha256: Mapping[str, str]
    augmentation: tuple[Augmentation, ...]

    def load(self, data_dir: DataDir = None) -> Dataset:
        """Read the files from the folder that is given, else from the cache, downloaded once."""
        folder = given_folder(self.name, data_dir) or self.download()
        return _read(self.name, folder, self.class_names, self.augmentation)

    def download(self, data_dir: DataDir = None) -> Path:
        """Fetch the files that are not there, or not right; return their folder."""
        folder = download_root(data_dir) / self.name
        for file, sha256 in self.sha256.items():
            fetch([mirror + file for mirror in self.mirrors], folder / file, sha256)
        return folder


def load_digits(data_dir: DataDir = None) -> Dataset:
    """Read the digits, which are part of this package wherever other data lies."""
    return _read("digits", Path(__file__).parent / "digits", _DIGITS, (Crop(1),))


def _read(
    name: str, folder: Path, class_names: tuple[str, ...], augmentation: tuple[Augmentation, ...]
) -> Dataset:
    train, test = _read_part(folder, "train"), _read_part(folder, "t10k")
    return Dataset.from_arrays(name, train, test, class_names, augmentation=augmentation)


def _read_part(folder: Path, prefix: str) -> tuple[Images, np.ndarray]:
    images_path = find_idx(folder, f"{prefix}-images-idx3-ubyte")
    labels_path = find_idx(folder, f"{prefix}-labels-idx1-ubyte")
    images, labels = open_idx_images(images_path), read_idx(labels_path, ndim=1)
    if images.shape[0] != len(labels):
        raise DataError(
            f"{images_path} holds {images.shape[0]} images, but {labels_path} {len(labels)} labels"
        )
    return images, labels


MNIST = IdxDataset(
    name="mnist",
    class_names=_DIGITS,
    mirrors=(
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "http://yann.lecun.com/exdb/mnist/",
    ),
    sha256={
        "train-images-idx3-ubyte.gz": (
            "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"
        ),
        "train-labels-idx1-ubyte.gz": (
            "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"
        ),
        "t10k-images-idx3-ubyte.gz": (
            "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"
        ),
        "t10k-labels-idx1-ubyte.gz": (
            "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"
        ),
    },
    augmentation=(Crop(2),),
)

FASHION_MNIST = IdxDataset(
    name="fashion_mnist",
    class_names=(
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ),
    mirrors=(
        "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    ),
    sha256={
        "train-images-idx3-ubyte.gz": (
            "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"
        ),
        "train-labels-idx1-ubyte.gz": (
            "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"
        ),
        "t10k-images-idx3-ubyte.gz": (
            "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"
        ),
        "t10k-labels-idx1-ubyte.gz": (
            "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"
        ),
    },
    augmentation=(Flip(), Crop(2)),
)
