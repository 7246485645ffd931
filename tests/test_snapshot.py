import numpy as np
import pytest

import tinygrad_edge as te
from tinygrad_edge import safetensors
from tinygrad_edge.errors import FileError, GraphError
from tinygrad_edge.generator import default_generator


class Net(te.nn.Module):
    """Two layers and dropout: parameters, moments and a generator."""

    def __init__(self, hidden=5):
        super().__init__()
        self.first = te.nn.Linear(4, hidden)
        self.last = te.nn.Linear(hidden, 3)

    def forward(self, x):
        return self.last(te.functional.dropout(self.first(x).relu(), 0.5))


class Run:
    def __init__(self, seed=1, hidden=5, **options):
        te.manual_seed(seed)
        self.model = Net(hidden)
        self.optimizer = te.optim.SGD(
            self.model.parameters(), lr=0.1, **{"momentum": 0.9, **options}
        )
        self.schedule = te.optim.CosineAnnealingLR(self.optimizer, T_max=6, warmup=2)
        self.parts = [self.model, self.optimizer, self.schedule, default_generator()]
        self.step = te.compile(self._step)

    def _step(self, x, y):
        loss = te.functional.cross_entropy(self.model(x), y)
        self.optimizer.minimize(loss)
        return loss

    def steps(self, numbers):
        for number in numbers:
            rng = np.random.default_rng(number)
            x = rng.standard_normal((6, 4)).astype(np.float32)
            yield self.step(x, rng.integers(0, 3, 6)).numpy().tobytes()
            self.schedule.step()

    def bits(self):
        return {n: p.numpy().tobytes() for n, p in self.model.state_dict().items()}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.safetensors"


@pytest.mark.parametrize("recorded_first", [False, True])
def test_restored_parts_go_on_to_the_same_bits(path, recorded_first):
    straight = Run()
    losses = list(straight.steps(range(6)))

    stopped = Run()
    assert list(stopped.steps(range(3))) == losses[:3]
    te.save(path, stopped.parts)

    resumed = Run(seed=2)
    if recorded_first:
        list(resumed.steps([99]))
    te.load(path, resumed.parts)
    assert list(resumed.steps(range(3, 6))) == losses[3:]
    assert resumed.bits() == straight.bits()
    assert resumed.optimizer.lr == straight.optimizer.lr


def test_restored_step_goes_on_to_the_same_bits(path):
    straight = Run()
    losses = list(straight.steps(range(6)))
    stopped = Run()
    list(stopped.steps(range(3)))
    te.save(path, stopped.step)

    resumed = Run(seed=2)
    resumed.step.plan(np.zeros((6, 4), np.float32), np.zeros(6, np.int32))
    te.load(path, resumed.step)
    for _ in range(3):
        resumed.schedule.step()
    assert list(resumed.steps(range(3, 6))) == losses[3:]


def test_step_holds_what_its_parts_hold(path, tmp_path):
    run = Run()
    list(run.steps(range(2)))
    te.save(path, run.step)
    te.save(tmp_path / "parts", run.parts)
    step, parts = te.load(path).tensors, te.load(tmp_path / "parts").tensors
    numbers = {"optimizer/lr", "optimizer/weight_decay", "optimizer/momentum"}
    assert set(parts) - set(step) == numbers | {"schedule/steps", "schedule/base"}
    assert all(np.array_equal(step[n], parts[n]) for n in step)


def test_names_are_the_models_own_and_the_rest_has_prefixes(path):
    run = Run()
    list(run.steps(range(1)))
    te.save(path, run.parts)
    tensors, _ = safetensors.load(path)
    weights = ["first.weight", "first.bias", "last.weight", "last.bias"]
    assert [n for n in tensors if "/" not in n] == weights
    assert {n for n in tensors if "/" in n} == {
        *(f"optimizer/{name}.momentum" for name in weights),
        *(f"optimizer/{name}" for name in ("lr", "weight_decay", "momentum")),
        "schedule/base",
        "schedule/steps",
        "random/generator",
    }


def test_metadata_comes_back(path):
    metadata = {"epoch": 3, "loss": 0.1 + 0.2, "names": ["a", "ü"], "text": "3"}
    te.save(path, Net(), metadata)
    assert te.load(path).metadata == metadata


