"""Plans of the models: packed within 2 % of what is live, and sums exact."""

import numpy as np
import pytest
from plan.checker import check

import tinygrad_edge as te
from tinygrad_edge.runtime import _ffi

pytestmark = pytest.mark.skipif(not _ffi.available(), reason="needs the native runtime")

MODELS = {
    "lenet": ((28, 28), 1, 8),
    "cnn": ((16, 16), 3, 4),
    "mobilenet_v1": ((64, 64), 3, 2),
    "mobilenet_v1_patch": ((32, 32), 3, 2),
    "mobilenet_v2": ((64, 64), 3, 2),
    "mobilenet_v3_small": ((64, 64), 3, 2),
    "resnet18": ((64, 64), 3, 2),
    "resnet50": ((64, 64), 3, 2),
    "wide_resnet": ((16, 16), 3, 2),
}


POLICIES = {
    "default": None,
    "textbook": [],
    "checkpoint": [te.policy.Default(), te.policy.Checkpoint()],
    "recompute": [te.policy.Default(), te.policy.Recompute(max_seconds_per_byte=1e-9)],
}


@pytest.mark.filterwarnings("ignore:.*matches no place")  # of lenet: no cut of it saves a byte
@pytest.mark.parametrize("policies", POLICIES.values(), ids=POLICIES)
@pytest.mark.parametrize("name", MODELS)
def test_arena_is_near_what_is_live(name, policies):
    size, channels, batch = MODELS[name]
    model = te.models.build(name, num_classes=10, in_channels=channels)
    optimizer = te.optim.SGD(model.parameters(), 0.1, momentum=0.9)

    @te.compile(policies=policies)
    def step(images, labels):
        loss = te.functional.cross_entropy(model(images), labels)
        optimizer.minimize(loss)
        return loss

    images = np.zeros((batch, channels, *size), np.float32)
    plan = step.plan(images, np.zeros(batch, np.int32))
    assert max(plan.ledger.live_bytes()) <= plan.arena_bytes
    assert plan.arena_bytes <= 1.02 * max(plan.ledger.live_bytes())
    assert sum(plan.by_kind().values()) == plan.peak_bytes
    if name in ("lenet", "cnn"):
        check(plan)
