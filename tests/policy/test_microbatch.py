"""One part of the batch after another: the step of the whole batch but for rounding."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from nets import draw_data, draw_net, exact_and_allowed
from plan.checker import check
from test_random_nets import LOSSLESS, Training

import tinygrad_edge as te
import tinygrad_edge.functional as F
from tinygrad_edge import runtime
from tinygrad_edge.errors import DataError, GraphError, NonFiniteError
from tinygrad_edge.policy import Checkpoint, Default, Microbatch, Store
from tinygrad_edge.runtime import _ffi, native

needs_kernels = pytest.mark.skipif(not _ffi.available(), reason="needs the native runtime")
RNG = np.random.default_rng(0)
X = RNG.standard_normal((8, 3, 12, 12)).astype(np.float32)
Y = np.arange(8, dtype=np.int32) % 4
OPTIMIZERS = {
    "sgd": lambda p: te.optim.SGD(p, 0.1),
    "momentum": lambda p: te.optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.01),
    "nesterov": lambda p: te.optim.SGD(p, 0.1, momentum=0.9, nesterov=True),
    "clipped": lambda p: te.optim.SGD(p, 0.1, momentum=0.9, max_norm=0.1),
    "adam": lambda p: te.optim.Adam(p, 0.01),
    "rmsprop": lambda p: te.optim.RMSprop(p, 0.01),
}


# ---- without batch-norm: the step of the whole batch ----


@st.composite
def cut_nets(draw):
    """A network whose samples do not mix, and in how many parts its batch is cut."""
    net = draw_net(lambda options: draw(st.sampled_from(options)))
    assume("BatchNorm2d" not in repr(net))
    batch = net.images[0]
    return net, draw(st.sampled_from([n for n in range(2, batch + 1) if batch % n == 0]))


@needs_kernels
@settings(max_examples=40)
@given(cut_nets())
def test_gradients_are_those_of_the_whole_batch(drawn):
    net, parts = drawn
    exact, allowed = exact_and_allowed(net, draw_data(net))
    training = Training(net)
    names = [name for name, _ in training.model.named_parameters()]
    step = te.compile(training.gradients, policies=[Default(), Microbatch(parts)])
    te.manual_seed(net.seed)  # the same dropout
    with runtime.use("native"):
        loss, grads = step(training.data.images)
    for name, found in zip(["loss", *names], [loss, *grads], strict=True):
        error = np.abs(found.numpy() - exact[name]).max(initial=0)
        assert error <= allowed[name], f"{name} is off by {error:.3g}, {allowed[name]:.3g} allowed"
    check(step.plan(training.data.images))


@pytest.mark.filterwarnings("ignore:.*matches no")
@settings(max_examples=40)
@given(cut_nets(), st.lists(st.sampled_from(LOSSLESS), max_size=3, unique=True))
def test_lossless_policies_inside_change_no_bit(drawn, policies):
    net, parts = drawn
    found = []
    for chosen in ([], policies):
        training = Training(net)
        step = te.compile(training.step, policies=[Microbatch(parts), *chosen])
        losses = [step(training.data.images).item() for _ in range(3)]
        found.append((losses, training.state()))
    assert found[0] == found[1]
    plan = step.plan(training.data.images)
    check(plan)
    assert sum(plan.by_kind().values()) == plan.peak_bytes


class Small(te.nn.Module):
    """Enough for a step: a convolution, maybe batch-norm, a head."""

    def __init__(self, norm=False):
        super().__init__()
        self.conv = te.nn.Conv2d(3, 8, 3)
        self.norm = te.nn.BatchNorm2d(8) if norm else te.nn.Identity()
        self.head = te.nn.Linear(8, 4)

    def forward(self, x):
        return self.head(self.norm(self.conv(x)).relu().mean((2, 3)))


class Run:
    """A small net and its compiled step."""

    def __init__(self, policies, optimizer="momentum", norm=False):
        te.manual_seed(1)
        self.model = Small(norm)
        self.optimizer = OPTIMIZERS[optimizer](self.model.parameters())

        @te.compile(policies=policies)
        def step(x, y):
            scores = self.model(x)
            loss = F.cross_entropy(scores, y)
            self.optimizer.minimize(loss)
            return loss, scores, (scores.argmax(1) == y).mean()

        self.step = step

    def arrays(self):
        cells = {**self.model.state_dict(), **self.optimizer.state_dict()}
        return {name: np.array(cell) for name, cell in cells.items()}

    def state(self):
        return {name: array.tobytes() for name, array in self.arrays().items()}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_takes_the_step_of_the_whole_batch(optimizer, each_runtime):
    whole, cut = Run([], optimizer), Run([Microbatch(4)], optimizer)
    for _ in range(3):
        expected, found = whole.step(X, Y), cut.step(X, Y)
    for a, b in zip(expected, found, strict=True):
        np.testing.assert_allclose(b.numpy(), a.numpy(), atol=2e-5)
    for name, array in whole.arrays().items():
        np.testing.assert_allclose(cut.arrays()[name], array, atol=2e-5, err_msg=name)


def test_momentum_needs_no_gradients_and_the_others_say_what_they_keep():
    parameters = sum(p.size * 4 for p in Small().parameters())
    for optimizer in OPTIMIZERS:
        plan = Run([Default(), Microbatch(8)], optimizer).step.plan(X, Y)
        entries = {e.value for t in range(len(plan.storage.moments)) for e in plan.live(t)}
        sums = {v for v in entries if v is not None and v.node.op.name == "full" and v.shape}
        if optimizer == "momentum":
            assert not sums
        else:
            assert sum(v.nbytes for v in sums) == parameters
            assert any("sums of gradients" in r for r in plan.graph.remarks)


# ---- batch-norm ----


def test_batch_norm_is_that_of_each_part_as_in_a_loop_that_adds_up_gradients():
    """To the bit: the hand-written loop adds in the same order."""
    parts, rate = 4, 0.1
    cut = Run([Microbatch(parts)], "sgd", norm=True)
    plan = cut.step.plan(X, Y)
    assert any("batch-norm are those of 2 of the 8 samples" in r for r in plan.graph.remarks)
    te.manual_seed(1)
    model = Small(norm=True)
    sums = [np.zeros(p.shape, np.float32) for p in model.parameters()]
    for x, y in zip(np.split(X, parts), np.split(Y, parts), strict=True):
        loss = F.cross_entropy(model(te.Tensor(x)), y) * (1 / parts)
        loss.backward()
        for total, p in zip(sums, model.parameters(), strict=True):
            total += p.grad.numpy()
            p.clear_grad()
    cut.step(X, Y)
    for total, p, q in zip(sums, model.parameters(), cut.model.parameters(), strict=True):
        np.testing.assert_allclose(q.numpy(), p.numpy() - np.float32(rate) * total, atol=1e-7)
    for name in ("norm.running_mean", "norm.running_var"):
        found, expected = cut.model.state_dict()[name], model.state_dict()[name]
        assert np.array(found).tobytes() == np.array(expected).tobytes()


# ---- memory ----


@needs_kernels
@pytest.mark.parametrize("norm", [False, True])
def test_the_plan_is_exact_and_smaller_with_more_parts(norm):
    peaks = []
    for n in (1, 2, 4, 8):
        run = Run([Default(), Microbatch(n)], norm=norm)
        plan = run.step.plan(X, Y)
        check(plan)
        native.paint_arena(plan.arena_bytes + 4096)
        run.step(X, Y)
        top = max(b.offset + b.nbytes for b in plan.storage.buffers if b.lives)
        assert top - 64 <= native.arena_high_water() <= plan.arena_bytes
        peaks.append(plan.peak_bytes)
    assert peaks == sorted(peaks, reverse=True)
    assert peaks[-1] < peaks[0]


# ---- what fails ----


@pytest.mark.parametrize("optimizer", ["momentum", "adam"])
def test_a_wrong_label_in_the_last_part_changes_nothing(optimizer, each_runtime):
    run = Run([Default(), Microbatch(4)], optimizer, norm=True)
    run.step(X, Y)
    before = run.state()
    wrong = Y.copy()
    wrong[7] = 9
    with pytest.raises(DataError, match=r"label 9 at position 7 of the batch is outside 0\.\.3"):
        run.step(X, wrong)
    assert run.state() == before


def broken(sample):
    x = X.copy()
    x[sample, 0, 5, 5] = np.nan
    return x


@pytest.mark.parametrize("optimizer, sample", [("momentum", 0), ("adam", 0), ("adam", 7)])
def test_a_loss_that_is_not_finite_changes_nothing(optimizer, sample, each_runtime):
    run = Run([Default(), Microbatch(4)], optimizer, norm=True)
    run.step(X, Y)
    before = run.state()
    with pytest.raises(NonFiniteError, match="the loss is nan"):
        run.step(broken(sample), Y)
    assert run.state() == before


@needs_kernels
def test_moments_that_took_up_parts_before_the_failing_one_are_said_to_have_changed():
    run = Run([Microbatch(4)])
    run.step(X, Y)
    before = run.state()
    with pytest.raises(NonFiniteError, match="had updated before this check stays updated"):
        run.step(broken(7), Y)
    changed = {name for name, bits in run.state().items() if bits != before[name]}
    assert changed == {name for name in before if name.endswith(".momentum")}
    assert any("fails the step when they have changed" in r for r in _remarks(run))


def _remarks(run):
    return run.step.plan(X, Y).graph.remarks


def test_a_stored_value_that_does_not_fit_fails_in_its_part():
    run = Run([Microbatch(4), Store("float16")], "adam")
    run.step(X, Y)
    before = run.state()
    large = X.copy()
    large[6] *= 1e6
    with pytest.raises(NonFiniteError, match="stored as float16"):
        run.step(large, Y)
    assert run.state() == before


@pytest.mark.parametrize(
    "n, message",
    [
        (3, "a batch of 8 does not have 3 equal parts"),
        (16, "a batch of 8 does not have 16 equal parts"),
    ],
)
def test_a_batch_that_cannot_be_cut_is_refused(n, message):
    with pytest.raises(GraphError, match=message):
        Run([Microbatch(n)]).step.plan(X, Y)


@pytest.mark.parametrize("n", [0, -2, 1.5, True, "4"])
def test_what_is_no_number_of_parts_is_refused(n):
    with pytest.raises(GraphError, match="a number of parts"):
        Microbatch(n)


@pytest.mark.parametrize(
    "mix, message",
    [
        (lambda x: x - x.mean(0), r"multiply \(forward part; .* mixes the samples"),
        (lambda x: F.softmax(x, axis=0), r"softmax \(forward part; .* mixes the samples"),
        (lambda x: x / (x * x).sum().sqrt(), "mixes the samples"),
    ],
    ids=["mean", "softmax", "norm"],
)
def test_samples_that_mix_are_refused(mix, message):
    layer = te.nn.Linear(12, 2)
    optimizer = te.optim.SGD(layer.parameters(), 0.1)

    @te.compile(policies=[Microbatch(2)])
    def step(x):
        loss = (mix(layer(x)) ** 2).mean()
        optimizer.minimize(loss)
        return loss

    with pytest.raises(GraphError, match=message):
        step.plan(X[:, 0, 0])


def test_what_the_labels_alone_give_may_take_the_whole_batch():
    """The sum of class weights divides the loss: it is made before the first part."""
    weights = np.array([1, 2, 3, 4], np.float32)
    found = []
    for policies in ([], [Microbatch(4)]):
        te.manual_seed(1)
        model = Small()

        @te.compile(policies=policies)
        def gradients(x, y, model=model):
            loss = F.cross_entropy(model(x), y, weights)
            loss.backward()
            return loss, model.conv.weight.grad

        found.append([t.numpy() for t in gradients(X, Y)])
    for whole, cut in zip(*found, strict=True):
        np.testing.assert_allclose(cut, whole, atol=1e-6)


def test_a_segmented_part_is_smaller_still():
    plans = [Run([*p, Microbatch(2)]).step.plan(X, Y) for p in ([], [Checkpoint(at="head")])]
    assert plans[1].arena_bytes <= plans[0].arena_bytes
