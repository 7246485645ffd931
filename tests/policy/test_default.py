"""The default: updates in the backward part, so that gradients die at once."""

import numpy as np

import tinygrad_edge as te
from tinygrad_edge import nn
from tinygrad_edge.policy import Default

WIDTH, DEPTH = 32, 6


def most_gradient_bytes(policies, optimizer):
    model = nn.Sequential(*(nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(DEPTH)))
    update = optimizer(model.parameters())

    @te.compile(policies=policies)
    def step(x):
        loss = model(x).mean()
        update.minimize(loss)
        return loss

    plan = step.plan(np.zeros((2, WIDTH), np.float32))
    moments = range(len(plan.ledger.live_bytes()))
    return max(sum(e.nbytes for e in plan.live(t) if e.kind == "gradient") for t in moments)


def test_gradients_wait_for_nobody():
    weight = 4 * WIDTH * WIDTH
    for optimizer in (
        lambda p: te.optim.SGD(p, 0.1),
        lambda p: te.optim.SGD(p, 0.1, momentum=0.9),
        lambda p: te.optim.Adam(p, 0.1),
    ):
        assert most_gradient_bytes([], optimizer) == DEPTH * weight
        assert most_gradient_bytes([Default()], optimizer) == weight


def test_gradients_that_wait_for_their_norm_are_said_to():
    model = nn.Sequential(*(nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(DEPTH)))
    remarks = {}
    for limit in (None, 1.0):
        optimizer = te.optim.SGD(model.parameters(), 0.1, max_norm=limit)

        @te.compile
        def step(x, optimizer=optimizer):
            loss = model(x).mean()
            optimizer.minimize(loss)
            return loss

        remarks[limit] = step.plan(np.zeros((2, WIDTH), np.float32)).graph.remarks
    assert remarks[None] == ()
    (remark,) = remarks[1.0]
    held = f"{DEPTH * 4 * WIDTH * WIDTH / 1e3:.2f} kB of gradients wait for their global norm"
    assert held in remark and "a second backward part instead" in remark
