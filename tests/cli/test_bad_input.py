"""Each ends in one line on stderr and exit code 2, and what was on disk stays as it was."""

import contextlib
import gzip
import os

import numpy as np
import pytest
from cli.process import run

import tinygrad_edge as te

resource = pytest.importorskip("resource")

SHORT = ("--model", "tiny", "--epochs", "1", "--batch", "512")


def refused(result, *said):
    code, _, err = result
    assert code == 2, err
    assert err.count("\n") == 1, err
    assert err.startswith("tinygrad-edge")
    for words in said:
        assert words in err, err


@pytest.fixture
def trained(command):
    assert command("train", *SHORT, "--out", "run")[0] == 0


ARGUMENTS = [
    (["train", "--batch", "0"], "--batch: expected a whole number from 1 on, got '0'"),
    (["train", "--batch", "many"], "got 'many'"),
    (["train", "--batch", "1438"], "more than the 1437 training images"),
    (["train", "--epochs", "-1"], "got '-1'"),
    (["train", "--lr", "-0.1"], "--lr: expected a positive number, got '-0.1'"),
    (["train", "--lr", "nan"], "got 'nan'"),
    (["train", "--lr", "inf"], "got 'inf'"),
    (["train", "--budget", "much"], "--budget: expected bytes such as"),
    (
        ["train", "--budget", "1GB", "--allow", "float8"],
        "no 'float8' to allow; there are microbatch",
    ),
    (["train", "--allow", "float16"], "give a --budget"),
    (["plan", "lenet", "--allow", "float16"], "give a --budget"),
    (["train", "--precision", "float8"], "did you mean 'float16'?"),
    (["train", "--precision", "int8", "--budget", "9MB"], "leave out one, or let the budget"),
    (["train", "--sparsity", "1"], "expected a number from 0 to below 1, got '1'"),
    (["plan", "lenet", "--sparsity", "much"], "expected a number from 0 to below 1, got 'much'"),
    (["train", "--dst", "set"], "give a --sparsity"),
    (["train", "--sparsity", "0.5", "--freeze", "--init", "x"], "leave out one"),
    (["train", "--sparsity", "0.5", "--dst", "sett"], "did you mean 'set'?"),
    (["plan", "lenet", "--pareto", "--budget", "1GB"], "leave out --budget"),
    (["plan", "lenet", "--pareto", "--out", "lenet.html"], "ends in .png or .svg"),
    (["plan", "lenet", "--optimal"], "--optimal goes with --pareto"),
    (["train", "--budget", "1kB"], "the smallest budget found for this step is"),
    (["train", "--seed", "-1"], "from 0 on, got '-1'"),
    (["train", "--seed", str(2**64)], "below 2**64"),
    (["train", "--threads", "0"], "got '0'"),
    (["train", "--model", "lennet"], "did you mean 'lenet'?"),
    (["train", "--optimizer", "agd"], "did you mean 'sgd'?"),
    (["train", "minst"], "did you mean 'mnist'?"),
    (["train", "mnist", "--data-dir", "nowhere"], f"no folder nowhere{os.sep}mnist"),
    (["train", "--resume", "nowhere"], "there is no nowhere"),
    (["train", "--epoch=3"], "unrecognized arguments: --epoch=3"),
    (["eval"], "required: SNAPSHOT"),
    (["eval", "nowhere"], "there is no nowhere"),
    (["plan", "lennet"], "did you mean 'lenet'?"),
    (["plan", "lenet", "--size", "28"], "as 3x32x32, got '28'"),
    (["plan", "lenet", "--size", "1x0x28"], "got '1x0x28'"),
    (["plan", "lenet", "--size", "1x2x2"], "12x12 or larger, got (2, 2)"),
    (["trian"], "'trian'"),
    ([], "required: COMMAND"),
]


@pytest.mark.parametrize("words, said", ARGUMENTS, ids=[" ".join(w) for w, _ in ARGUMENTS])
def test_argument(command, tmp_path, files, words, said):
    refused(command(*words), said)
    assert not files(tmp_path)
    assert not list(tmp_path.iterdir())


# ---- data ----


def idx(array):
    header = np.array([0x800 + array.ndim, *array.shape], ">u4")
    return gzip.compress(header.tobytes() + array.astype(np.uint8).tobytes())


@pytest.fixture
def mnist(tmp_path):
    """A function that writes a small MNIST with other files in it, and gives the data folder."""
    arrays = {
        "train-images-idx3-ubyte": np.zeros((600, 8, 8)),
        "train-labels-idx1-ubyte": np.arange(600) % 10,
        "t10k-images-idx3-ubyte": np.zeros((10, 8, 8)),
        "t10k-labels-idx1-ubyte": np.arange(10),
    }

    def write(other):
        folder = tmp_path / "data" / "mnist"
        folder.mkdir(parents=True)
        for name, content in {n: idx(a) for n, a in arrays.items()}.items():
            (folder / f"{name}.gz").write_bytes(other.get(name, content))
        return tmp_path / "data"

    return write


