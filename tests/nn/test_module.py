"""Modules: what they find, what they are called, what they refuse."""

import copy

import numpy as np
import pytest

import tinygrad_edge as te
from tinygrad_edge import nn
from tinygrad_edge.errors import DataError, ShapeError
from tinygrad_edge.safetensors import bfloat16


class Block(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.scale = nn.parameter((1,), lambda: np.ones(1, np.float32))
        self.shift = None

    def forward(self, x):
        return self.norm(self.conv(x)) * self.scale


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 2, 1)
        self.blocks = nn.ModuleList(Block(2) for _ in range(2))
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 3))

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def images(n=2):
    return np.arange(n * 16, dtype=np.float32).reshape(n, 1, 4, 4)


# ---- names ----


def test_names_and_order_are_those_of_the_attributes():
    net = Net()
    block = ["conv.weight", "norm.weight", "norm.bias", "norm.running_mean", "norm.running_var"]
    block += ["norm.num_batches_tracked"]
    expected = ["stem.weight", "stem.bias"]
    for i in range(2):
        # A module's own tensors come before those of its modules, as in PyTorch.
        expected += [f"blocks.{i}.scale", *(f"blocks.{i}.{name}" for name in block)]
    expected += ["head.2.weight", "head.2.bias"]
    assert list(net.state_dict()) == expected
    buffers = [n for n in expected if "running" in n or "tracked" in n]
    assert [n for n, _ in net.named_buffers()] == buffers
    assert [n for n, _ in net.named_parameters()] == [n for n in expected if n not in buffers]
    assert [n for n, _ in net.named_children()] == ["stem", "blocks", "head"]
    assert len(list(net.modules())) == 13


def test_cells_and_nodes_have_the_paths_of_the_outermost_module():
    net = Net()
    assert all(p.cell.name == name for name, p in net.state_dict().items())
    step = te.compile(lambda x: net(x))
    paths = {node.path for node in step.plan(images()).graph.nodes if node.part == "forward"}
    assert {"stem", "blocks.0.conv", "blocks.1.norm", "blocks.1", "head.2"} <= paths
    # Also when an inner module is called by itself.
    inner = te.compile(lambda x: net.blocks[1].conv(x)).plan(np.zeros((1, 2, 4, 4), np.float32))
    assert "blocks.1.conv" in {node.path for node in inner.graph.nodes}


def test_a_module_that_moves_into_another_is_renamed():
    features = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    assert features[1].weight.cell.name == "1.weight"
    model = nn.Sequential(nn.Identity(), features)
    assert features[1].weight.cell.name == "1.1.weight"
    model[1][1] = nn.Linear(2, 3)
    assert model[1][1].bias.cell.name == "1.1.bias"


def test_a_shared_parameter_appears_once_under_its_first_name():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder, self.decoder = nn.Linear(3, 3), nn.Linear(3, 3, bias=False)
            self.again = self.encoder
            self.decoder.weight = self.encoder.weight

    tied = Tied()
    assert list(tied.state_dict()) == ["encoder.weight", "encoder.bias"]
    assert tied.decoder.weight.cell.name == "encoder.weight"
    assert [n for n, _ in tied.named_modules()] == ["", "encoder", "decoder"]
    optimizer = te.optim.SGD(tied.parameters(), 1.0)
    before = tied.encoder.weight.numpy()
    # Both uses contribute to the one gradient: of sum(W x + W x) it is twice that of sum(W x).
    x = te.Tensor([[1.0, 2.0, 3.0]])
    (tied.encoder(x) + tied.decoder(x)).sum().backward()
    optimizer.step()
    assert np.allclose(before - tied.decoder.weight.numpy(), 2 * np.array([1.0, 2.0, 3.0]))


def test_attributes_may_be_set_before_the_base_is_initialised():
    class Early(nn.Module):
        def __init__(self):
            self.layer = nn.Linear(2, 2)
            self.eval()
            super().__init__()

    early = Early()
    assert list(early.state_dict()) == ["layer.weight", "layer.bias"]
    assert not early.training


