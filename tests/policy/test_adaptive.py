"""Formats that follow the numbers: what is decided, when, and that it is decided again alike."""

import numpy as np
import pytest

import tinygrad_edge as te
from tinygrad_edge import runtime
from tinygrad_edge.errors import GraphError, NonFiniteError
from tinygrad_edge.policy import AdaptivePrecision, Default, Microbatch

DRAW = np.random.default_rng(0)
X = DRAW.standard_normal((8, 3, 12, 12)).astype(np.float32)
Y = np.arange(8, dtype=np.int32) % 4


class Net(te.nn.Module):
    """Four layers with weights; the third one's output can be as large as one wants."""

    def __init__(self):
        self.first = te.nn.Conv2d(3, 8, 3)
        self.second = te.nn.Conv2d(8, 8, 3)
        self.third = te.nn.Conv2d(8, 8, 3)
        self.last = te.nn.Linear(8 * 36, 4)

    def forward(self, x, size):
        h = self.second(self.first(x).tanh()).tanh()
        wide = self.third(h) * size
        h = te.functional.tanh(wide.tanh() * wide)  # reads its own input in the backward part
        return self.last(h.reshape(8, -1))


class Training:
    def __init__(self, policies, build=Net):
        te.manual_seed(0)
        self.model = build()
        self.optimizer = te.optim.SGD(self.model.parameters(), 0.01, momentum=0.9)
        self.step = te.compile(self._step, policies=policies)

    def _step(self, x, y, size, weight):
        loss = te.functional.cross_entropy(self.model(x, size), y) * weight
        self.optimizer.minimize(loss)
        return loss

    def run(self, steps, size=1.0, weight=1.0):
        return [self.step(X, Y, size, weight).item() for _ in range(steps)]

    def state(self):
        cells = self.step.cells()
        return {c.name + str(i): c.array.tobytes() for i, c in enumerate(cells)}


def test_the_first_look_moves_values_and_the_ends_stay():
    training = Training([AdaptivePrecision(every=3)])
    plan = training.step.plan(X, Y, 1.0, 1.0)
    precision = training.step.precision
    assert set(precision.formats.values()) == {"float16"} and precision.decisions == []
    training.run(1)
    assert precision.decisions and {d.step for d in precision.decisions} == {1}
    assert "int8" in precision.formats.values()
    for d in precision.decisions:
        assert precision.formats[d.value] == d.after != d.before == "float16"
    later = training.step.plan(X, Y, 1.0, 1.0)
    assert sum(s.nbytes for s in later.saved()) < 0.9 * sum(s.nbytes for s in plan.saved())
    assert len(later.graph.outputs) == 1 < len(plan.graph.outputs)
    saved = {s.name: s.dtype for s in later.saved() if s.nbytes > 1000}
    assert {t for n, t in saved.items() if n.endswith("int8_encode.0")} == {"int8"}
    stays = [n for n in precision.formats if n.startswith(("first", "last"))]
    assert stays == [] and "float32" in saved.values()


def test_a_bound_decides():
    for bound, formats in ((0.5, {"int8"}), (1e-6, {"float32"}), (0.001, {"float16"})):
        training = Training([AdaptivePrecision(bound=bound)])
        training.run(2)
        assert set(training.step.precision.formats.values()) == formats
    assert "none has moved" in training.step.plan(X, Y, 1.0, 1.0).graph.remarks[-1]


def test_what_does_not_fit_moves_up_and_the_step_is_run_again():
    training, plain = Training([AdaptivePrecision(every=4)]), Training([])
    assert training.run(1, size=1e7) == plain.run(1, size=1e7)
    [moved, *_] = training.step.precision.decisions
    assert (moved.step, moved.before, moved.after) == (1, "float16", "float32")
    assert moved.why == "did not fit"
    # int8 has scales: the same step has found that it would do.
    assert training.step.precision.formats[moved.value] == "int8"


def test_a_step_that_fails_all_the_same_has_decided_nothing():
    training = Training([AdaptivePrecision(bound=0.001)])
    training.run(1)
    before, decisions = training.state(), list(training.step.precision.decisions)
    with pytest.raises(NonFiniteError, match="the loss"):
        training.run(1, size=1e7, weight=3e38)
    assert training.state() == before
    assert training.step.precision.decisions == decisions


def test_an_interrupted_step_has_decided_nothing(monkeypatch):
    """Not even that a value did not fit: the step may be given other numbers when it is run."""
    training = Training([AdaptivePrecision()])
    training.run(1)
    before, decisions = training.state(), list(training.step.precision.decisions)
    run, stop = runtime.run_checked, iter((False, True))

    def stopped(*args):
        if next(stop):
            raise runtime.Stopped
        return run(*args)

    monkeypatch.setattr(runtime, "run_checked", stopped)
    with pytest.raises(runtime.Stopped):
        training.run(1, size=1e7)
    assert training.state() == before
    assert training.step.precision.decisions == decisions


