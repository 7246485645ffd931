"""Values stored in fewer bits: the bytes are gone, the error is the format's, overflow is told."""

import numpy as np
import pytest

import tinygrad_edge as te
from tinygrad_edge.errors import GraphError, NonFiniteError
from tinygrad_edge.policy import Budget, Checkpoint, Default, Microbatch, Recompute, Store, formats

DRAW = np.random.default_rng(0)
X = DRAW.standard_normal((16, 3, 12, 12)).astype(np.float32)
Y = np.arange(16, dtype=np.int32) % 4


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
    halves = {n.removesuffix(".float16_encode") for n, t in saved.items() if t == "float16"}
    assert halves == {n.rsplit(".", 1)[0] for n in stored}


def test_what_is_made_again_is_made_from_what_is_stored():
    plan = Training([Default(), Store("float16")]).gradients.plan(X, Y)
    assert activations(plan) == {f"{i}.float16_encode": "float16" for i in (4, 6)}
    again = Training([Store("float16"), Recompute(ops=("tanh",)), Checkpoint(at="2")])
    assert np.isfinite(again.run()[0])


@pytest.mark.parametrize("policies", [[], [Recompute(ops=("batch_norm_apply",))]], ids=repr)
def test_batch_norm_reads_halves_to_the_same_bits(policies, monkeypatch):
    def decoded(plan):
        calls = (c.node for c in plan.calls if c.node.part == "backward")
        return {n.outputs[0].shape for n in calls if n.op.name == "cast"}

    half = [*policies, Store("float16", where="0")]
    image, direct = (16, 8, 10, 10), Training(half)
    assert image not in decoded(direct.gradients.plan(X, Y))
    monkeypatch.setattr(formats._Float16, "halves", False)
    by_way = Training(half)
    assert image in decoded(by_way.gradients.plan(X, Y))
    (loss, found), (same, expected) = direct.run(), by_way.run()
    assert loss == same and all(map(np.array_equal, found, expected))


def test_a_value_too_large_fails_the_step_before_it_changes_anything():
    training = Training([Store("float16")])
    before = {k: np.asarray(v).tobytes() for k, v in training.model.state_dict().items()}
    with pytest.raises(NonFiniteError, match=r"0\.conv2d, stored as float16, is -?inf at position"):
        training.run(X * 1e6)
    assert before == {k: np.asarray(v).tobytes() for k, v in training.model.state_dict().items()}
    training.run()


