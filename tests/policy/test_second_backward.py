"""Clipping with two backward parts: the same bits as with gradients that wait, which do not."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from policy.test_exactness import MODELS, SLACK
from test_random_nets import LOSSLESS, Training, changes_no_bit, nets

import tinygrad_edge as te
from tinygrad_edge.errors import BudgetError, DataError, GraphError, NonFiniteError
from tinygrad_edge.plan.ledger import megabytes
from tinygrad_edge.policy import (
    Budget,
    Checkpoint,
    Default,
    Freeze,
    Microbatch,
    Planned,
    SecondBackward,
    Store,
    save_decisions,
)
from tinygrad_edge.runtime import _ffi, native

WIDTH, DEPTH = 64, 6
X = np.random.default_rng(0).standard_normal((4, WIDTH)).astype(np.float32)


class Clipped(Training):
    """A drawn network whose gradients are clipped by their global norm."""

    def __init__(self, net):
        super().__init__(net)
        self.optimizer = te.optim.SGD(self.model.parameters(), lr=0.05, momentum=0.9, max_norm=0.01)


@pytest.mark.filterwarnings("ignore:.*matches no")
@settings(max_examples=60)
@given(nets(), st.lists(st.sampled_from(LOSSLESS), max_size=3, unique=True))
def test_a_second_backward_part_changes_no_bit_beside_any_lossless_policy(net, policies):
    changes_no_bit(Clipped, net, [SecondBackward(always=True), *policies])


@pytest.mark.skipif(not _ffi.available(), reason="needs the native runtime")
@pytest.mark.parametrize("name", MODELS)
def test_twenty_steps_of_a_model_have_the_same_bits_and_stay_within_the_plan(name):
    channels, size = MODELS[name]
    batches = np.random.default_rng(0).standard_normal((20, 4, channels, size, size))
    found = []
    for policies in ([], [Default(), SecondBackward(always=True)]):
        te.manual_seed(0)
        model = te.models.build(name, num_classes=10, in_channels=channels)
        optimizer = te.optim.Adam(model.parameters(), 0.01, max_norm=0.5)

        @te.compile(policies=policies)
        def step(x, y, model=model, optimizer=optimizer):
            loss = te.functional.cross_entropy(model(x), y)
            optimizer.minimize(loss)
            return loss

        x, y = batches.astype(np.float32), np.arange(4, dtype=np.int32)
        plan = step.plan(x[0], y)
        native.paint_arena(plan.arena_bytes + SLACK)
        losses = [step(images, y).item() for images in x]
        assert native.arena_high_water() <= plan.arena_bytes
        found.append((losses, {c.name: c.array.tobytes() for c in step.cells()}))
    assert found[0] == found[1]


class Deep:
    """Layers whose gradients are more than what is saved for them."""

    def __init__(self, policies, optimizer=te.optim.SGD, by_hand=False, **rates):
        te.manual_seed(0)
        layers = [te.nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(DEPTH)]
        self.model = te.nn.Sequential(*layers)
        limit = {} if by_hand else {"max_norm": 0.1}
        self.optimizer = optimizer(self.model.parameters(), 0.1, **limit, **rates)

        @te.compile(policies=policies)
        def step(x):
            h = x
            for layer in self.model:
                h = te.functional.dropout(layer(h).tanh(), 0.1)
            loss = (h * h).mean()
            if by_hand:
                loss.backward()
                te.optim.clip_grad_norm(self.model.parameters(), 0.1)
                self.optimizer.step()
            else:
                self.optimizer.minimize(loss)
            return loss

        self.step = step

    def plan(self):
        return self.step.plan(X)


def trained(*args, **options):
    """Losses and state of a net that was just built, so that its dropout begins anew."""
    deep = Deep(*args, **options)
    losses = [deep.step(X).item() for _ in range(3)]
    cells = {**deep.model.state_dict(), **deep.optimizer.state_dict()}
    return losses, {name: np.asarray(cell).tobytes() for name, cell in cells.items()}


def most_bytes(plan, kind):
    moments = range(len(plan.ledger.live_bytes()))
    return max(sum(e.nbytes for e in plan.live(t) if e.kind == kind) for t in moments)


@pytest.mark.parametrize("by_hand", [False, True])
@pytest.mark.parametrize("policies", [[], [Default()], [Default(), Checkpoint()]], ids=repr)
def test_gradients_wait_for_nobody(policies, by_hand):
    weight = 4 * WIDTH * WIDTH
    both = [*policies, SecondBackward()]
    kept, twice = (Deep(each, by_hand=by_hand).plan() for each in (policies, both))
    assert by_hand or most_bytes(kept, "gradient") == DEPTH * weight
    assert most_bytes(twice, "gradient") == weight
    assert twice.arena_bytes < 0.6 * kept.arena_bytes
    assert trained(both, by_hand=by_hand) == trained(policies, by_hand=by_hand)


def test_what_is_made_again_or_decoded_for_the_first_part_does_not_stay_for_the_second():
    """Else everything would be there at once between the two."""
    for policies in ([Checkpoint(every=1)], [Store("bfloat16")], [Store("int8")]):
        both = [*policies, SecondBackward()]
        once, twice = (most_bytes(Deep(each).plan(), "temporary") for each in (policies, both))
        assert twice <= once + X.nbytes  # what is being computed; else many times as much
        assert trained(both) == trained(policies)


@pytest.mark.parametrize(
    "policies", [[Store("bitmask")], [Default(), Store("int8")], [Default(), Store("bitmask")]]
)
def test_both_parts_take_what_is_stored_for_one(policies):
    """Masks, which nothing can be made again from, as well: they are decoded twice."""
    saved, decoded = [], []
    for more in ([], [SecondBackward(always=True)]):
        model = te.models.lenet(num_classes=10)
        optimizer = te.optim.SGD(model.parameters(), 0.1, max_norm=1.0)

        @te.compile(policies=[*policies, *more])
        def step(x, y, model=model, optimizer=optimizer):
            loss = te.functional.cross_entropy(model(x), y)
            optimizer.minimize(loss)
            return loss

        plan = step.plan(np.zeros((16, 1, 28, 28), np.float32), np.zeros(16, np.int32))
        saved.append(sum(s.nbytes for s in plan.saved()))
        decoded.append(most_bytes(plan, "temporary"))
    assert saved[0] == saved[1]
    assert decoded[1] <= decoded[0] + 64


def test_both_costs_are_in_the_plan():
    held = f"{DEPTH * 4 * WIDTH * WIDTH / 1e3:.2f} kB of gradients wait"
    kept, twice, always = (
        Deep([Default(), *more]).plan()
        for more in ([], [SecondBackward()], [SecondBackward(always=True)])
    )
    (of_one,), (of_two,), (of_always,) = (p.graph.remarks for p in (kept, twice, always))
    assert held in of_one and "SecondBackward(), would take" in of_one
    share = of_one.partition("would take ")[2].split()[0]
    again = f"gradients are made twice, for {share} more operations"
    assert f"{megabytes(twice.peak_bytes)} if {again}, as here" in of_two
    assert f"{megabytes(kept.peak_bytes)} if {held}" in of_two
    assert again in of_always and held in of_always


def test_where_the_plan_needs_no_fewer_bytes_gradients_wait():
    x = np.zeros((16 * DEPTH * WIDTH, WIDTH), np.float32)  # much is saved, and stays
    kept, twice, always = (
        Deep([Default(), *more]).step.plan(x)
        for more in ([], [SecondBackward()], [SecondBackward(always=True)])
    )
    assert kept.peak_bytes == twice.peak_bytes < always.peak_bytes
    remark = next(r for r in twice.graph.remarks if r.startswith("SecondBackward(): "))
    assert f"{megabytes(always.peak_bytes)} if gradients are made twice" in remark
    assert f"{megabytes(kept.peak_bytes)} if" in remark and "norm, as here" in remark


@pytest.mark.parametrize("optimizer", [te.optim.Adam, te.optim.RMSprop])
def test_any_optimizer_and_frozen_layers_may_clip_so(optimizer):
    policies = [Default(), Freeze("[01].*")]
    both = [*policies, SecondBackward()]
    assert trained(both, optimizer) == trained(policies, optimizer)
    assert most_bytes(Deep(both, optimizer).plan(), "gradient") == 4 * WIDTH * WIDTH


def smallest():
    with pytest.raises(BudgetError) as refused:
        Deep([Budget(1)]).plan()
    return refused.value.smallest


def test_a_budget_makes_gradients_twice_where_nothing_else_fits():
    tight = smallest()
    plan = Deep([Budget(tight)]).plan()
    assert plan.peak_bytes <= tight < 0.7 * Deep([Default(), Checkpoint()]).plan().peak_bytes
    assert any("besides: SecondBackward(always=True)" in r for r in plan.graph.remarks)
    assert trained([Budget(tight)]) == trained([])


def test_its_decisions_are_read_again(tmp_path):
    path = tmp_path / "step.json"
    within = Deep([Budget(smallest())]).plan()
    save_decisions(within, path)
    assert Deep([Planned(path)]).plan().peak_bytes == within.peak_bytes
    with pytest.raises(GraphError, match="another step"):
        Deep([Planned(path)], by_hand=True).plan()


@pytest.mark.parametrize(
    "x, y, error",
    [(1.0, 7, DataError), (np.nan, 1, NonFiniteError)],
    ids=["label", "nan"],
)
def test_a_failing_step_changes_nothing(x, y, error):
    model = te.nn.Sequential(te.nn.Linear(WIDTH, WIDTH), te.nn.Tanh(), te.nn.Linear(WIDTH, 4))
    optimizer = te.optim.SGD(model.parameters(), 0.1, momentum=0.9, max_norm=1.0)

    @te.compile(policies=[Default(), Store("float16"), SecondBackward()])
    def step(x, y):
        loss = te.functional.cross_entropy(model(x), y)
        optimizer.minimize(loss)
        return loss

    def state():
        cells = {**model.state_dict(), **optimizer.state_dict()}
        return {name: np.asarray(cell).tobytes() for name, cell in cells.items()}

    labels = np.ones(4, np.int32)
    step(X, labels)
    before = state()
    with pytest.raises(error):
        step(X * np.float32(x), labels * y)
    assert state() == before


def test_where_it_cannot_be_it_says_why():
    with pytest.raises(GraphError, match="sums of gradients are kept for their norm anyway"):
        Deep([Microbatch(2), SecondBackward()]).plan()
    layer = te.nn.Linear(WIDTH, WIDTH)
    plain = te.optim.SGD(layer.parameters(), 0.1)
    clipped = te.optim.SGD(layer.parameters(), 0.1, max_norm=1.0)

    @te.compile(policies=[SecondBackward()])
    def goes_on(x):
        clipped.minimize(layer(x).mean())
        return layer(x).mean()

    with pytest.raises(GraphError, match="goes on after its norm or its update"):
        goes_on.plan(X)

    @te.compile(policies=[SecondBackward()])
    def not_clipped(x):
        plain.minimize(layer(x).mean())

    with pytest.warns(UserWarning, match=r"SecondBackward\(\) matches no clipping"):
        not_clipped.plan(X)
