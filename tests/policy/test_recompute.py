"""What is made again, what is kept, and who is told."""

import numpy as np
import pytest

import tinygrad_edge as te
from tinygrad_edge.errors import GraphError
from tinygrad_edge.policy import Checkpoint, Default, Recompute

DEPTH, WIDTH, BATCH = 16, 8, 512
X = np.zeros((BATCH, WIDTH), np.float32)


def training_step(model, policies):
    optimizer = te.optim.SGD(model.parameters(), 0.1)

    @te.compile(policies=policies)
    def step(x):
        loss = model(x).mean()
        optimizer.minimize(loss)
        return loss

    return step


def layers(policies):
    """A step of equal layers, each of which saves its input."""
    equal = (te.nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(DEPTH))
    return training_step(te.nn.Sequential(*equal), policies)


def products(plan):
    return sum(c.kernel is not None and c.kernel.name.startswith("matmul") for c in plan.calls)


def names_of_saved(plan):
    return [s.name for s in plan.saved() if s.name not in ("input", "full")]


def test_square_root_of_the_layers_is_kept_and_one_more_forward_pass_run():
    textbook, checkpointed = layers([]).plan(X), layers([Checkpoint()]).plan(X)
    assert len(names_of_saved(textbook)) == DEPTH - 1  # what the last layer makes, nobody reads
    # Four checkpoints, and the three values of the last segment.
    assert len(names_of_saved(checkpointed)) == 4 + 3
    # Of each other segment all but its last value, which is the checkpoint.
    assert products(checkpointed) - products(textbook) == 4 * 2
    assert checkpointed.arena_bytes < 0.65 * textbook.arena_bytes


@pytest.mark.parametrize("every, checkpoints", [(1, 14), (2, 7), (5, 2), (14, 1)])
def test_every_so_many_places_are_kept(every, checkpoints):
    plan = layers([Checkpoint(every=every)]).plan(X)
    last_segment = DEPTH - 1 - every * checkpoints
    assert len(names_of_saved(plan)) == checkpoints + last_segment
    assert products(plan) - products(layers([]).plan(X)) == checkpoints * (every - 1)


IMAGES = np.zeros((2, 4, 8, 8), np.float32)


def blocks(policies):
    """A block (convolution, batch-norm, ReLU), then a convolution and a sigmoid."""
    block = te.nn.Sequential(te.nn.Conv2d(4, 4, 3, padding=1), te.nn.BatchNorm2d(4), te.nn.ReLU())
    model = te.nn.Sequential(block, te.nn.Conv2d(4, 4, 1), te.nn.Sigmoid())
    return training_step(model, policies)


def saved_by_blocks(policies):
    return {name for name in names_of_saved(blocks(policies).plan(IMAGES)) if "stats" not in name}


BLOCKS = {"0.0.add", "0.2.batch_norm_apply", "2.chain"}  # bias added; normal and rectified; sigmoid


@pytest.mark.parametrize(
    "policy, kept",
    [
        (Recompute(ops=("sigmoid",)), BLOCKS - {"2.chain"} | {"1.conv2d"}),
        (Recompute(where="2"), BLOCKS - {"2.chain"} | {"1.conv2d"}),
        (Recompute(where="0.?"), {"2.chain"}),
        (Recompute(ops=("relu", "sigmoid"), where="0*"), BLOCKS - {"0.2.batch_norm_apply"}),
        (Recompute(max_seconds_per_byte=6e-10), {"0.0.conv2d"}),
        (Recompute(max_seconds_per_byte=1.0), set()),
        (Checkpoint(at="0"), {"0.2.batch_norm_apply", "2.chain"}),
        (Checkpoint(at=("0.0", "0")), {"0.0.add", "0.2.batch_norm_apply", "2.chain"}),
    ],
    ids=repr,
)
def test_what_matches_is_made_again_and_what_it_reads_is_kept(policy, kept):
    assert saved_by_blocks([]) == BLOCKS
    assert saved_by_blocks([policy]) == kept


