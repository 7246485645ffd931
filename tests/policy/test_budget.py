"""A budget is kept or refused, buys what it can, and changes no bit."""

import itertools
import random
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import draw_net
from test_random_nets import Training

import tinygrad_edge as te
from tinygrad_edge import timing
from tinygrad_edge.errors import BudgetError, GraphError
from tinygrad_edge.graph import Graph, base_of
from tinygrad_edge.policy import Budget, Default
from tinygrad_edge.policy.again import made_again
from tinygrad_edge.policy.budget import as_bytes
from tinygrad_edge.policy.cost import cost_of, seconds
from tinygrad_edge.policy.course import Marks, predict
from tinygrad_edge.policy.frontier import Frontier
from tinygrad_edge.policy.offers import offered
from tinygrad_edge.policy.rounding import ANY_CELL
from tinygrad_edge.runtime import _ffi

MODELS = {
    "lenet": (1, 28, 8),
    "cnn": (3, 16, 4),
    "mobilenet_v1_patch": (3, 32, 4),
    "resnet18": (3, 32, 8),
}


class Step:
    def __init__(self, name, policies):
        te.manual_seed(0)
        channels, size, batch = MODELS[name]
        draw = np.random.default_rng(0)
        self.x = draw.standard_normal((batch, channels, size, size)).astype(np.float32)
        self.y = draw.integers(0, 10, batch).astype(np.int32)
        self.model = te.models.build(name, num_classes=10, in_channels=channels)
        self.optimizer = te.optim.SGD(self.model.parameters(), 0.05, momentum=0.9)
        self.run = te.compile(self.step, policies=policies)

    def step(self, x, y):
        loss = te.functional.cross_entropy(self.model(x), y)
        self.optimizer.minimize(loss)
        return loss

    @property
    def plan(self):
        return self.run.plan(self.x, self.y)

    def trained(self, steps=2):
        losses = [self.run(self.x, self.y).item() for _ in range(steps)]
        return losses, {k: np.asarray(v).tobytes() for k, v in self.model.state_dict().items()}


def step_seconds(plan):
    return sum(seconds(n) for n in plan.graph.nodes if n.op.kernel is not None)


def smallest(name):
    with pytest.raises(BudgetError) as refused:
        _ = Step(name, [Budget(0)]).plan
    return int(
        re.search(r"smallest budget found for this step is (\d+) bytes", str(refused.value))[1]
    )


@pytest.mark.parametrize("name", MODELS)
def test_kept_to_the_byte_without_changing_a_bit(name):
    default = Step(name, None)
    least, most = smallest(name), Step(name, [Default().parts()[1]]).plan.peak_bytes
    textbook = Step(name, []).trained()
    slowest = np.inf
    for share in (0.0, 0.2, 0.6, 1.0):
        budget = int(least + share * (most - least))
        step = Step(name, [Budget(budget)])
        assert step.plan.peak_bytes <= budget
        assert step_seconds(step.plan) <= slowest, "more bytes must not give a slower plan"
        slowest = step_seconds(step.plan)
        if share in (0.0, 0.6):
            assert step.trained() == textbook
    assert slowest <= step_seconds(default.plan)
    with pytest.raises(BudgetError, match="at the peak"):
        _ = Step(name, [Budget(least - 1)]).plan


def test_the_plan_says_what_the_budget_cost():
    default = Step("mobilenet_v1_patch", None).plan
    saving = default.arena_bytes // 3
    plan = Step("mobilenet_v1_patch", [Budget(default.peak_bytes - saving)]).plan
    [remark] = plan.graph.remarks
    chosen, bound, more = (float(f) for f in re.findall(r"([\d.]+)x", remark))
    assert bound <= chosen and more <= chosen < 1.1
    assert chosen == pytest.approx(step_seconds(plan) / step_seconds(default), abs=1e-3)
    assert remark in plan.table()


def workspace(kernel):
    return te.runtime.current().workspace(kernel)


def all_kept(net):
    """The plan of a drawn net's step with early updates and every saved value kept."""
    training = Training(net)
    return te.compile(training.step, policies=[Default().parts()[1]]).plan(training.data.images)


def nets():
    return st.composite(lambda draw: draw_net(lambda o: draw(st.sampled_from(o))))()


def every_choice(frontier):
    return [*frontier.choices(), *frontier.squeezed]


