"""Values stored in fewer bits: the bytes are gone, the error is the format's, overflow is told."""

import numpy as np
import pytest

import tinygrad_edge as te
from tinygrad_edge.errors import GraphError, NonFiniteError
from tinygrad_edge.policy import Budget, Checkpoint, Default, Recompute, Store

DRAW = np.random.default_rng(0)
X = DRAW.standard_normal((4, 3, 12, 12)).astype(np.float32)
Y = np.arange(4, dtype=np.int32)


class Training:
    def __init__(self, policies):
        te.manual_seed(0)
        self.model = te.nn.Sequential(
            te.nn.Conv2d(3, 8, 3, bias=False),
            te.nn.BatchNorm2d(8),
            te.nn.ReLU(),
            te.nn.Conv2d(8, 8, 3),
            te.nn.Tanh(),
            te.nn.Flatten(),
            te.nn.Dropout(0.1),
            te.nn.Linear(8 * 8 * 8, 4),
        )
        self.gradients = te.compile(self._gradients, policies=policies)

    def _gradients(self, x, y):
        loss = te.functional.cross_entropy(self.model(x), y)
        loss.backward()
        return loss, [p.grad for p in self.model.parameters()]

    def run(self, x=X):
        loss, grads = self.gradients(x, Y)
        return loss.item(), [g.numpy() for g in grads]


def activations(plan):
    return {s.name: s.dtype for s in plan.saved() if s.nbytes > 1000 and s.name != "input"}


def test_saved_values_are_halves_and_nothing_else_changes():
    textbook, half = Training([]), Training([Store("float16")])
    floats, halves = (activations(t.gradients.plan(X, Y)) for t in (textbook, half))
    assert set(floats.values()) == {"float32"} and set(halves.values()) == {"float16"}
    assert len(floats) == len(halves)
    (loss, grads), (same, near) = (Training(p).run() for p in ([], [Store("float16")]))
    assert same == loss  # no value of the forward part was rounded
    for g, h in zip(grads, near, strict=True):
        # Each saved value is off by at most 2**-11 of itself; no more than a few are multiplied.
        assert np.abs(g - h).max() <= 4 * 2.0**-11 * np.abs(g).max()
    assert any((g != h).any() for g, h in zip(grads, near, strict=True))


@pytest.mark.parametrize(
    "policy, stored",
    [
        (Store("float16", where="0"), {"0.conv2d"}),
        (Store("float16", keep="0"), {"2.batch_norm_apply", "4.chain", "6.dropout"}),
        (Store("float16", keep=("0", "4", "6")), {"2.batch_norm_apply"}),
    ],
    ids=repr,
)
def test_where_and_keep_name_modules(policy, stored):
    saved = activations(Training([policy]).gradients.plan(X, Y))
    assert {n.removesuffix(".cast") for n, t in saved.items() if t == "float16"} == {
        n.rsplit(".", 1)[0] for n in stored
    }


def test_what_is_made_again_is_made_from_what_is_stored():
    plan = Training([Default(), Store("float16")]).gradients.plan(X, Y)
    assert activations(plan) == {f"{i}.cast": "float16" for i in (0, 4, 6)}
    again = Training([Store("float16"), Recompute(ops=("tanh",)), Checkpoint(at="2")])
    assert np.isfinite(again.run()[0])


def test_a_value_too_large_fails_the_step_before_it_changes_anything():
    training = Training([Store("float16")])
    before = {k: np.asarray(v).tobytes() for k, v in training.model.state_dict().items()}
    with pytest.raises(NonFiniteError, match=r"0\.conv2d, stored as float16, is -?inf at position"):
        training.run(X * 1e6)
    assert before == {k: np.asarray(v).tobytes() for k, v in training.model.state_dict().items()}
    training.run()


def test_contradictions_are_refused():
    with pytest.raises(GraphError, match="no format 'float8'; there are float16"):
        Store("float8")
    for other in (Store("float16"), Checkpoint(), Recompute(where="*")):
        with pytest.raises(GraphError, match=f"leave out {type(other).__name__}"):
            Training([other, Budget("1MB")])
    with pytest.warns(UserWarning, match="matches no saved value"):
        Training([Store("float16", where="head*")]).run()


def test_statistics_and_sums_stay_as_they_are():
    """They would save nothing, and a sum soon outgrows 65,504."""
    layer = te.nn.BatchNorm2d(3)

    @te.compile(policies=[Store("float16")])
    def step(x):
        total = (layer(x) ** 2).sum() * 100.0
        (total * total).backward()
        return [p.grad for p in layer.parameters()]

    x = np.repeat(np.repeat(X, 3, axis=2), 3, axis=3)
    assert {s.nbytes for s in step.plan(x).saved() if s.dtype == "float16"} == {x.nbytes // 2}
    assert all(np.isfinite(g.numpy()).all() for g in step(x))