def test_a_list_of_modules_is_refused():
    net = Net()
    with pytest.raises(TypeError, match=r"Net\.layers: what is in a list .* nn\.ModuleList"):
        net.layers = [nn.ReLU()]
    assert not hasattr(net, "layers")
    net.sizes = [1, 2]
    net.parts = (net.stem, net.head)
    assert len(list(net.modules())) == 13


def test_a_module_without_forward_says_so():
    class Bare(nn.Module):
        pass

    with pytest.raises(TypeError, match="Bare defines no forward"):
        Bare()(1)


def test_arguments_reach_forward():
    class Scaled(nn.Module):
        def forward(self, x, *, by=1):
            return x * by

    assert Scaled()(3, by=2) == 6


# ---- containers ----


def test_sequential_is_a_list():
    a, b, c = nn.ReLU(), nn.Tanh(), nn.Identity()
    layers = nn.Sequential(a, b)
    assert layers[0] is a and layers[-1] is b and list(layers) == [a, b] and len(layers) == 2
    layers.append(c)
    layers[0] = c
    assert list(layers) == [c, b, c]
    assert [n for n, _ in layers.named_children()] == ["0", "1", "2"]
    with pytest.raises(IndexError):
        layers[3]
    with pytest.raises(IndexError):
        layers[3] = a
    assert nn.Sequential()(7) == 7
    with pytest.raises(TypeError, match="Sequential: expected modules, got function"):
        nn.Sequential(te.functional.relu)
    with pytest.raises(TypeError, match="ModuleList defines no forward"):
        nn.ModuleList([a])(1)


# ---- state ----


def test_a_state_dict_goes_to_another_model_and_back():
    te.manual_seed(1)
    net, other = Net(), Net()
    net(images())
    state = {name: p.numpy() for name, p in net.state_dict().items()}
    assert state["blocks.0.norm.num_batches_tracked"] == 1
    other.load_state_dict(state)
    for name, p in other.state_dict().items():
        assert p.numpy().tobytes() == state[name].tobytes(), name
    assert np.array_equal(other.eval()(images()).numpy(), net.eval()(images()).numpy())
    other.load_state_dict(net.state_dict())  # tensors do as well


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stem.weight": None}, "missing stem.weight"),
        ({"extra": 1.0}, "unknown extra"),
        ({"stem.bias": np.zeros(3)}, r"stem.bias is \[2\], got \[3\]"),
        ({"stem.bias": np.zeros(2, np.uint16)}, "stem.bias is float32, got uint16"),
        ({"stem.bias": np.array(["a", "b"])}, "stem.bias is float32, got <U1"),
        (
            {"blocks.0.norm.num_batches_tracked": np.array(-(2**31) - 1)},
            r"blocks.0.norm.num_batches_tracked is int32, got -2147483649..-2147483649",
        ),
        ({"stem.weight": None, "extra": 1.0}, "missing stem.weight; unknown extra"),
    ],
)
def test_a_state_dict_that_does_not_fit_changes_nothing(changes, message):
    net = Net()
    before = {name: p.numpy() for name, p in net.state_dict().items()}
    state = {name: array + 1 for name, array in before.items()} | changes
    with pytest.raises(DataError, match=f"^load_state_dict: {message}$"):
        net.load_state_dict({name: a for name, a in state.items() if a is not None})
    assert all(np.array_equal(p.numpy(), before[name]) for name, p in net.state_dict().items())


def test_bfloat16_is_widened():
    layer = nn.Linear(2, 1, bias=False)
    layer.load_state_dict({"weight": np.array([[0x3FC0, 0xC000]], bfloat16)})
    assert layer.weight.tolist() == [[1.5, -2.0]]


def test_pytorch_counts_batches_in_int64():
    norm = nn.BatchNorm2d(2)
    state = {name: p.numpy() for name, p in norm.state_dict().items()}
    norm.load_state_dict(state | {"num_batches_tracked": np.array(7, np.int64)})
    assert norm.num_batches_tracked.item() == 7


def test_modes_and_training_reach_all_below():
    net = Net()
    assert net.eval() is net and not any(m.training for m in net.modules())
    assert net.train() is net and all(m.training for m in net.modules())
    assert net.requires_grad_(False) is net
    assert not any(p.requires_grad for p in net.parameters())
    net.head.requires_grad_()
    net(images()).sum().backward()
    found = [name for name, p in net.named_parameters() if p.grad is not None]
    assert found == ["head.2.weight", "head.2.bias"]
    net.zero_grad()
    assert all(p.grad is None for p in net.parameters())