@settings(max_examples=40)
@given(nets(), st.data())
def test_predictions_hold(net, data):
    plan = all_kept(net)
    frontier = Frontier(plan, seconds)
    lives = frontier.lifetimes
    some = data.draw(st.sets(st.sampled_from(lives.values))) if lives.values else set()
    drawn = predict(lives, Marks(lives.unsaved.union(some)))
    for choice in (drawn, data.draw(st.sampled_from(every_choice(frontier)))):
        planned = te.plan.make_plan(
            made_again(choice.marks.put_on(plan.graph, lives), ANY_CELL), workspace
        )
        assert step_seconds(planned) - step_seconds(plan) == pytest.approx(choice.seconds)
        # What can overwrite something now, and could not before, is not in the prediction.
        assert max(planned.ledger.live_bytes()) <= choice.live_bytes


def with_formats(net, *names):
    """The same, and what its values may be stored as."""
    graph, formats = offered(all_kept(net).graph, names, ANY_CELL)
    plan = te.plan.make_plan(graph, workspace)
    return plan, Frontier(plan, cost_of(graph, {}), formats)


@settings(max_examples=40)
@given(nets(), st.data())
def test_predictions_hold_with_formats(net, data):
    plan, frontier = with_formats(net, "float16", "bfloat16")
    lives = frontier.lifetimes
    some = data.draw(st.sets(st.sampled_from(lives.values))) if lives.values else set()
    kept = [v for v in lives.values if v in lives.crossings and v not in some]
    names = {v: data.draw(st.sampled_from([None, *lives.crossings[v]])) for v in kept}
    stored = frozenset((v, name) for v, name in names.items() if name)
    again = lives.unsaved.difference(v for v, _ in stored).union(some)
    drawn = predict(lives, Marks(again, stored=stored))
    for choice in (drawn, data.draw(st.sampled_from(every_choice(frontier)))):
        planned = te.plan.make_plan(
            made_again(choice.marks.put_on(plan.graph, lives), ANY_CELL), workspace
        )
        taken = step_seconds(planned) - step_seconds(plan)
        if all(name == "bfloat16" for _, name in choice.marks.stored):
            assert taken == pytest.approx(choice.seconds)
        else:  # kernels that take halves read fewer bytes
            assert taken == pytest.approx(min(taken, choice.seconds))
        assert max(planned.ledger.live_bytes()) <= choice.live_bytes


@settings(max_examples=25)
@given(nets(), st.booleans())
def test_the_bound_is_below_every_choice(net, rounded):
    frontier = with_formats(net, *("float16",) * rounded)[1]
    for choice in every_choice(frontier):
        assert frontier.least_bytes() <= choice.live_bytes
        assert frontier.least_seconds(choice.live_bytes) <= choice.seconds + 1e-15


def test_less_than_the_smallest_limit_is_searched_only_when_asked_for():
    step = Step("lenet", [Default().parts()[1]])
    frontier = Frontier(step.plan, cost_of(step.plan.graph, {}))
    limit = frontier.smallest.live_bytes
    assert min(c.live_bytes for c in frontier.choices()) == limit
    assert "squeezed" not in vars(frontier)
    [smaller, *_] = frontier.choices(limit - 1)
    assert smaller.live_bytes < limit and smaller.seconds >= frontier.smallest.seconds
    assert smaller == predict(frontier.lifetimes, smaller.marks)


@pytest.mark.parametrize(
    "seed", [4, 9, 12, 14, 15, 16, 17, 23]
)  # with 5 to 13 values to choose about
def test_as_fast_as_the_best_of_all_choices_within_five_percent(seed):
    frontier = Frontier(all_kept(draw_net(random.Random(seed).choice)), seconds)
    lives = frontier.lifetimes
    everything = [
        predict(lives, Marks(frozenset(itertools.compress(lives.values, kept))))
        for kept in itertools.product((0, 1), repeat=len(lives.values))
    ]
    found = list(frontier.choices())
    smallest, largest = min(c.live_bytes for c in everything), int(lives.live.max())
    for share in (0.3, 0.5, 0.7, 0.9):
        limit = smallest + share * (largest - smallest)
        best, ours = (
            frontier.step_seconds
            + min((c.seconds for c in choices if c.live_bytes <= limit), default=np.inf)
            for choices in (everything, found)
        )
        assert ours <= 1.05 * best


def test_measured_times_take_the_place_of_estimates_and_set_their_scale():
    nodes = [n for n in Step("cnn", None).plan.graph.nodes if n.op.kernel is not None]
    measured = next(n for n in nodes if n.op.name == "conv2d")
    pool = next(n for n in nodes if n.op.name == "max_pool2d")
    graph = Graph([*measured.outputs, *pool.outputs])
    cost = cost_of(graph, {timing.signature(measured.op.kernel(measured)): 7.0})
    assert cost(measured) == 7.0
    assert cost(pool) == pytest.approx(seconds(pool) * 7.0 / seconds(measured))
    assert cost_of(graph, {})(measured) == seconds(measured)


