"""Model by policies by batch: what is written, and what the process grows by, is the plan."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tinygrad_edge as te
from tinygrad_edge.policy import (
    Budget,
    Checkpoint,
    Default,
    Freeze,
    Microbatch,
    Recompute,
    Store,
)
from tinygrad_edge.runtime import _ffi, native

pytestmark = pytest.mark.skipif(not _ffi.available(), reason="needs the native runtime")

MODELS = {
    "lenet": (1, 28),
    "cnn": (3, 16),
    "mobilenet_v1_patch": (3, 32),
    "mobilenet_v2": (3, 32),
    "resnet18": (3, 32),
}
POLICIES = {
    "textbook": [],
    "default": [Default()],
    "checkpoint": [Default(), Checkpoint()],
    "recompute": [Recompute(ops=("batch_norm_apply", "relu", "conv2d"))],
    "stored": [Default(), Store("bitmask"), Store("int8"), Store("bfloat16", where="classifier*")],
    "frozen": [Default(), Freeze("*.weight")],
    "microbatch": [Default(), Microbatch(2)],
    "segments of parts": [Default(), Microbatch(2), Checkpoint()],
    "budget": "between the smallest and the default",
}
BATCHES = (4, 6)  # halves of two samples or more: batch-norm trains on maps of 1x1
SLACK = 4096


def make_step(name, policies, batch):
    channels, size = MODELS[name]
    model = te.models.build(name, num_classes=10, in_channels=channels)
    optimizer = te.optim.SGD(model.parameters(), 0.01, momentum=0.9)

    def step(x, y):
        loss = te.functional.cross_entropy(model(x), y)
        optimizer.minimize(loss)
        return loss

    x, y = np.ones((batch, channels, size, size), np.float32), np.zeros(batch, np.int32)
    if policies == POLICIES["budget"]:
        default = te.compile(step).plan(x, y)
        policies = [Budget(default.peak_bytes - default.arena_bytes // 100)]
    return te.compile(step, policies=policies), x, y


@pytest.mark.filterwarnings("ignore:.*matches no")
@pytest.mark.parametrize("policies", POLICIES.values(), ids=POLICIES)
@pytest.mark.parametrize("name", MODELS)
def test_no_byte_beyond_the_plan_is_written_and_its_last_ones_are(name, policies):
    for batch in BATCHES:
        step, x, y = make_step(name, policies, batch)
        plan = step.plan(x, y)
        native.paint_arena(plan.arena_bytes + SLACK)
        step(x, y)
        assert native.arena_high_water() <= plan.arena_bytes
        # A workspace may be larger than what its kernel used of it.
        top = max(b.offset + b.nbytes for b in plan.storage.buffers if b.lives)
        assert top <= native.arena_high_water() + 64
        assert sum(plan.by_kind().values()) == plan.peak_bytes


GROWTH = """
import gc, json, sys, warnings
from policy.test_exactness import BATCHES, POLICIES, make_step
from tinygrad_edge import runtime

def resident(field):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(field))

def growth(step, x, y):
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the high water is what is resident now
    before = resident("VmRSS")
    step(x, y)
    return resident("VmHWM") - before

warnings.simplefilter("ignore")
found = {}
for name, policies in POLICIES.items():
    for batch in BATCHES:
        step, x, y = make_step(sys.argv[1], policies, batch)
        step(x, y)  # modules, code and cells are there
        runtime.release_arena()
        gc.collect()
        found[f"{name}, {batch}"] = growth(step, x, y) - step.plan(x, y).arena_bytes
print(json.dumps(found))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("name", MODELS)
def test_the_process_grows_by_the_arena(name):
    words = [sys.executable, "-c", GROWTH, name]
    tests = Path(__file__).parents[1]
    done = subprocess.run(words, capture_output=True, text=True, check=True, cwd=tests)
    off = json.loads(done.stdout)
    assert len(off) == len(POLICIES) * len(BATCHES)
    assert {case: n for case, n in off.items() if abs(n) > 1_000_000} == {}


LOSSLESS = ("default", "checkpoint", "recompute", "budget")


@pytest.mark.filterwarnings("ignore:.*matches no")
@pytest.mark.parametrize("name", MODELS)
def test_twenty_steps_have_the_same_bits_under_every_lossless_policy(name):
    rng = np.random.default_rng(0)
    channels, size = MODELS[name]
    batches = rng.standard_normal((20, 4, channels, size, size)).astype(np.float32)
    found = {}
    for policies in ("textbook", *LOSSLESS):
        te.manual_seed(0)
        step, _, y = make_step(name, POLICIES[policies], 4)
        losses = [step(x, y).item() for x in batches]
        found[policies] = losses, {c.name: c.array.tobytes() for c in step.cells()}
    for policies in LOSSLESS:
        assert found[policies][0] == found["textbook"][0]
        assert found[policies][1] == found["textbook"][1]
