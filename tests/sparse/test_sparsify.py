"""Networks made sparse: what is stored, and that training them is training masked dense ones."""

import copy
import math
import tracemalloc

import numpy as np
import pytest

import tinygrad_edge as te
from tinygrad_edge.errors import BudgetError, DataError, GraphError, ShapeError
from tinygrad_edge.policy import Budget, Checkpoint, Default, Microbatch, SparseWeights, Store

IMAGES = np.random.default_rng(0).standard_normal((8, 16, 9, 9)).astype(np.float32)
LABELS = np.arange(8, dtype=np.int32) % 4


def small_net():
    """Every kind of layer that becomes sparse, and some that do not."""
    te.manual_seed(0)
    return te.nn.Sequential(
        te.nn.Conv2d(16, 16, 3, padding=1, bias=False),
        te.nn.BatchNorm2d(16),
        te.nn.ReLU(),
        te.nn.Conv2d(16, 16, 3, padding=1, groups=16),
        te.nn.Conv2d(16, 64, 1, stride=2),
        te.nn.ReLU(),
        te.nn.Flatten(),
        te.nn.Linear(64 * 25, 24),
        te.nn.Linear(24, 4),
    )


SPARSE = ["0.weight", "4.weight", "7.weight"]


def step_of(net, optimizer, policies=None):
    @te.compile(policies=policies)
    def step(x, y):
        loss = te.functional.cross_entropy(net(x), y)
        optimizer.minimize(loss)
        return loss

    return step


def trained(policies, steps=4, optimizer=te.optim.Adam, **rates):
    net = small_net()
    made = optimizer(net.parameters(), lr=0.01, **rates)
    te.sparse.sparsify(net, 0.8, optimizer=made)
    step = step_of(net, made, policies)
    losses = [step(IMAGES, LABELS).item() for _ in range(steps)]
    return losses, {name: p.numpy() for name, p in net.state_dict().items()}


def test_only_weights_of_some_size_that_read_enough_channels_become_sparse():
    net = small_net()
    pool = te.sparse.sparsify(net, 0.9)
    assert list(pool.layers) == SPARSE
    assert [name for name, _ in net.named_parameters()][-1] == "sparse.values"
    sizes = [math.prod(layer.shape) for layer in pool.layers.values()]
    assert pool.nonzeros == pool.capacity == round(0.1 * sum(sizes))
    assert {round(layer.density, 2) for layer in pool.layers.values()} == {0.1}


def test_output_channels_begin_with_equally_many_distinct_columns():
    pool = te.sparse.sparsify(small_net(), 0.7, where="4.*")
    (layer,) = pool.layers.values()
    lengths = np.diff(layer.row_starts)
    assert lengths.max() - lengths.min() <= 1
    assert (np.diff(layer.elements()) > 0).all()
    assert np.abs(pool.values.numpy()).max() <= 1 / math.sqrt(lengths.min())


def test_erdos_renyi_kernel_gives_small_layers_more():
    net = small_net()
    layers = te.sparse.sparsify(net, 0.4, "erk").layers
    sizes = {name: math.prod(layer.shape) for name, layer in layers.items()}
    nonzeros = {name: layer.density * sizes[name] for name, layer in layers.items()}
    assert sum(nonzeros.values()) == pytest.approx(0.6 * sum(sizes.values()), abs=1)
    assert layers["4.weight"].density == 1.0  # what it does not need the others share
    factors = [nonzeros[name] / sum(layers[name].shape) for name in ("0.weight", "7.weight")]
    assert factors[0] == pytest.approx(factors[1], rel=0.01)


