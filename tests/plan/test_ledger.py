"""The ledger against the process: a painted arena, and the bytes that the process grows by."""

import subprocess
import sys
import weakref

import numpy as np
import pytest

import tinygrad_edge as te
from tinygrad_edge.plan import KINDS
from tinygrad_edge.runtime import _ffi, native

pytestmark = pytest.mark.skipif(not _ffi.available(), reason="needs the native runtime")
F = te.functional


def make_step(policies=None):
    te.manual_seed(0)
    net = te.nn.Sequential(
        te.nn.Conv2d(3, 8, 3, padding=1),
        te.nn.BatchNorm2d(8),
        te.nn.ReLU(),
        te.nn.MaxPool2d(2),
        te.nn.Flatten(),
        te.nn.Dropout(0.2),
        te.nn.Linear(8 * 8 * 8, 10),
    )
    optimizer = te.optim.Adam(net.parameters(), 1e-3)

    @te.compile(policies=policies)
    def step(x, y):
        loss = F.cross_entropy(net(x), y)
        optimizer.minimize(loss)
        return loss

    x = np.random.default_rng(0).standard_normal((4, 3, 16, 16)).astype(np.float32)
    return step, (x, np.arange(4, dtype=np.int32))


@pytest.mark.parametrize("policies", [None, []])
def test_kinds_sum_to_the_peak(policies):
    step, batch = make_step(policies)
    plan = step.plan(*batch)
    kinds = plan.by_kind()
    assert tuple(kinds) == KINDS
    assert sum(kinds.values()) == plan.peak_bytes
    assert kinds["parameter"] == 4 * (8 * 27 + 8 + 16 + 5120 + 10)
    assert kinds["input"] >= sum(a.nbytes for a in batch)
    assert all(n >= 0 for n in kinds.values())


def test_an_arena_painted_before_the_run_is_written_up_to_its_end_and_no_further():
    step, batch = make_step()
    plan = step.plan(*batch)
    native.paint_arena(plan.arena_bytes + 4096)
    step(*batch)
    # The last block may end in padding, or in bytes that its kernel leaves unused.
    assert native.arena_high_water() <= plan.arena_bytes
    top = max(b.offset + b.nbytes for b in plan.storage.buffers)
    assert plan.arena_bytes - 64 < top <= plan.arena_bytes


def test_saved_lists_what_backward_reads():
    step, batch = make_step([])
    saved = {s.name: s for s in step.plan(*batch).saved()}
    assert saved["0.add"].readers == ("batch_norm_activated_backward",)
    assert saved["0.add"].nbytes == 4 * 8 * 16 * 16 * 4
    assert any(name.endswith("max_pool2d.1") for name in saved)
    assert not any("dropout" in name and saved[name].readers == ("dropout",) for name in saved)


def test_table_has_a_row_for_each_call():
    step, batch = make_step()
    plan = step.plan(*batch)
    rows = plan.table().splitlines()[2 : 2 + len(plan.calls)]
    assert [int(r.split()[0]) for r in rows] == list(range(len(plan.calls)))
    assert sum("<- peak" in r for r in rows) == 1
    assert f"{plan.peak_bytes:,}" in plan.table()


def test_trace_shows_what_the_ledger_says():
    step, batch = make_step()
    plan = step.plan(*batch)
    events = list(step.trace(*batch))
    assert len(events) == len(plan.calls)
    live = plan.ledger.live_bytes()
    assert [e.live_bytes for e in events] == [live[c.time] for c in plan.calls]
    assert max(e.live_bytes for e in events) == max(live)


def test_policies_change_bytes_and_not_bits():
    default, batch = make_step()
    textbook, _ = make_step([])
    assert default.plan(*batch).peak_bytes <= textbook.plan(*batch).peak_bytes
    default, _ = make_step()
    losses = [default(*batch).item() for _ in range(5)]
    textbook, _ = make_step([])
    assert losses == [textbook(*batch).item() for _ in range(5)]


_GROWTH = """
import numpy as np, sys
import tinygrad_edge as te
def resident():
    with open('/proc/self/statm') as f:
        return int(f.read().split()[1]) * 4096
@te.compile
def step(x):
    y = x
    for _ in range(4):
        y = (y @ x).relu()
    return (y * y).sum()
x = np.full((1500, 1500), 0.01, np.float32)
small = np.full((64, 64), 0.01, np.float32)
step(small)  # code pages and pools are there
plan = step.plan(x)
before = resident()
step(x)
print(resident() - before - plan.arena_bytes)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_the_process_grows_by_the_arena():
    out = subprocess.run(
        [sys.executable, "-c", _GROWTH], check=True, capture_output=True, text=True
    ).stdout
    assert abs(int(out)) < 1_000_000


def test_an_arena_that_is_outgrown_or_released_goes():
    native.release_arena()
    step = te.compile(lambda x: (x * 2.0).sum())
    few, many = np.ones(8, np.float32), np.ones(1 << 16, np.float32)
    for again in (lambda: step(many), native.release_arena):
        assert step(few).item() == 16
        old = weakref.ref(native._arena)
        again()
        assert old() is None
    assert (step(many).item(), step(few).item()) == (1 << 17, 16)