#: Saved values as they cross, bytes each element, and what is left of 2**-8 and 1/127: a step of
#: int8 is 1/127 of the largest of 256, and off by less than one.
OTHERS = {
    "bfloat16": ("uint8", 2.0, 2.0**-8),
    "int8": ("int8", 1 + 4 / 256, 4 / 127),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_formats_round_gradients_alone(name):
    dtype, nbytes, error = OTHERS[name]
    plan = Training([Store(name)]).gradients.plan(X, Y)
    encoded = [s for s in plan.saved() if s.name.endswith(f"{name}_encode.0") or s.dtype == dtype]
    floats = activations(Training([]).gradients.plan(X, Y))
    assert len([s for s in encoded if s.dtype == dtype and s.nbytes > 500]) == len(floats)
    (loss, grads), (same, near) = (Training(p).run() for p in ([], [Store(name)]))
    assert same == loss
    for g, h in zip(grads, near, strict=True):
        assert np.abs(g - h).max() <= 4 * error * np.abs(g).max()
    assert any((g != h).any() for g, h in zip(grads, near, strict=True))


@pytest.mark.parametrize("name, bad", [("bfloat16", 3.4e38), ("int8", np.inf)])
def test_what_cannot_be_stored_fails_the_step_before_it_changes_anything(name, bad):
    layer = te.nn.BatchNorm2d(3)

    @te.compile(policies=[Store(name)])
    def step(x):
        y = layer(X) - layer(X) + x
        (y.tanh() * y).tanh().sum().backward()
        return layer.weight.grad

    step(X)
    before = {k: np.asarray(v).tobytes() for k, v in layer.state_dict().items()}
    with pytest.raises(NonFiniteError, match=rf"stored as {name}, is inf at position 0"):
        step(np.full_like(X, bad))
    assert before == {k: np.asarray(v).tobytes() for k, v in layer.state_dict().items()}


def drawn(policies, steps, snapshot=None):
    """Losses of a few steps with dropout, and the step."""
    te.manual_seed(3)
    model = te.nn.Sequential(te.nn.Linear(9, 600), te.nn.Tanh(), te.nn.Dropout(0.5))
    head = te.nn.Linear(600, 4)
    optimizer = te.optim.SGD([*model.parameters(), *head.parameters()], 0.1, momentum=0.9)

    @te.compile(policies=policies)
    def step(x, y):
        hidden = model(x)
        loss = te.functional.cross_entropy(head(hidden), y)
        optimizer.minimize(loss)
        return loss, hidden

    x = X.reshape(-1, 9)[:64]
    y = np.arange(64, dtype=np.int32) % 4
    step.plan(x, y)
    if snapshot:
        te.load(snapshot, step)
    return [[t.numpy().tobytes() for t in step(x, y)] for _ in range(steps)], step


def test_rounding_does_not_disturb_dropout():
    """The first step's loss and the mask of the second are those of float32."""
    (plain, _), (rounded, step) = drawn([], 2), drawn([Store("int8")], 2)
    assert plain[0] == rounded[0]
    masks = [np.frombuffer(hidden, np.float32) == 0 for _, hidden in (plain[1], rounded[1])]
    assert (masks[0] == masks[1]).all()
    assert "random/rounding" in {c.name for c in step.cells()}


def test_a_resumed_run_rounds_as_if_it_had_not_stopped(tmp_path):
    whole, _ = drawn([Default(), Store("int8")], 4)
    _, step = drawn([Default(), Store("int8")], 2)
    te.save(tmp_path / "run.safetensors", step)
    rest, _ = drawn([Default(), Store("int8")], 2, tmp_path / "run.safetensors")
    assert rest == whole[2:]
    assert whole[1] != drawn([Default()], 2)[0][1]


class Rectified:
    """A rectifier before a pool, and one before a product, which needs its numbers."""

    def __init__(self, policies, rectifier, size):
        te.manual_seed(0)
        nn = te.nn
        self.model = nn.Sequential(
            *(nn.Conv2d(3, 8, 5), rectifier(), nn.MaxPool2d(size)),
            *(nn.Flatten(), nn.Linear(8 * (8 // size) ** 2, 9), rectifier(), nn.Linear(9, 4)),
        )
        self.optimizer = te.optim.SGD(self.model.parameters(), 0.1, momentum=0.9)
        self.step = te.compile(self._step, policies=policies)

    def _step(self, x, y):
        loss = te.functional.cross_entropy(self.model(x * 9.0), y)
        self.optimizer.minimize(loss)
        return loss

    def run(self):
        losses = [self.step(X, Y).item() for _ in range(3)]
        state = {k: np.asarray(v).tobytes() for k, v in self.model.state_dict().items()}
        return losses, state


@pytest.mark.parametrize("rectifier", [te.nn.ReLU, te.nn.ReLU6])
@pytest.mark.parametrize("size, bits", [(2, 2), (3, 4)])
@pytest.mark.parametrize("policies", [[Store("bitmask")], [Default()]], ids=repr)
def test_bits_stand_for_what_only_signs_and_positions_are_read_of(rectifier, size, bits, policies):
    trained = Rectified(policies, rectifier, size)
    saved = {s.name: s.nbytes for s in trained.step.plan(X, Y).saved()}
    assert saved["1.mask_encode"] == 16 * 8 * 64 // 8
    if policies != [Default()]:
        assert saved["2.pack"] == 16 * 8 * (8 // size) ** 2 * bits // 8
    # What is multiplied by weights' gradients stays, and is never a mask.
    assert not any(name.startswith("5.mask") for name in saved)
    assert trained.run() == Rectified([], rectifier, size).run()


@pytest.mark.parametrize("ops", [("max_pool2d",), ("max_pool2d", "relu")])
def test_what_is_made_again_is_not_made_from_bits(ops):
    policies = [Store("bitmask"), Recompute(ops=ops)]
    for chosen in (policies, [Default(), *policies]):
        assert Rectified(chosen, te.nn.ReLU, 2).run() == Rectified([], te.nn.ReLU, 2).run()


def test_lossy_formats_leave_what_crosses_as_bits():
    bits, half = Store("bitmask"), Store("float16")
    for policies in ([bits, half], [half, bits]):
        saved = {s.name for s in Rectified(policies, te.nn.ReLU, 2).step.plan(X, Y).saved()}
        assert {"1.mask_encode", "2.pack"} <= saved
    with pytest.warns(UserWarning, match="matches no saved value"):
        Training([Store("bitmask")]).run()


def test_contradictions_are_refused():
    with pytest.raises(GraphError, match="no format 'float8'; there are float16, bfloat16, int8"):
        Store("float8")
    for other in (Store("float16"), Checkpoint(), Recompute(where="*")):
        with pytest.raises(GraphError, match=f"leave out {type(other).__name__}"):
            Training([other, Budget("1MB")])
    with pytest.warns(UserWarning, match="matches no saved value"):
        Training([Store("float16", where="head*")]).run()


@pytest.mark.parametrize("parts", [2, 8])
def test_a_sample_is_rounded_alike_in_whichever_part_it_is(parts):
    """Only one sample counts in each loss, so that sums over parts have its bits."""
    only_last = te.Tensor(np.float32([0, 0, 0, 1]))

    def gradients(policies):
        te.manual_seed(0)
        layers = (te.nn.Linear(30, 300), te.nn.Tanh(), te.nn.Linear(300, 64), te.nn.Tanh())
        model = te.nn.Sequential(*layers, te.nn.Dropout(0.1), te.nn.Linear(64, 4))

        @te.compile(policies=policies)
        def step(x, y):
            te.functional.cross_entropy(model(x), y, only_last).backward()
            return [p.grad for p in model.parameters()]

        x = X.reshape(16, -1)[:, :30]
        steps = [step(x, 3 * (np.arange(16) == i).astype(np.int32)) for i in (0, 3, 7, 8, 15)]
        return step.plan(x, Y), [[g.numpy() for g in grads] for grads in steps]

    whole, expected = gradients([Store("int8")])
    plan, found = gradients([Store("int8"), Microbatch(parts)])
    draws = [[c for c in p.calls if c.node.op.name == "int8_encode"] for p in (whole, plan)]
    assert len(draws[0]) == len(draws[1]) > 1
    assert not any(np.array_equal(a[0], b[0]) for a, b in zip(found, gradients([])[1], strict=True))
    for a, b in zip(found, expected, strict=True):
        assert all(map(np.array_equal, a, b))


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