def test_metadata_of_other_writers_is_text(path):
    safetensors.save(path, {}, {"format": "pt"})
    assert te.load(path).metadata == {"format": "pt"}


def test_rates_come_back(path):
    run = Run()
    run.optimizer.lr = 0.1 + 0.2
    te.save(path, [run.model, run.optimizer])
    other = Run()
    te.load(path, [other.model, other.optimizer])
    assert other.optimizer.lr == 0.1 + 0.2


def test_pending_assignments_are_saved(path):
    model = Net()
    loss = model(np.ones((1, 4), np.float32)).sum()
    loss.backward()
    before = model.last.bias.numpy()
    optimizer = te.optim.SGD(model.parameters(), lr=1.0)
    optimizer.step()
    te.save(path, model)
    assert np.array_equal(te.load(path).tensors["last.bias"], before - 1)


@pytest.mark.parametrize(
    "other, problem",
    [
        (lambda: Run(hidden=6).parts, r"first.weight is \[6, 4\], got \[5, 4\]"),
        (lambda: Run(momentum=0.0).parts, "unknown first.weight.momentum"),
        (lambda: te.nn.Linear(4, 5), "missing weight; missing bias; unknown first.weight"),
    ],
)
def test_what_does_not_fit_is_refused_and_changes_nothing(path, other, problem):
    run = Run()
    list(run.steps(range(1)))
    te.save(path, run.parts)
    objects = other()
    models = [objects] if isinstance(objects, te.nn.Module) else objects[:1]
    before = [p.numpy() for p in models[0].parameters()]
    with pytest.raises(FileError, match=f"run.safetensors does not fit: .*{problem}"):
        te.load(path, objects)
    assert all(
        np.array_equal(a, p.numpy()) for a, p in zip(before, models[0].parameters(), strict=True)
    )


def test_every_part_that_does_not_fit_is_listed(path):
    run = Run()
    te.save(path, run.parts)
    other = Run(hidden=6, momentum=0.0)
    with pytest.raises(FileError) as error:
        te.load(path, other.parts)
    for expected in ("first.weight is [6, 4], got [5, 4]", "last.weight is [3, 6], got [3, 5]"):
        assert expected in str(error.value)
    assert "unknown last.bias.momentum" in str(error.value)


def test_part_that_was_not_recorded_leaves_the_others_alone(path):
    run = Run()
    te.save(path, run.model)
    other = Run(seed=2)
    before = other.bits()
    with pytest.raises(GraphError, match="step.plan"):
        te.load(path, [other.model, other.step])
    assert other.bits() == before


def test_weight_that_a_step_does_not_have_is_refused(path):
    run = Run()
    list(run.steps(range(1)))
    te.save(path, run.step)
    tensors, _ = safetensors.load(path)
    safetensors.save(path, {**tensors, "extra.weight": np.zeros(3)})
    with pytest.raises(FileError, match="unknown extra.weight"):
        te.load(path, run.step)


def test_model_alone_is_restored_from_a_whole_run(path):
    run = Run()
    list(run.steps(range(1)))
    te.save(path, run.parts)
    model = Net()
    te.load(path, model)
    assert {n: p.numpy().tobytes() for n, p in model.state_dict().items()} == run.bits()


def test_step_that_was_not_recorded_is_refused(path):
    with pytest.raises(GraphError, match="step.plan"):
        te.save(path, Run().step)
    assert not path.exists()


def test_equal_names_are_refused(path):
    with pytest.raises(GraphError, match="'first.weight'"):
        te.save(path, [Net(), Net()])
    run = Run()
    with pytest.raises(GraphError, match="'schedule/steps'"):
        te.save(path, [run.schedule, te.optim.StepLR(run.optimizer, 2)])


def test_model_may_be_named_beside_its_step(path):
    run = Run()
    list(run.steps(range(1)))
    te.save(path, [run.step, run.model])


def test_failed_save_keeps_the_old_file(path):
    te.save(path, Net(), {"epoch": 1})
    with pytest.raises(GraphError):
        te.save(path, [Net(), Net()], {"epoch": 2})
    assert te.load(path).metadata == {"epoch": 1}