def test_a_policy_that_matches_nothing_says_so():
    for policy in (
        Recompute(ops=("hardswish",)),
        Recompute(where="head*"),
        Checkpoint(at="head"),
        Checkpoint(every=9),
    ):
        with pytest.warns(UserWarning, match="matches no") as told:
            blocks([policy]).plan(IMAGES)
        assert [w.filename for w in told] == [__file__]


@pytest.mark.parametrize(
    "wrong, message",
    [
        (lambda: Recompute(), "needs ops="),
        (lambda: Recompute(ops="relu"), r"\('relu',\)"),
        (lambda: Checkpoint(every=2, at="block*"), "not both"),
        (lambda: Checkpoint(every=0), "at least 1"),
    ],
)
def test_contradicting_arguments_are_refused(wrong, message):
    with pytest.raises(GraphError, match=message):
        wrong()


def test_a_result_of_the_step_is_there_anyway():
    def plan(policies):
        layer = te.nn.Linear(WIDTH, WIDTH, bias=False)

        @te.compile(policies=policies)
        def step(x):
            hidden = te.functional.sigmoid(layer(x))
            (hidden * hidden).sum().backward()
            return hidden.reshape((-1,)), layer.weight.grad

        return step.plan(X)

    assert len(plan([Recompute(where="*")]).calls) == len(plan([]).calls)


POLICIES_OF_TWO = [Recompute(where="*")], [Checkpoint(every=1)], [Default(), Recompute(where="*")]


@pytest.mark.parametrize("policies", POLICIES_OF_TWO, ids=repr)
@pytest.mark.filterwarnings("ignore:.*matches no")
def test_nothing_is_made_again_from_parameters_that_an_update_has_changed(policies):
    """Two updates of a parameter: what the second backward pass reads was made before the first."""

    def trained(policies):
        te.manual_seed(0)
        below, above = te.nn.Linear(WIDTH, WIDTH), te.nn.Linear(WIDTH, WIDTH)
        optimizers = [te.optim.SGD(layer.parameters(), 0.1) for layer in (below, above)]

        @te.compile(policies=policies)
        def step(x):
            first, second = (below(x) ** 2).mean(), above(te.functional.sigmoid(below(x))).mean()
            optimizers[0].minimize(first)
            optimizers[1].minimize(second)
            third = te.functional.sigmoid(below(x)).mean()
            optimizers[0].minimize(third)
            return first, second, third

        x = np.random.default_rng(0).standard_normal((4, WIDTH)).astype(np.float32)
        return [[loss.item() for loss in step(x)] for _ in range(3)]

    assert trained(policies) == trained([])


def test_checkpoints_by_bytes_need_less_than_by_count():
    """Early layers are wide: segments of one length are not of one size."""
    images, labels = np.zeros((4, 3, 64, 64), np.float32), np.zeros(4, np.int32)

    def arena_bytes(**how):
        model = te.models.resnet18(num_classes=10)

        @te.compile(policies=[Default(), Checkpoint(**how)])
        def gradients(x, y):
            te.functional.cross_entropy(model(x), y).backward()
            return model.conv1.weight.grad

        return gradients.plan(images, labels).arena_bytes

    assert arena_bytes() <= min(arena_bytes(every=n) for n in range(1, 8))


def test_what_is_nearly_free_does_not_wait_in_a_segment():
    """It is let go of when the segment has been made, and made once more where it is read."""
    images = np.zeros((8, 8, 32, 32), np.float32)
    parts = (
        (te.nn.Conv2d(8, 8, 3, padding=1), te.nn.BatchNorm2d(8), te.nn.ReLU()) for _ in range(8)
    )
    model = te.nn.Sequential(*(layer for part in parts for layer in part))
    held, let_go = (
        training_step(model, policies).plan(images)
        for policies in ([Checkpoint(every=12)], [Default(), Checkpoint(every=12)])
    )
    assert let_go.arena_bytes < 0.8 * held.arena_bytes