@pytest.mark.parametrize("name", ["resnet50", "mobilenet_v1"])
@pytest.mark.parametrize(("sparsity", "share"), [(0.8, 0.32), (0.9, 0.17)])
def test_weights_and_index_are_small_and_nothing_of_dense_size_is_made(name, sparsity, share):
    net = getattr(te.models, name)(num_classes=1000)
    tracemalloc.start()
    pool = te.sparse.sparsify(net, sparsity)
    pool.values.borrow()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert pool.nbytes <= share * pool.dense_nbytes
    assert peak < 0.6 * pool.dense_nbytes
    p = step_of(net, te.optim.SGD(net.parameters(), 0.1, momentum=0.9)).plan(
        np.zeros((1, 3, 64, 64), np.float32), np.zeros(1, np.int32)
    )
    assert p.by_kind()["index"] == pool.columns.numpy().nbytes + pool.rows.numpy().nbytes
    assert not any(v.size == pool.dense_nbytes // 4 for n in p.graph.nodes for v in n.outputs)


@pytest.mark.parametrize(
    "policies",
    [
        [Default()],
        [Default(), Checkpoint(at="4")],
    ],
    ids=repr,
)
def test_lossless_policies_change_no_bit(policies):
    losses, state = trained([])
    others, other_state = trained(policies)
    assert losses == others
    for name, array in state.items():
        np.testing.assert_array_equal(array, other_state[name], err_msg=name)


def test_the_smallest_budget_changes_no_bit():
    with pytest.raises(BudgetError) as refused:
        trained([Budget(1)], steps=1)
    losses, _ = trained([Budget(refused.value.smallest)])
    assert losses == trained([])[0]


@pytest.mark.parametrize(
    "policies", [[Default(), Microbatch(2)], [Default(), Store("float16")]], ids=repr
)
def test_other_policies_work_too(policies):
    losses, _ = trained([], optimizer=te.optim.SGD, momentum=0.9)
    others, _ = trained(policies, optimizer=te.optim.SGD, momentum=0.9)
    # Batch-norm's statistics are those of the parts; float16 rounds saved values.
    np.testing.assert_allclose(losses, others, rtol=0.05)
    assert others[-1] < others[0]


def test_parts_of_a_batch_hand_on_one_gradient_of_the_pool():
    net = small_net()
    optimizer = te.optim.Adam(net.parameters(), 0.01)
    pool = te.sparse.sparsify(net, 0.8, optimizer=optimizer)
    plan = step_of(net, optimizer, [Default(), Microbatch(2)]).plan(IMAGES, LABELS)
    (loop,) = (n for n in plan.graph.nodes if n.body is not None)
    assert sum(v.shape == (pool.capacity,) for v in loop.outputs) == 1


def test_only_batch_norm_has_statistics_of_parts():
    net = te.nn.Sequential(te.nn.Flatten(), te.nn.Linear(16 * 81, 4))
    optimizer = te.optim.SGD(net.parameters(), 0.01)
    pool = te.sparse.sparsify(net, 0.8, optimizer=optimizer)
    te.sparse.RigL(pool, optimizer, until=10, every=1)  # the next step looks at zeros
    plan = step_of(net, optimizer, [Default(), Microbatch(2)]).plan(IMAGES, LABELS)
    assert any("candidates" in n.op.name for n in plan.graph.core().nodes)
    assert not any("batch-norm" in remark for remark in plan.graph.remarks)


def test_gradients_are_those_of_the_dense_network_at_the_non_zeros():
    net = small_net()
    dense = copy.deepcopy(net)
    pool = te.sparse.sparsify(net, 0.8)
    for path, module in dense.named_modules():
        if f"{path}.weight" in pool.layers:
            module.weight.assign(pool.layers[f"{path}.weight"].numpy())
    for each in (net, dense):
        te.functional.cross_entropy(each(IMAGES), LABELS).backward()
    found = pool.values.grad.numpy()
    for path, module in dense.named_modules():
        layer = pool.layers.get(f"{path}.weight")
        if layer is not None:
            expected = module.weight.grad.numpy().reshape(-1)[layer.elements()]
            scale = np.abs(expected).max()
            np.testing.assert_allclose(found[layer.part], expected, atol=1e-5 * scale)


def test_what_is_trained_already_keeps_its_largest_elements_and_their_moments():
    net = small_net()
    optimizer = te.optim.Adam(net.parameters(), 0.01)
    step = step_of(net, optimizer)
    step(IMAGES, LABELS)
    before = net[0].weight.numpy()
    moment = optimizer.state["0.weight.exp_avg"].array.copy()
    te.sparse.sparsify(net, 0.75, optimizer=optimizer)
    weight = net[0].weight
    kept = weight.numpy()
    np.testing.assert_array_equal(kept[kept != 0], before[kept != 0])
    assert np.abs(before[kept == 0]).max() <= np.abs(kept[kept != 0]).min()
    moments = optimizer.state["sparse.values.exp_avg"].array[weight.part]
    np.testing.assert_array_equal(moments, moment.reshape(-1)[weight.elements()])
    assert "0.weight.exp_avg" not in optimizer.state
    step(IMAGES, LABELS)  # recorded when the weights were dense: recorded again
    assert (net[0].weight.numpy() != kept).any()


def test_an_optimizer_of_weights_that_are_gone_is_refused():
    net = small_net()
    optimizer = te.optim.SGD(net.parameters(), 0.1)
    te.sparse.sparsify(net, 0.8)
    with pytest.raises(GraphError, match=r"SGD: '0.weight' was made sparse: give sparsify this"):
        step_of(net, optimizer)(IMAGES, LABELS)


def test_the_policy_makes_the_network_sparse_when_the_step_is_recorded():
    net = small_net()
    optimizer = te.optim.SGD(net.parameters(), 0.1, momentum=0.9)
    step = step_of(net, optimizer, [Default(), SparseWeights(net, optimizer, 0.8)])
    plan = step.plan(IMAGES, LABELS)
    assert plan.by_kind()["index"] == net.sparse.nbytes - net.sparse.capacity * 4
    step(IMAGES, LABELS)


def test_the_policy_refuses_weights_in_use():
    net = small_net()
    net(IMAGES).numpy()
    optimizer = te.optim.SGD(net.parameters(), 0.1)
    step = step_of(net, optimizer, [SparseWeights(net, optimizer, 0.8)])
    with pytest.raises(GraphError, match=r"0.weight is in use; call sparse.sparsify"):
        step(IMAGES, LABELS)


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"sparsity": 1.0}, ValueError, "from 0 to below 1, got 1.0"),
        ({"sparsity": 0.5, "distribution": "er"}, ValueError, "uniform, erk, got 'er'"),
        ({"sparsity": 0.5, "where": "conv*"}, ValueError, "no weight matches conv"),
        ({"sparsity": 0.5, "where": "3.*"}, ValueError, "3.weight is in 16 groups"),
        ({"sparsity": 0.5, "exclude": "*"}, ValueError, "no weight matches"),
    ],
)
def test_bad_arguments(arguments, error, match):
    with pytest.raises(error, match=match):
        te.sparse.sparsify(small_net(), **arguments)


