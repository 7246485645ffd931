"""Layers that are made dense in workspace: which, what is said, and that no bit depends on more."""

import numpy as np
import pytest

import tinygrad_edge as te
from tinygrad_edge.policy import Budget, Checkpoint, Default

IMAGES = np.random.default_rng(0).standard_normal((8, 16, 9, 9)).astype(np.float32)
LABELS = np.arange(8, dtype=np.int32) % 4


def sparse_net(sparsity):
    """A 3 x 3 and a 1 x 1 convolution on small weights, and a layer of large ones."""
    te.manual_seed(0)
    net = te.nn.Sequential(
        te.nn.Conv2d(16, 16, 1, bias=False),
        te.nn.Conv2d(16, 16, 3, padding=1, bias=False),
        te.nn.ReLU(),
        te.nn.Conv2d(16, 64, 1, stride=2),
        te.nn.Flatten(),
        te.nn.Linear(64 * 25, 4),
    )
    return net, te.sparse.sparsify(net, sparsity, where=["1.*", "3.*", "5.*"])


def step_of(net, policies=None):
    optimizer = te.optim.SGD(net.parameters(), 0.05, momentum=0.9)

    @te.compile(policies=policies)
    def step(x, y):
        loss = te.functional.cross_entropy(net(x), y)
        optimizer.minimize(loss)
        return loss

    return step


def expanded(plan):
    """Layers with dense products, and the kernels of layers that have others too."""
    found = {}
    for call in plan.calls:
        if call.kernel is not None and call.kernel.name.startswith("sparse"):
            found.setdefault(call.node.path, set()).add("_expanded_" in call.kernel.name)
    return {path: all(ways) for path, ways in found.items() if any(ways)}


@pytest.mark.parametrize(
    ("sparsity", "layers", "said"),
    [
        (0.9, {}, []),
        (0.8, {"1": False}, ["1 (20% non-zeros, gradient by weights)"]),
        (0.7, {"1": True}, ["1 (30% non-zeros)"]),
        (0.4, {"1": True, "3": True}, ["1 (60% non-zeros), 3 (60% non-zeros)"]),
    ],
)
def test_dense_layers_of_small_weights_are_expanded_and_the_plan_says_so(sparsity, layers, said):
    plan = step_of(sparse_net(sparsity)[0]).plan(IMAGES, LABELS)
    assert expanded(plan) == layers
    remarks = [r for r in plan.graph.remarks if r.startswith("dense in workspace")]
    assert [r.partition(": ")[2] for r in remarks] == said
    assert all(remark in plan.table() for remark in remarks)


def test_weights_as_large_as_their_images_are_not_expanded():
    step = step_of(sparse_net(0.4)[0])
    assert expanded(step.plan(IMAGES[:2], LABELS[:2])) == {}


def test_dense_weights_and_their_gradient_are_counted_as_workspace():
    net, _ = sparse_net(0.8)
    call = next(
        call
        for call in step_of(net, []).plan(IMAGES, LABELS).calls
        if call.kernel is not None and "weights_expanded" in call.kernel.name
    )
    assert call.operands[-1].place.buffer.nbytes >= 4 * 16 * 16 * 9


def test_a_layer_that_loses_its_non_zeros_is_planned_as_before():
    net, pool = sparse_net(0.4)
    step = step_of(net)
    plan = step.plan(IMAGES, LABELS)
    te.sparse.GradualPruning(pool, te.optim.SGD(net.parameters(), 0.1), 0.99, until=1).step()
    assert pool.layers["1.weight"].density < 0.02
    assert step.plan(IMAGES, LABELS) is plan


def trained(policies):
    net, _ = sparse_net(0.4)
    step = step_of(net, policies)
    losses = [step(IMAGES, LABELS).item() for _ in range(3)]
    return losses, net.sparse.values.numpy().tobytes()


def test_no_bit_depends_on_policies_or_on_compiling():
    net, _ = sparse_net(0.4)
    optimizer = te.optim.SGD(net.parameters(), 0.05, momentum=0.9)
    losses = []
    for _ in range(3):
        loss = te.functional.cross_entropy(net(IMAGES), LABELS)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    plain = losses, net.sparse.values.numpy().tobytes()
    for policies in ([], [Default()], [Default(), Checkpoint(at="3")], [Budget("10MB")]):
        assert trained(policies) == plain
