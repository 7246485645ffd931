"""An interrupt takes effect between two kernel calls, or waits until the step is done."""

import signal

import numpy as np
import pytest

import tinygrad_edge as te
from tinygrad_edge import runtime

pytestmark = pytest.mark.skipif(
    runtime.current().name != "native" or not hasattr(signal, "raise_signal"),
    reason="the numpy runtime runs a step to its end",
)


class Interrupted:
    """The kernels, with an interrupt just after the first run has begun to be watched."""

    def __init__(self, library):
        self._library, self.runs = library, 0

    def __getattr__(self, name):
        return getattr(self._library, name)

    def tge_run(self, *args):
        self.runs += 1
        if self.runs == 1:
            signal.raise_signal(signal.SIGINT)
        return self._library.tge_run(*args)


@pytest.fixture
def step():
    """A step that trains, its weights, and the kernels that it will run."""
    te.manual_seed(0)
    model = te.nn.Linear(3, 2)
    optimizer = te.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    images, labels = np.ones((4, 3), np.float32), np.array([0, 1, 1, 0], np.int32)

    @te.compile
    def train(x, y):
        loss = te.functional.cross_entropy(model(x), y)
        optimizer.minimize(loss)
        return loss

    train.plan(images, labels)
    program = train._latest[2].executable._program
    program._lib = Interrupted(program._lib)
    return lambda: train(images, labels).item(), model, program._lib


@pytest.fixture
def handler():
    """A handler that notes that it was called, and returns."""
    noted = []
    before = signal.signal(signal.SIGINT, lambda *_: noted.append(True))
    yield noted
    signal.signal(signal.SIGINT, before)


def test_exception_of_the_handler_leaves_everything_as_it_was(step):
    run, model, _ = step
    before = model.weight.numpy().copy()
    with pytest.raises(KeyboardInterrupt):
        run()
    assert model.weight.numpy().tobytes() == before.tobytes()


def test_handler_that_returns_lets_the_step_begin_again(step, handler):
    run, model, kernels = step
    before = model.weight.numpy().copy()
    run()
    assert handler and kernels.runs == 3  # stopped, again, and the part that changes
    assert (model.weight.numpy() != before).any()


@pytest.mark.parametrize("asked", [True, False])
def test_run_is_stopped_where_somebody_asked_for_it(step, handler, asked):
    run, model, kernels = step
    before = model.weight.numpy().copy()
    with runtime.stopping(lambda: asked):
        if asked:
            with pytest.raises(runtime.Stopped):
                run()
        else:
            run()
    assert kernels.runs == (1 if asked else 3)
    assert (model.weight.numpy() == before).all() == asked
    run()  # outside, the next one runs through
    assert (model.weight.numpy() != before).any()