def test_a_network_is_made_sparse_once():
    net = small_net()
    te.sparse.sparsify(net, 0.5)
    with pytest.raises(GraphError, match="has a 'sparse' already"):
        te.sparse.sparsify(net, 0.5)


def test_sparse_weights_have_no_groups():
    net = small_net()
    te.sparse.sparsify(net, 0.5)
    with pytest.raises(ShapeError, match="sparse weights have no groups, got 2"):
        te.functional.conv2d(IMAGES, net[0].weight, groups=2)


def test_snapshots_resume_to_the_same_bits(tmp_path):
    net = small_net()
    optimizer = te.optim.SGD(net.parameters(), 0.1, momentum=0.9)
    te.sparse.sparsify(net, 0.8, optimizer=optimizer)
    step = step_of(net, optimizer)
    step(IMAGES, LABELS)
    te.save(tmp_path / "run", step)
    expected = [step(IMAGES, LABELS).item() for _ in range(2)]
    other = small_net()
    te.manual_seed(5)
    optimizer = te.optim.SGD(other.parameters(), 0.1, momentum=0.9)
    te.sparse.sparsify(other, 0.8, optimizer=optimizer)
    step = step_of(other, optimizer)
    step.plan(IMAGES, LABELS)
    te.load(tmp_path / "run", step)
    assert [step(IMAGES, LABELS).item() for _ in range(2)] == expected


def hostile(state, change):
    state = {name: p.numpy() for name, p in state.items()}
    change(state)
    return state


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda s: s["sparse.rows"].__setitem__(3, 10**6), "sparse.rows must ascend from 0"),
        (lambda s: s["sparse.rows"].__setitem__(0, 1), "sparse.rows must ascend from 0"),
        (lambda s: s["sparse.columns"].__setitem__(28, 144), "0.weight has only 144 columns"),
        (lambda s: s["sparse.columns"].__setitem__(1, 0), "row of 0.weight must ascend"),
    ],
)
def test_an_index_that_kernels_could_not_believe_is_not_loaded(change, match):
    net = small_net()
    te.sparse.sparsify(net, 0.8)
    before = net.sparse.rows.numpy()
    with pytest.raises(DataError, match=match):
        net.load_state_dict(hostile(net.state_dict(), change))
    np.testing.assert_array_equal(net.sparse.rows.numpy(), before)
    copied = copy.deepcopy(net)
    with pytest.raises(DataError, match=match):
        copied.load_state_dict(hostile(net.state_dict(), change))


def test_a_copy_has_a_pool_of_its_own():
    net = small_net()
    te.sparse.sparsify(net, 0.8)
    twin = copy.deepcopy(net)
    assert twin[0].weight.values is twin.sparse.values is not net.sparse.values
    net.sparse.values.assign(np.zeros(net.sparse.capacity))
    assert twin[0].weight.numpy().any()
