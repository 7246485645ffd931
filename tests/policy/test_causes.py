"""A plan still knows which policy put a value where it is."""

import numpy as np

import tinygrad_edge as te
from tinygrad_edge.policy import Budget, Checkpoint, Default, Store


def causes(policies):
    model = te.nn.Sequential(*(te.nn.Linear(8, 8, bias=False) for _ in range(9)))
    optimizer = te.optim.SGD(model.parameters(), 0.1)

    @te.compile(policies=policies)
    def step(x):
        loss = model(x).tanh().mean()
        optimizer.minimize(loss)
        return loss

    plan = step.plan(np.zeros((64, 8), np.float32))
    found = {how: set(by.values()) for how, by in plan.graph.causes.items()}
    return plan, {how: by for how, by in found.items() if by}


def test_textbook_backpropagation_has_no_causes():
    assert causes([])[1] == {}


def test_each_mark_keeps_the_name_of_its_policy():
    checkpoint, store = Checkpoint(every=4), Store("float16")
    found = causes([Default(), store, checkpoint])[1]
    assert found["again"] == found["kept"] == {repr(checkpoint)}
    assert repr(store) in found["stored"]


def test_a_budget_is_the_cause_of_what_it_has_chosen():
    default = causes(None)[0]
    budget = Budget(default.peak_bytes - 1)
    plan, found = causes([budget])
    assert found == {"again": {repr(budget)}}
    copy = next(iter(plan.graph.causes["again"]))
    assert repr(budget) in plan.why(copy).cause
    assert repr(budget) in plan.why(plan.reasons.original(copy)).cause


def test_what_is_made_again_has_the_origin_of_what_it_stands_for():
    plan, _ = causes([Checkpoint(every=4)])
    forward = {n.origin: n for n in plan.graph.nodes if n.part == "forward"}
    copies = plan.graph.causes["again"]
    assert copies
    for copy in copies:
        assert forward[copy.node.origin].path == copy.node.path
        assert forward[copy.node.origin].op is copy.node.op