@pytest.mark.skipif(not _ffi.available(), reason="NumPy calls no kernels")
def test_a_budget_asks_for_the_times_of_this_machine(monkeypatch):
    asked = []
    monkeypatch.setattr(timing, "load", lambda isa, threads: asked.append((isa, threads)) or {})
    with pytest.raises(BudgetError):
        _ = Step("lenet", [Budget(0)]).plan
    assert asked == [(_ffi.isa(), te.runtime.threads())]


def test_a_step_of_one_op_has_one_budget():
    step = te.compile(lambda x: x + 1.0, policies=[Budget(20)])  # x, the result, and the number
    assert step.plan(np.zeros(2, np.float32)).peak_bytes == 20
    with pytest.raises(BudgetError, match="is 36 bytes"):
        step.plan(np.zeros(4, np.float32))


@pytest.mark.parametrize(
    "text, expected",
    [(8, 8), ("8", 8), ("8B", 8), ("1.5 kB", 1500), ("8MB", 8_000_000), ("8MiB", 8 * 2**20)],
)
def test_bytes_are_decimal_unless_they_say_otherwise(text, expected):
    assert as_bytes(text) == expected


@pytest.mark.parametrize("wrong", ["8 apples", "MB", "", ".", "1.2.3", -1, "1e6", 2.5, True])
def test_what_is_no_amount_is_refused(wrong):
    with pytest.raises(GraphError):
        Budget(wrong)


def test_what_is_allowed_is_done_where_it_is_faster_or_nothing_else_fits():
    name, default = "mobilenet_v1_patch", Step("mobilenet_v1_patch", None).plan
    least = smallest(name)
    plan = Step(name, [Budget(least - 1, "microbatch_bn")]).plan
    assert plan.peak_bytes < least
    assert any("chosen besides: Microbatch(n=" in remark for remark in plan.graph.remarks)
    half = (least + default.peak_bytes) // 2
    lossless, lossy = (Step(name, [Budget(half, allow)]).plan for allow in ((), "float16"))
    assert step_seconds(lossy) <= step_seconds(lossless)
    roomy = Step(name, [Budget(default.peak_bytes, ("float16", "microbatch_bn"))]).plan
    assert roomy.peak_bytes <= default.peak_bytes
    assert step_seconds(roomy) <= step_seconds(default)


def test_formats_are_chosen_for_each_value_where_they_help():
    name = "mobilenet_v1_patch"
    default, least = Step(name, None).plan, smallest(name)
    budget = (3 * least + default.peak_bytes) // 4
    lossless, rounded = Step(name, [Budget(budget)]), Step(name, [Budget(budget, "float16")])
    assert rounded.plan.peak_bytes <= budget
    assert step_seconds(rounded.plan) < step_seconds(lossless.plan)
    said = next(r for r in rounded.plan.graph.remarks if r.startswith("stored besides: "))
    nodes = rounded.plan.graph.nodes
    encoded = {base_of(n.inputs[0]) for n in nodes if n.op.name == "float16_encode"}
    assert said == f"stored besides: {len(encoded)} as float16"
    assert encoded and set(rounded.plan.graph.saved()) - encoded, "others cross as they are"
    (first, *_), (same, *_) = (step.trained()[0] for step in (rounded, lossless))
    assert first == same, "the loss of the first step is that of float32"


def test_parts_too_small_for_batch_norm_are_passed_over():
    plan = Step("resnet18", [Budget(smallest("resnet18") - 1, "microbatch_bn")]).plan
    assert any("chosen besides: Microbatch(n=" in remark for remark in plan.graph.remarks)


def test_batch_norm_in_parts_is_not_allowed_by_the_way():
    with pytest.raises(GraphError, match="allow 'microbatch_bn'"):
        _ = Step("cnn", [Budget("1GB", "microbatch")]).plan
    least = smallest("lenet")  # without batch-norm
    assert Step("lenet", [Budget(least - 1, "microbatch")]).plan.peak_bytes < least


def test_what_cannot_be_allowed_is_refused_with_what_can():
    with pytest.raises(GraphError, match="no 'float8' to allow; there are microbatch, .*float16"):
        Budget("1MB", ("float8",))
