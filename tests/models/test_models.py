"""Models: their tables, names and sizes, and that each trains alike however it is run."""

import numpy as np
import pytest

import tinygrad_edge as te
from tinygrad_edge import models, optim, runtime
from tinygrad_edge.errors import DataError, ShapeError
from tinygrad_edge.runtime import _ffi

# Arguments of build, parameters, and a small batch: its labels show nothing.
TABLE = {
    "lenet": ((10, 1), 61_706, (4, 1, 28, 28)),
    "cnn": ((10, 3), 288_746, (4, 3, 8, 8)),
    "mobilenet_v1_patch": ((10, 3), 1_873_226, (4, 3, 16, 16)),
    "resnet18": ((1000, 3), 11_689_512, (4, 3, 32, 32)),
}
each_model = pytest.mark.parametrize("name", models.MODELS)


def test_every_model_has_a_row():
    assert list(TABLE) == list(models.MODELS)


@each_model
def test_parameters_are_counted(name):
    arguments, count, _ = TABLE[name]
    assert sum(p.size for p in models.build(name, *arguments).parameters()) == count


@each_model
def test_classes_and_channels_are_free(name):
    model = models.build(name, num_classes=7, in_channels=2)
    height, width = TABLE[name][2][2:]
    assert model.eval()(np.zeros((2, 2, height, width), np.float32)).shape == (2, 7)


# ---- training ----


def train(name, compiled, steps):
    """A few steps; gives the losses and the whole state."""
    te.manual_seed(3)
    shape = TABLE[name][2]
    model = models.build(name, 10, shape[1], shape[2:])
    optimizer = optim.SGD(model.parameters(), 0.01, momentum=0.9)
    rng = np.random.default_rng(0)

    def step(x, y):
        loss = te.functional.cross_entropy(model(x), y)
        optimizer.minimize(loss)
        return loss

    step = te.compile(step) if compiled else step
    losses = []
    for _ in range(steps):
        x = te.Tensor(rng.standard_normal(shape, np.float32))
        y = te.Tensor(rng.integers(0, 10, shape[0]).astype(np.int32))
        losses.append(step(x, y).item())
    return losses, {n: p.numpy() for n, p in model.state_dict().items()}


@each_model
def test_loop_and_compiled_step_agree_to_the_bit(name):
    losses, state = train(name, compiled=False, steps=2)
    same_losses, same_state = train(name, compiled=True, steps=2)
    assert losses == same_losses
    for part in state:
        assert state[part].tobytes() == same_state[part].tobytes(), part


@pytest.mark.skipif(not _ffi.available(), reason="the native module was not built")
@each_model
def test_runtimes_agree(name):
    start = train(name, compiled=False, steps=0)[1]
    found = {}
    for each in ("native", "numpy"):
        with runtime.use(each):
            found[each] = train(name, compiled=False, steps=1)
    (loss, native), (expected_loss, expected) = found.values()
    assert loss == pytest.approx(expected_loss, rel=1e-5)
    # Of the whole change of the step as one vector: single elements may cancel to nothing. Where
    # batch-norm sees four values a channel, as at the end of resnet18, rounding grows.
    change = np.concatenate([(expected[n] - start[n]).ravel() for n in start])
    error = np.concatenate([(native[n] - expected[n]).ravel() for n in start])
    assert np.linalg.norm(error) < 1e-3 * np.linalg.norm(change)


def test_cnn_learns_the_digits():
    te.manual_seed(0)
    digits = te.data.load("digits")
    model = models.cnn(in_channels=1)
    optimizer = optim.SGD(model.parameters(), 0.05, momentum=0.9, nesterov=True)
    epochs, batches = 3, te.data.batch_count(len(digits.train), 64, drop_last=True)
    schedule = optim.CosineAnnealingLR(optimizer, epochs * batches)

    @te.compile
    def step(x, y):
        optimizer.minimize(te.functional.cross_entropy(model(x), y))

    for epoch in range(epochs):
        for x, y in te.data.batches(digits.train, 64, epoch=epoch, drop_last=True):
            step(x, y)
            schedule.step()
    model.eval()
    right = 0
    for x, y in te.data.batches(digits.test, 360, shuffle=False):
        right += (model(x).numpy().argmax(1) == y).sum()
    assert right / len(digits.test) > 0.98


# ---- sizes ----


@pytest.mark.parametrize("size", [8, 12, 28, 32, 33])
def test_cnn_takes_any_size_from_8(size):
    assert models.cnn(in_channels=1).eval()(np.zeros((1, 1, size, size))).shape == (1, 10)