GOOD = idx(np.zeros((600, 8, 8)))
DATA = {
    "truncated": ({"train-images-idx3-ubyte": GOOD[:-20]}, "train-images-idx3-ubyte.gz is"),
    "no gzip": ({"train-images-idx3-ubyte": b"not gzip"}, "no intact gzip file"),
    "magic": ({"train-images-idx3-ubyte": idx(np.zeros(600))}, "magic number 0x00000801"),
    "label": ({"t10k-labels-idx1-ubyte": idx(np.full(10, 10))}, "label 10 of image 0"),
    "number": ({"t10k-labels-idx1-ubyte": idx(np.arange(9))}, "holds 10 images, but"),
    "shape": ({"t10k-images-idx3-ubyte": idx(np.zeros((10, 8, 9)))}, "different shapes|of shape"),
}


@pytest.mark.parametrize("case", DATA)
def test_data(command, mnist, tmp_path, case):
    other, said = DATA[case]
    result = command("train", "mnist", "--data-dir", mnist(other), *SHORT, "--out", "run")
    refused(result)
    assert any(words in result[2] for words in said.split("|")), result[2]
    assert not (tmp_path / "run").exists()


def test_images_too_small_for_the_model(command, mnist, tmp_path):
    refused(command("train", "--model", "lenet", "--out", "run"), "12x12 or larger, got (8, 8)")
    train, test = idx(np.zeros((600, 5, 5))), idx(np.zeros((10, 5, 5)))
    data = mnist({"train-images-idx3-ubyte": train, "t10k-images-idx3-ubyte": test})
    words = ("--data-dir", data, "--model", "cnn", "--out", "run")
    refused(command("train", "mnist", *words), "max_pool2d")
    assert not (tmp_path / "run").exists()


def test_eval_on_images_of_another_shape(command, trained, mnist):
    train, test = idx(np.zeros((600, 5, 5))), idx(np.zeros((10, 5, 5)))
    data = mnist({"train-images-idx3-ubyte": train, "t10k-images-idx3-ubyte": test})
    refused(command("eval", "run", "mnist", "--data-dir", data), "1x8x8", "1x5x5")


def test_run_is_not_resumed_on_other_data_of_that_name(command, mnist, tmp_path, files):
    data = mnist({})
    assert command("train", "mnist", "--data-dir", data, *SHORT, "--out", "run")[0] == 0
    (data / "mnist" / "train-images-idx3-ubyte.gz").write_bytes(idx(np.ones((600, 8, 8))))
    before = files(tmp_path / "run")
    refused(command("train", "--resume", "run", "--data-dir", data), "mnist here is not what")
    assert files(tmp_path / "run") == before


# ---- numbers ----


def test_nan_loss_names_step_and_value(command, tmp_path):
    words = ("--model", "tiny", "--batch", "64", "--lr", "1e30", "--out", "run")
    result = command("train", *words)
    refused(result, "step ", "(epoch 1, batch ", "the first value that is not finite: ")
    tensors = te.load(tmp_path / "run" / "snapshot.safetensors").tensors
    assert all(np.isfinite(tensor).all() for tensor in tensors.values())


# ---- snapshots ----


def flipped(content):
    return content[:-1] + bytes([content[-1] ^ 1])


