import numpy as np
import pytest

from tinygrad_edge import data
from tinygrad_edge.data._har import UCI_HAR
from tinygrad_edge.errors import DataError, FileError

CHANNELS = [f"{s}_{axis}" for s in ("body_acc", "body_gyro", "total_acc") for axis in "xyz"]
COUNTS = {"train": 300, "test": 7}  # more than are read at a time, and less
RNG = np.random.default_rng(0)
SIGNALS = {part: RNG.normal(size=(9, n, 128)).astype(np.float32) for part, n in COUNTS.items()}
LABELS = {part: np.arange(n) % 6 + 1 for part, n in COUNTS.items()}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The 20 files, in the publisher's notation."""
    root = tmp_path_factory.mktemp("har")
    for part in COUNTS:
        folder = root / "UCI HAR Dataset" / part
        (folder / "Inertial Signals").mkdir(parents=True)
        np.savetxt(folder / f"y_{part}.txt", LABELS[part], fmt="%d")
        for channel, signal in zip(CHANNELS, SIGNALS[part], strict=True):
            path = folder / "Inertial Signals" / f"{channel}_{part}.txt"
            np.savetxt(path, signal, fmt="%16.7e", delimiter="")
    return root


@pytest.fixture
def root(written, tmp_path):
    """Links to the files, which a test may replace."""
    for path in written.rglob("*.txt"):
        link = tmp_path / path.relative_to(written)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path)
    return tmp_path


def signal_file(root, part, channel):
    return root / "UCI HAR Dataset" / part / "Inertial Signals" / f"{channel}_{part}.txt"


def replace(path, lines):
    path.unlink()
    path.write_text("".join(lines))


def lines_of(path):
    return path.read_text().splitlines(keepends=True)


def test_windows_are_images(root):
    dataset = data.load("uci_har", root)
    assert dataset.image_shape == (9, 1, 128)
    assert dataset.class_names[0] == "walking"
    assert dataset.num_classes == 6
    for part, split in (("train", dataset.train), ("test", dataset.test)):
        expected = SIGNALS[part].transpose(1, 0, 2)[:, :, None]
        np.testing.assert_allclose(split.images[:], expected, rtol=1e-7, atol=1e-7)
        np.testing.assert_array_equal(split.labels, LABELS[part] - 1)
    assert dataset.skipped == ()
    assert dataset.augmentation == (data.Noise(0.05),)


def test_a_missing_value_is_filled_and_told_of(root):
    path = signal_file(root, "train", "body_gyro_y")
    lines = lines_of(path)
    lines[299] = "NaN".rjust(16) + lines[299][16:]
    replace(path, lines)
    dataset = data.load("uci_har", root)
    assert dataset.skipped == (data.Skipped("training part", "1 missing values: filled by means"),)
    x, _ = dataset.train.batch(np.array([299]))
    assert x[0, 4, 0, 0] == 0
    assert np.isfinite(x).all()
    present = np.delete(SIGNALS["train"][4].reshape(-1), 299 * 128)
    assert dataset.normalisation.mean[4] == pytest.approx(present.mean(dtype=float), abs=1e-6)
    assert dataset.normalisation.std[4] == pytest.approx(present.std(dtype=float), rel=1e-6)


def test_a_constant_channel_is_0(root):
    replace(signal_file(root, "train", "total_acc_z"), [" 1.0e+000" * 128 + "\n"] * 300)
    dataset = data.load("uci_har", root)
    x, _ = dataset.train.batch(np.arange(5))
    assert (x[:, 8] == 0).all()


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda lines: lines[:-1], "it ends before the labels do"),
        (lambda lines: [*lines, lines[0]], "holds more windows than the 300 labels"),
        (lambda lines: [" 1.0" * 127 + "\n"] * 300, "127 values in a line, expected 128"),
        (lambda lines: [lines[0][:-17] + "\n", *lines[1:]], "number of columns changed"),
        (lambda lines: ["?" + lines[0], *lines[1:]], "could not convert string '?"),
        (lambda lines: ["Inf" + lines[0][16:], *lines[1:]], "channel 1 of image 0 holds infinity"),
        (lambda lines: ["\xff\xff", *lines[1:]], "can't decode"),
    ],
)
def test_a_damaged_file(root, change, match):
    path = signal_file(root, "train", "body_acc_y")
    replace(path, change(lines_of(path)))
    with pytest.raises((FileError, DataError), match=match):
        data.load("uci_har", root)


def test_a_label_that_is_no_activity(root):
    replace(root / "UCI HAR Dataset" / "test" / "y_test.txt", ["7\n"] * 7)
    with pytest.raises(DataError, match="label 6 of image 0 is not one of the 6 classes"):
        data.load("uci_har", root)


@pytest.mark.parametrize("name", ["y_test.txt", "Inertial Signals/body_acc_x_test.txt"])
def test_a_missing_file(root, name):
    (root / "UCI HAR Dataset" / "test" / name).unlink()
    with pytest.raises(FileError, match=f"cannot read .*{name}"):
        data.load("uci_har", root)


def test_a_missing_folder(tmp_path):
    with pytest.raises(DataError, match="no folder .*UCI HAR Dataset: .*download"):
        data.load("uci_har", tmp_path)


def test_the_table_names_what_is_read(root):
    read = {path.relative_to(root).as_posix() for path in root.rglob("*.txt")}
    assert set(UCI_HAR.members) == read
