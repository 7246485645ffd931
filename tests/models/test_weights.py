"""Weights trained elsewhere: torchvision's names, other classes, everything that can be wrong."""

import re
import tracemalloc

import numpy as np
import pytest
from models.torchvision import CHECKPOINTS

import tinygrad_edge as te
from tinygrad_edge import models, nn, safetensors
from tinygrad_edge.errors import FileError


def checkpoint(name, dtype=np.float32):
    """What a file of torchvision's holds, with random numbers: an int64 count in each norm."""
    rng = np.random.default_rng(0)
    return {
        part: rng.integers(1, 9, shape).astype(np.int64)
        if part.endswith("num_batches_tracked")
        else rng.uniform(0.5, 1, shape).astype(dtype)
        for part, shape in CHECKPOINTS[name][0]().items()
    }


class Net(nn.Module):
    """A norm and two linear layers; the last is the head."""

    def __init__(self, classes=3, hidden=4):
        super().__init__()
        self.norm = nn.BatchNorm2d(2)
        self.first, self.head = nn.Linear(2, hidden), nn.Linear(hidden, classes)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "weights.safetensors"


def bits(model):
    return {name: p.numpy().tobytes() for name, p in model.state_dict().items()}


def write(path, changes=(), model=None):
    """Write a net's weights plus one, with changes; None takes a name away."""
    arrays = {n: p.numpy() + 1 for n, p in (model or Net()).state_dict().items()} | dict(changes)
    safetensors.save(path, {n: np.asarray(a) for n, a in arrays.items() if a is not None})
    return arrays


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_a_checkpoint_of_torchvision_loads_but_for_other_classes(path, name):
    arrays = checkpoint(name)
    safetensors.save(path, arrays)
    model = models.build(name, num_classes=7, in_channels=3)
    left_out = models.load_weights(model, path)
    assert left_out == tuple(arrays)[-2:] and left_out[0].endswith("weight")
    for part, p in model.state_dict().items():
        if part in left_out:
            assert len(p.numpy()) == 7
        else:
            assert np.array_equal(p.numpy(), arrays[part]), part


def test_all_is_replaced_where_all_fits(path):
    arrays, net = write(path), Net()
    assert models.load_weights(net, path) == ()
    assert all(np.array_equal(p.numpy(), arrays[name]) for name, p in net.state_dict().items())


def test_the_head_of_other_classes_stays_as_it_was(path):
    write(path, model=Net(classes=5))
    net = Net()
    before = bits(net)
    assert models.load_weights(net, path) == ("head.weight", "head.bias")
    changed = {name for name, now in bits(net).items() if now != before[name]}
    assert changed == set(before) - {"head.weight", "head.bias"}


def test_other_classes_may_be_refused(path):
    write(path, model=Net(classes=5))
    expected = r"head.weight is \[3, 4\], got \[5, 4\]; head.bias is \[3\], got \[5\]$"
    with pytest.raises(FileError, match=expected):
        models.load_weights(Net(), path, new_head=False)


@pytest.mark.parametrize(
    ("dtype", "bound"), [("float16", 2**-11), ("bfloat16", 2**-8), ("float64", 2**-24)]
)
def test_other_floats_are_converted(path, dtype, bound):
    net = Net()
    arrays = {name: p.numpy() for name, p in net.state_dict().items()}
    exact = {n: a * np.pi for n, a in arrays.items() if a.dtype == np.float32}
    if dtype == "bfloat16":
        rounded = {n: (a.view(np.uint32) + 0x8000 >> 16) for n, a in exact.items()}
        stored = {n: a.astype(np.uint16).view(safetensors.bfloat16) for n, a in rounded.items()}
    else:
        stored = {n: (a.astype(np.float64) * 1.0).astype(dtype) for n, a in exact.items()}
    safetensors.save(path, arrays | stored)
    models.load_weights(net, path)
    for name, right in exact.items():
        assert (abs(net.state_dict()[name].numpy() - right) <= bound * abs(right)).all(), name


@pytest.mark.parametrize("count", [None, np.array(3, np.int32), np.array(2**31 - 1, np.int64)])
def test_counts_of_batches_may_be_missing(path, count):
    write(path, {"norm.num_batches_tracked": count, "other.num_batches_tracked": np.array(5)})
    net = Net()
    assert models.load_weights(net, path) == ()
    assert net.norm.num_batches_tracked.item() == (0 if count is None else count)


def test_a_snapshot_of_a_run_has_the_weights_of_its_model(path):
    net = Net()
    te.save(path, [net, te.optim.SGD(net.parameters(), 0.1, momentum=0.9)])
    other = Net()
    assert models.load_weights(other, path) == () and bits(other) == bits(net)


def test_everything_that_is_wrong_is_listed_and_nothing_changes(path):
    changes = {
        "norm.weight": None,
        "norm.bias": np.zeros(3, np.float32),
        "norm.num_batches_tracked": np.array(2**31),
        "norm.running_mean": np.array([0, np.nan], np.float32),
        "norm.running_var": np.array([0, 1e39]),
        "first.weight": np.zeros((4, 2), np.int32),
        "head.weight": np.zeros((5, 6), np.float32),  # other inputs, too
        "last.weight": np.zeros(1, np.float32),
    }
    write(path, changes)
    net = Net()
    before = bits(net)
    expected = [
        "norm.running_mean holds what is no finite float32",
        "norm.running_var holds what is no finite float32",
        "missing norm.weight",
        "unknown last.weight",
        "norm.bias is [2], got [3]",
        "norm.num_batches_tracked is int32, got 2147483648..2147483648",
        "first.weight is float32, got int32",
        "head.weight is [3, 4], got [5, 6]",
    ]
    with pytest.raises(FileError) as error:
        models.load_weights(net, path)
    said = re.fullmatch(
        r"the weights do not fit the model: \S+weights.safetensors: (.*)", str(error.value)
    )
    assert sorted(said[1].split("; ")) == sorted(expected)
    assert bits(net) == before


def test_weights_of_another_model_are_listed_name_by_name(path):
    safetensors.save(path, checkpoint("mobilenet_v2"))
    model = models.resnet18()
    counted = [n for n in model.state_dict() if not n.endswith("num_batches_tracked")]
    with pytest.raises(FileError) as error:
        models.load_weights(model, path)
    assert all(f"missing {name}" in str(error.value) for name in counted)
    assert "unknown features.18.1.running_var" in str(error.value)


def test_weights_are_in_memory_once_and_not_twice(path):
    layers = 20
    write(path, model=nn.Sequential(*(nn.Linear(256, 256) for _ in range(layers))))
    model = nn.Sequential(*(nn.Linear(256, 256) for _ in range(layers)))
    tracemalloc.start()
    models.load_weights(model, path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < (layers + 5) * 4 * 256 * 257


def test_a_model_without_linear_layers_has_no_head(path):
    model = nn.Sequential(nn.Conv2d(1, 2, 3))
    write(path, model=model)
    assert models.load_weights(model, path) == ()


def test_a_pickle_is_refused(path):
    path.write_bytes(b"\x80\x02}q\x00.")
    with pytest.raises(FileError, match="is no intact safetensors file"):
        models.load_weights(Net(), path)