def half(content):
    return content[: len(content) // 2]


@pytest.mark.parametrize("damage", [flipped, half, lambda content: b""])
@pytest.mark.parametrize("words", [("train", "--resume", "run"), ("eval", "run")])
def test_damaged_snapshot(command, trained, tmp_path, files, damage, words):
    path = tmp_path / "run" / "snapshot.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    before = files(tmp_path)
    refused(command(*words), "snapshot.safetensors is no intact safetensors file")
    assert files(tmp_path) == before


SETTINGS = {
    "data": "digits",
    "model": "tiny",
    "epochs": 1,
    "batch": 512,
    "optimizer": "sgd",
    "lr": 0.02,
    "seed": 0,
}
DATA_INFO = {
    "name": "digits",
    "class_names": list("0123456789"),
    "image_shape": [1, 8, 8],
    "train_images": 1437,
    "mean": [4.0],
    "std": [6.0],
    "fill_missing": False,
}
PROGRESS = {"batch": 0, "loss": 0.0, "seconds": 0.0, "epochs": []}
RESULT = {
    "epoch": 1,
    "step": 2,
    "loss": 1.0,
    "accuracy": 0.5,
    "seconds": 1.0,
    "step_ms": 1.0,
    "peak_bytes": 1,
}
OTHERS = {
    "nothing": ({"settings": None, "data": None, "progress": None}, "None"),
    "text": ({"settings": "all"}, "'all'"),
    "number": ({"settings": {**SETTINGS, "epochs": 0}}, "'settings'"),
    "rate": ({"settings": {**SETTINGS, "lr": -1}}, "'settings'"),
    "type": ({"settings": {**SETTINGS, "seed": 1.5}}, "1.5"),
    "optimizer": ({"settings": {**SETTINGS, "optimizer": "agd"}}, "'settings'"),
    "setting": ({"settings": {**SETTINGS, "other": 1}}, "{'data': 'digits'"),
    "shape": ({"data": {**DATA_INFO, "image_shape": [1, 8]}}, "'data'"),
    "size": ({"data": {**DATA_INFO, "image_shape": [1, 0, 8]}}, "'data'"),
    "statistics": ({"data": {**DATA_INFO, "mean": [0.0, 1.0]}}, "'data'"),
    "deviation": ({"data": {**DATA_INFO, "std": [0]}}, "'data'"),
    "name": ({"data": {**DATA_INFO, "class_names": [1, 2]}}, "1 is not"),
    "epochs": ({"progress": {**PROGRESS, "epochs": [RESULT, RESULT]}}, "'progress'"),
    "result": ({"progress": {**PROGRESS, "epochs": [{}]}}, "{}"),
    "batch": ({"progress": {**PROGRESS, "batch": -1}}, "'progress'"),
}


@pytest.mark.parametrize("case", OTHERS)
def test_snapshot_that_says_other_things(command, tmp_path, case):
    metadata, said = OTHERS[case]
    good = {"settings": SETTINGS, "data": DATA_INFO, "progress": PROGRESS}
    te.save(tmp_path / "weights.safetensors", te.nn.Linear(2, 2), {**good, **metadata})
    refused(command("eval", "weights.safetensors"), "weights.safetensors is no snapshot", said)
    refused(command("train", "--resume", "weights.safetensors"), said)


def test_snapshot_of_weights_alone(command, tmp_path):
    te.save(tmp_path / "weights.safetensors", te.nn.Linear(2, 2))
    refused(command("eval", "weights.safetensors"), "'settings' is not as it should be")


def test_snapshot_of_a_model_that_is_not_here(command, trained, tmp_path):
    path = tmp_path / "run" / "snapshot.safetensors"
    tensors, texts = te.safetensors.load(path)
    te.safetensors.save(path, tensors, {k: v.replace("tiny", "lenett") for k, v in texts.items()})
    refused(command("eval", "run"), "no model 'lenett': did you mean 'lenet'?")
    refused(command("train", "--resume", "run"), "no model 'lenett'")


def test_snapshot_with_weights_missing(command, trained, tmp_path):
    path = tmp_path / "run" / "snapshot.safetensors"
    tensors, texts = te.safetensors.load(path)
    del tensors["classify.bias"]
    te.safetensors.save(path, tensors, texts)
    refused(command("eval", "run"), "does not fit", "missing classify.bias")
    refused(command("train", "--resume", "run"), "missing classify.bias")


# ---- places ----


def test_out_that_holds_a_run(command, trained, tmp_path, files):
    before = files(tmp_path)
    refused(command("train", *SHORT, "--out", "run"), "run holds a run already", "--resume run")
    assert files(tmp_path) == before


def test_out_below_a_file(command, tmp_path):
    (tmp_path / "file").write_text("precious")
    refused(command("train", *SHORT, "--out", "file"), "cannot make the folder file")
    refused(command("train", *SHORT, "--out", "file/run"), "cannot make the folder file/run")
    assert (tmp_path / "file").read_text() == "precious"


def test_runs_that_is_a_file(command, tmp_path):
    (tmp_path / "runs").write_text("precious")
    refused(command("train", *SHORT), "cannot make the folder runs")


@contextlib.contextmanager
def disk(size):
    """Let this process write no file longer than so many bytes; pytest's own output comes after."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_disk_full_at_the_start(command, tmp_path, files):
    with disk(1000):
        refused(command("train", *SHORT, "--out", "run"), "cannot write run/snapshot.safetensors")
    assert not files(tmp_path)


def test_disk_full_on_the_way_leaves_the_last_snapshot(command, tmp_path):
    assert command("train", *SHORT, "--out", "other")[0] == 0
    size = (tmp_path / "other" / "snapshot.safetensors").stat().st_size
    with disk(size - 50):  # metrics make a snapshot grow
        refused(command("train", *SHORT, "--out", "run"), "cannot write run/snapshot.safetensors")
    assert te.load(tmp_path / "run" / "snapshot.safetensors").metadata["progress"]["epochs"] == []
    assert command("train", "--resume", "run")[0] == 0


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_output_on_a_full_disk(tmp_path, unbuffered):
    env = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    with open("/dev/full", "w") as full:
        refused(run("doctor", folder=tmp_path, stdout=full, env=env), "No space left")


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_output_that_nobody_reads(tmp_path, unbuffered):
    env = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as closed:
        code, _, err = run("doctor", folder=tmp_path, stdout=closed, env=env)
    assert (code, err) == (0, "")
