"""The solver against the best choice there is, found by integer programming."""

import random

import numpy as np
import pytest
from policy.test_budget import Step, smallest, workspace

import tinygrad_edge as te
from tinygrad_edge.policy import Budget, Default
from tinygrad_edge.policy.again import made_again
from tinygrad_edge.policy.cost import seconds, total_seconds
from tinygrad_edge.policy.frontier import Frontier
from tinygrad_edge.policy.optimal import optimum
from tinygrad_edge.policy.rounding import ANY_CELL
from tinygrad_edge.runtime import _ffi

pytest.importorskip("scipy")
ALL_KEPT = [Default().parts()[1]]


def chain(seed):
    """A step of linear layers of drawn widths."""
    draw = random.Random(seed)
    widths = [16 * draw.randint(1, 8) for _ in range(draw.randint(5, 10))]
    pairs = zip(widths, widths[1:], strict=False)
    model = te.nn.Sequential(*(te.nn.Linear(*pair, bias=False) for pair in pairs))
    optimizer = te.optim.SGD(model.parameters(), 0.1)

    @te.compile(policies=ALL_KEPT)
    def step(x):
        loss = model(x).mean()
        optimizer.minimize(loss)
        return loss

    return step.plan(np.zeros((2048, widths[0]), np.float32))


def limits(frontier, shares):
    low, high = frontier.smallest.live_bytes, int(frontier.lifetimes.live.max())
    return [low + share * (high - low) for share in shares]


def test_on_chains_hardly_a_choice_is_faster():
    """One that makes a checkpoint again from an earlier one: the dynamic program keeps them.

    Kernels want no workspaces here, so that plans are the same on every machine.
    """
    ratios = []
    for seed in range(12):
        plan = te.plan.make_plan(chain(seed).graph)
        frontier = Frontier(plan, seconds)
        for limit in limits(frontier, (0.1, 0.3, 0.5, 0.8)):
            best = frontier.step_seconds + optimum(plan, limit, seconds, gap=0.0).seconds
            ratios.append((frontier.step_seconds + next(frontier.choices(limit)).seconds) / best)
    assert max(ratios) < 1.01
    assert np.mean(np.isclose(ratios, 1, rtol=1e-6)) >= 0.97


@pytest.mark.parametrize("name", ["lenet", "cnn", "mobilenet_v1_patch"])
def test_within_five_percent_of_a_bound_on_all_choices(name):
    plan = Step(name, ALL_KEPT).plan
    frontier = Frontier(plan, seconds)
    whole = frontier.step_seconds
    for limit in limits(frontier, (0.05, 0.3, 0.6)):
        best = optimum(plan, limit, seconds, limit=10.0)
        ours = next(frontier.choices(limit)).seconds
        assert whole + ours <= 1.05 * (whole + best.bound)
        assert frontier.least_seconds(limit) <= best.seconds
        assert best.bound <= ours + 1e-9 * whole


def test_the_best_choice_is_one_that_can_be_planned():
    plan = Step("cnn", ALL_KEPT).plan
    for limit in limits(Frontier(plan, seconds), (0.0, 0.2, 0.6)):
        best = optimum(plan, limit, seconds)
        anew = [(node.origin, value) for value, node in best.anew]
        graph = made_again(plan.graph.marked(best.again, anew=anew), ANY_CELL)
        planned = te.plan.make_plan(graph, workspace)
        assert max(planned.ledger.live_bytes()) <= limit
        taken = total_seconds(graph, {}) - total_seconds(plan.graph, {})
        assert taken == pytest.approx(best.seconds, rel=1e-6)


def test_what_cannot_be_is_infinitely_slow():
    plan = Step("cnn", ALL_KEPT).plan
    least = Frontier(plan, seconds).least_bytes()
    assert optimum(plan, 0.99 * least, seconds).bound == np.inf


@pytest.mark.skipif(not _ffi.available(), reason="needs the native runtime")
@pytest.mark.parametrize("name", ["cnn", "mobilenet_v1_patch", "resnet18"])
def test_arenas_of_budgets_are_near_what_is_live(name):
    most = Step(name, None).plan.peak_bytes
    for share in (0.0, 0.3, 0.8):
        budget = smallest(name) + share * (most - smallest(name))
        plan = Step(name, [Budget(int(budget))]).plan
        assert plan.arena_bytes <= 1.02 * max(plan.ledger.live_bytes())