def test_cnn_names_the_layer_that_an_image_is_too_small_for():
    with pytest.raises(ShapeError, match=r"max_pool2d: a window .*; module features\.20; "):
        models.cnn(in_channels=1).eval()(np.zeros((1, 1, 7, 7)))


@pytest.mark.parametrize("size", [12, 28, (32, 20)])
def test_lenet_is_made_for_its_size(size):
    height, width = size if isinstance(size, tuple) else (size, size)
    assert models.lenet(size=size)(np.zeros((2, 1, height, width))).shape == (2, 10)
    with pytest.raises(ShapeError, match=r"^Linear 'classifier\.0': expected \[\.\.\., \d+\], got"):
        models.lenet(size=size)(np.zeros((2, 1, height + 8, width)))


@pytest.mark.parametrize("size", [11, (28, 8)])
def test_lenet_refuses_small_images(size):
    with pytest.raises(ShapeError, match="lenet: images must be 12x12 or larger.* cnn takes 8x8"):
        models.lenet(size=size)


def test_build_passes_a_size_to_those_that_want_it():
    assert models.build("lenet", 10, 3, (32, 32)).classifier[0].in_features == 16 * 6 * 6
    assert models.build("cnn", 10, 3, (32, 32))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lenett", "there is no model 'lenett': did you mean 'lenet'\\? there are lenet, cnn, "),
        ("RESNET18", "there is no model 'RESNET18': did you mean 'resnet18'\\?"),
        ("transformer", "there is no model 'transformer': there are lenet, "),
    ],
)
def test_a_misspelt_name_gets_the_nearest(name, message):
    with pytest.raises(DataError, match=message):
        models.build(name, 10, 3)


# ---- tables ----


def test_resnet18_has_the_names_and_shapes_of_torchvision():
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    expected = {"conv1.weight": (64, 3, 7, 7)}

    def add_norm(name, channels):
        expected.update({f"{name}.{part}": (channels,) for part in norm[:4]})
        expected[f"{name}.{norm[4]}"] = ()

    add_norm("bn1", 64)
    inputs = 64
    for layer, channels in enumerate((64, 128, 256, 512), start=1):
        for block in range(2):
            path = f"layer{layer}.{block}"
            expected[f"{path}.conv1.weight"] = (channels, inputs, 3, 3)
            add_norm(f"{path}.bn1", channels)
            expected[f"{path}.conv2.weight"] = (channels, channels, 3, 3)
            add_norm(f"{path}.bn2", channels)
            if block == 0 and layer > 1:
                expected[f"{path}.downsample.0.weight"] = (channels, inputs, 1, 1)
                add_norm(f"{path}.downsample.1", channels)
            inputs = channels
    expected |= {"fc.weight": (1000, 512), "fc.bias": (1000,)}
    found = {name: p.shape for name, p in models.resnet18().state_dict().items()}
    assert list(found.items()) == list(expected.items())
    assert len(found) == 122


def test_a_residual_block_without_residual_is_its_shortcut():
    x = np.random.default_rng(0).standard_normal((4, 8, 6, 6), np.float32)
    for block in (models.resnet.BasicBlock(8, 8), models.resnet.BasicBlock(8, 16, 2)):
        block.bn2.weight.assign(np.zeros(block.bn2.num_features))
        shortcut = x if block.downsample is None else block.downsample(x).numpy()
        assert np.array_equal(block(x).numpy(), np.maximum(shortcut, 0))


def test_mobilenet_v1_patch_follows_its_table():
    model = models.mobilenet_v1_patch()
    shapes = {name: p.shape for name, p in model.named_parameters() if p.ndim == 4}
    assert shapes["features.0.0.weight"] == (32, 3, 3, 3)
    outputs = (64, 128, 128, 256, 256, 512, 1024, 1024)
    inputs = 32
    for i, channels in enumerate(outputs, start=1):
        assert shapes[f"features.{i}.0.weight"] == (inputs, 1, 3, 3)
        assert shapes[f"features.{i}.3.weight"] == (channels, inputs, 1, 1)
        inputs = channels
    strides = [model.features[i][0].stride for i in range(9)]
    assert strides == [(s, s) for s in (1, 1, 2, 1, 2, 1, 2, 1, 1)]


def test_cnn_follows_its_table():
    shapes = [p.shape[:2] for p in models.cnn(in_channels=1).parameters() if p.ndim == 4]
    assert shapes == [(32, 1), (32, 32), (64, 32), (64, 64), (128, 64), (128, 128)]