@pytest.mark.parametrize("used", [False, True], ids=["unused", "used"])
def test_a_copy_is_equal_and_its_own(used):
    net = Net()
    if used:
        net(images()).sum().backward()  # pending gradients and statistics are no obstacle
    twin = copy.deepcopy(net)
    for (name, p), q in zip(net.state_dict().items(), twin.state_dict().values(), strict=True):
        assert p.cell is not q.cell and q.cell.name == name
        assert p.numpy().tobytes() == q.numpy().tobytes()
        assert q.grad is None and p.requires_grad == q.requires_grad and type(p) is type(q)
        assert q.cell.array.ctypes.data % 64 == 0
    twin.stem.weight.assign(np.zeros((2, 1, 1, 1)))
    assert net.stem.weight.numpy().any()
    tied = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    tied[1].weight = tied[0].weight
    assert len(list(copy.deepcopy(tied).parameters())) == 3


# ---- first contents ----


def first_contents(seed, order=None):
    te.manual_seed(seed)
    parameters = dict(Net().named_parameters())
    for name in order or parameters:
        parameters[name].numpy()
    return {name: p.numpy() for name, p in parameters.items()}


def test_first_contents_depend_on_the_seed_and_not_on_the_order_of_use():
    one, other = first_contents(5), first_contents(6)
    names = list(one)
    backwards = first_contents(5, order=reversed(names))
    assert all(np.array_equal(one[name], backwards[name]) for name in names)
    assert not np.array_equal(one["stem.weight"], other["stem.weight"])
    assert not np.array_equal(one["blocks.0.conv.weight"], one["blocks.1.conv.weight"])


def test_contents_are_made_on_first_use():
    made = []
    p = nn.parameter((2,), lambda: made.append(1) or np.ones(2, np.float32))
    layer = nn.Module()
    layer.p = p
    optimizer = te.optim.SGD(layer.parameters(), 0.5)
    step = te.compile(lambda: optimizer.minimize((p * p).sum()))
    assert step.plan().peak_bytes > 0 and not made
    step()
    assert p.numpy().tolist() == [0, 0] and made == [1]


def test_contents_that_nobody_has_seen_are_not_made_to_be_replaced():
    p = nn.parameter((2,), lambda: pytest.fail("made"))
    p.assign([1.0, 2.0])
    assert p.tolist() == [1, 2]


def test_first_contents_are_the_same_for_ever():
    te.manual_seed(0)
    expected = [[-0.48845327, -0.2584508, -0.38857418, 0.06441462]]
    assert np.array_equal(nn.Linear(4, 1).weight.numpy(), np.float32(expected))


def test_seeds_may_be_of_any_size():
    for seed in (2**63, 2**64 - 1, 2**70):
        te.manual_seed(seed)
        assert nn.Linear(2, 2).weight.numpy().any()
    with pytest.raises(ValueError, match="must not be negative"):
        te.manual_seed(-1)


@pytest.mark.parametrize(
    ("layer", "fan_in"),
    [
        (nn.Linear(100, 80), 100),
        (nn.Conv2d(16, 40, 3), 16 * 9),
        (nn.Conv2d(40, 40, 5, groups=40), 25),
    ],
    ids=["linear", "conv2d", "depthwise"],
)
def test_weights_start_uniform_as_in_pytorch(layer, fan_in):
    # torch.nn.init.kaiming_uniform_(a=sqrt(5)): gain sqrt(2 / (1 + 5)), bound gain sqrt(3 / fan).
    bound = np.sqrt(2 / 6) * np.sqrt(3 / fan_in)
    weight = layer.weight.numpy().ravel()
    assert abs(weight).max() <= bound * (1 + 1e-6) and abs(layer.bias.numpy()).max() <= bound
    # Mean and variance of n uniform numbers are off by 5 standard errors once in a million times.
    n = weight.size
    assert abs(weight.mean()) < 5 * bound / np.sqrt(3 * n)
    assert abs(weight.var() / (bound**2 / 3) - 1) < 5 * np.sqrt(4 / 5 / n)