@pytest.mark.parametrize("bound", [0.004, 0.01])  # the latter with int8, which draws
def test_a_resumed_run_takes_the_same_decisions(tmp_path, bound):
    policies = [Default(), AdaptivePrecision(bound=bound, every=2)]
    sizes = (1.0, 1.0, 1e7, 1e7, 1.0, 1.0)
    whole = Training(policies)
    losses = [whole.run(1, size)[0] for size in sizes]
    assert len({d.step for d in whole.step.precision.decisions}) > 1
    begun = Training(policies)
    [begun.run(1, size) for size in sizes[:3]]
    te.save(tmp_path / "run.safetensors", begun.step)
    resumed = Training(policies)
    resumed.step.plan(X, Y, 1.0, 1.0)
    te.load(tmp_path / "run.safetensors", resumed.step)
    assert [resumed.run(1, size)[0] for size in sizes[3:]] == losses[3:]
    assert resumed.state() == whole.state()
    later = [d for d in whole.step.precision.decisions if d.step > 3]
    assert [d for d in resumed.step.precision.decisions if d.step > 3] == later


def test_what_cannot_be_is_refused():
    for wrong in ({"bound": 0}, {"bound": 1.0}, {"every": 0}):
        with pytest.raises(GraphError, match="AdaptivePrecision: "):
            AdaptivePrecision(**wrong)
    with pytest.raises(GraphError, match="one AdaptivePrecision decides"):
        Training([AdaptivePrecision(), AdaptivePrecision(bound=0.1)])


# ---- in micro-batches ----


class Tall(te.nn.Module):
    """Layers without a bound on what they make, so that one sample can be too large."""

    def __init__(self):
        self.first = te.nn.Linear(64, 64)
        self.second = te.nn.Linear(64, 64)
        self.last = te.nn.Linear(64, 4)

    def forward(self, x, size):
        wide = self.second(self.first(x))
        return self.last(wide.tanh() * wide)


TALL = DRAW.standard_normal((8, 64)).astype(np.float32)


def tall(policies):
    return Training(policies, Tall)


def losses_of(training, x, y):
    """What the first step measures of each value."""
    found = []
    precision = training.step.precision
    precision.done = lambda names, measured: found.append(dict(zip(names, measured, strict=True)))
    training.step(x, y, 1.0, 1.0)
    return found[0]


def test_a_value_is_measured_in_each_part_and_the_worst_one_decides(each_runtime):
    x = TALL * np.float32([1e-3] * 6 + [1e2] * 2)[:, None]
    whole = losses_of(tall([Microbatch(4), AdaptivePrecision()]), x, Y)
    for part in range(4):
        rows = slice(2 * part, 2 * part + 2)
        own = losses_of(tall([AdaptivePrecision()]), x[rows], Y[rows])
        assert whole.keys() == own.keys() != set()
        for name, losses in own.items():
            np.testing.assert_array_equal(whole[name].reshape(4, -1)[part], losses)
    training = tall([Microbatch(4), AdaptivePrecision()])
    training.step(x, Y, 1.0, 1.0)
    rules, precision = AdaptivePrecision(), training.step.precision
    for name, losses in whole.items():
        level = rules.level([float(n) for n in losses.reshape(4, -1).max(0)], 1)[0]
        assert precision.formats[name] == ("float32", "float16", "int8")[level]
    assert len(training.step.plan(x, Y, 1.0, 1.0).graph.outputs) == 1


def test_what_does_not_fit_in_the_last_part_is_run_again_as_a_whole(each_runtime):
    """Also where the moments could have taken up the gradients of the parts before."""
    x = TALL.copy()
    x[7] *= np.float32(1e6)
    found, unfit = [], set()
    for _ in range(2):
        training = tall([Microbatch(4), AdaptivePrecision(bound=1e-6)])
        plan, precision = training.step.plan(x, Y, 1.0, 1.0), training.step.precision
        for name in unfit:  # as if they had been found too large before
            precision.cell.array[1 + precision.names.index(name)] = 0
        found.append((training.step(x, Y, 1.0, 1.0).item(), training.state()))
        unfit = unfit or {d.value for d in precision.decisions if d.why == "did not fit"}
    assert unfit and not any(d.why == "did not fit" for d in precision.decisions)
    assert found[0] == found[1]
    assert any("could not be run again" in r for r in plan.graph.remarks)


def test_a_resumed_run_in_micro_batches_takes_the_same_decisions(tmp_path):
    policies = [Default(), Microbatch(4), AdaptivePrecision(every=2)]
    whole, begun, resumed = (tall(policies) for _ in range(3))
    losses = [whole.step(TALL, Y, 1.0, 1.0).item() for _ in range(6)]
    [begun.step(TALL, Y, 1.0, 1.0) for _ in range(3)]
    te.save(tmp_path / "run.safetensors", begun.step)
    resumed.step.plan(TALL, Y, 1.0, 1.0)
    te.load(tmp_path / "run.safetensors", resumed.step)
    assert [resumed.step(TALL, Y, 1.0, 1.0).item() for _ in range(3)] == losses[3:]
    assert resumed.state() == whole.state()