# ---- errors ----


class Outer(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.inner = nn.Sequential(layer)

    def forward(self, x):
        return self.inner(x)


@pytest.mark.parametrize(
    ("layer", "shape", "expected"),
    [
        (nn.Linear(4, 2), (3, 5), "[..., 4], got [3, 5]"),
        (nn.Linear(4, 2), (), "[..., 4], got []"),
        (nn.Conv2d(3, 2, 3), (2, 1, 8, 8), "[N, 3, H, W], got [2, 1, 8, 8]"),
        (nn.Conv2d(3, 2, 3), (3, 8, 8), "[N, 3, H, W], got [3, 8, 8]"),
        (nn.BatchNorm2d(3), (2, 3), "[N, 3, H, W], got [2, 3]"),
        (nn.GroupNorm(1, 3), (2, 4, 1, 1), "[N, 3, H, W], got [2, 4, 1, 1]"),
        (nn.LayerNorm((2, 3)), (5, 2, 4), "[..., 2, 3], got [5, 2, 4]"),
        (nn.MaxPool2d(2), (8, 8), "[N, C, H, W], got [8, 8]"),
        (nn.AvgPool2d(2), (8, 8), "[N, C, H, W], got [8, 8]"),
        (nn.AdaptiveAvgPool2d(2), (8, 8), "[N, C, H, W], got [8, 8]"),
    ],
    ids=lambda v: type(v).__name__ if isinstance(v, nn.Module) else None,
)
def test_a_wrong_shape_names_layer_and_path(layer, shape, expected):
    x, kind = np.zeros(shape, np.float32), type(layer).__name__
    with pytest.raises(ShapeError) as alone:
        layer(x)
    with pytest.raises(ShapeError) as inside:
        Outer(layer)(x)
    assert str(alone.value) == f"{kind}: expected {expected}"
    assert str(inside.value) == f"{kind} 'inner.0': expected {expected}"


def test_an_error_of_an_op_names_the_module():
    model = Outer(nn.MaxPool2d(2))
    with pytest.raises(ShapeError, match=r"does not fit .*; module inner\.0; .*test_module\.py"):
        model(np.zeros((1, 1, 1, 1), np.float32))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.Linear(-1, 2), "Linear: in_features must be at least 0, got -1"),
        (lambda: nn.Conv2d(0, 2, 3), "Conv2d: in_channels must be at least 1, got 0"),
        (lambda: nn.Conv2d(3, 4, 3, groups=2), "Conv2d: 2 groups must divide .* got 3 and 4"),
        (lambda: nn.Conv2d(3, 4, 0), "Conv2d: kernel_size must be at least 1, got 0"),
        (lambda: nn.Conv2d(3, 4, 3, stride=0), "Conv2d: stride must be at least 1, got 0"),
        (lambda: nn.Conv2d(3, 4, 3, padding=-1), "Conv2d: padding must be at least 0, got -1"),
        (lambda: nn.Conv2d(3, 4, 3, dilation=0), "Conv2d: dilation must be at least 1, got 0"),
        (lambda: nn.Conv2d(3, 4, (3, 3, 3)), "kernel_size must be an integer or two of them"),
        (lambda: nn.Conv2d(3, 4, 3, padding="same"), "padding must be an integer .* got 'same'"),
        (lambda: nn.GroupNorm(2, 3), "GroupNorm: 2 groups must divide 3 channels"),
        (lambda: nn.Dropout(1.5), "dropout: the probability must be between 0 and 1, got 1.5"),
    ],
)
def test_impossible_layers_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# ---- what it looks like ----


def test_repr_shows_the_tree():
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3, stride=2, bias=False),
        nn.Sequential(nn.BatchNorm2d(2), nn.ReLU()),
        nn.Dropout(0.5),
    )
    assert repr(model) == (
        "Sequential(\n"
        "  (0): Conv2d(1, 2, kernel_size=(3, 3), stride=(2, 2), bias=False)\n"
        "  (1): Sequential(\n"
        "    (0): BatchNorm2d(2, eps=1e-05, momentum=0.1)\n"
        "    (1): ReLU()\n"
        "  )\n"
        "  (2): Dropout(p=0.5)\n"
        ")"
    )
