"""The command line with one more model, so small that a run takes no time, and with accidents.

``python tiny.py [SIGNAL,... POINT NUMBER] train ...`` sends itself signals just before it passes a
point for the NUMBER-th time. Before a SIGKILL there is a snapshot after each step. A signal at the
point "kernels" comes while kernels run, which then stop.
"""

import functools
import os
import signal
import sys

from tinygrad_edge import functional, models, nn
from tinygrad_edge.cli import loop, main, recipes
from tinygrad_edge.cli.run import Run
from tinygrad_edge.cli.training import Training
from tinygrad_edge.policy import AdaptivePrecision
from tinygrad_edge.runtime._ffi import Program

POINTS = {
    "step": (Training, "run_step"),
    "save": (Run, "save"),
    "replace": (os, "replace"),  # a snapshot is written, and has not got its name yet
    "append": (Run, "append"),
    "kernels": (Program, "run"),
}


class Tiny(nn.Module):
    """Batch norm and dropout: statistics and random state must survive too."""

    def __init__(self, num_classes=10, in_channels=1):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, 4, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.drop = nn.Dropout(0.2)
        self.classify = nn.Linear(4 * 4 * 4, num_classes)

    def forward(self, x):
        return self.classify(self.drop(functional.relu(self.norm(self.conv(x)))).flatten(1))


def accident(signals, owner, name, nth):
    passed = 0
    function = getattr(owner, name)

    @functools.wraps(function)
    def wrapped(*args, **options):
        nonlocal passed
        passed += 1
        if passed == nth:
            for each in signals:
                os.kill(os.getpid(), each)
            if name == "run":
                return -1, 0  # as csrc/run.c does between two calls, once the signal has come
        return function(*args, **options)

    setattr(owner, name, wrapped)


if __name__ == "__main__":
    models.MODELS["tiny"] = Tiny
    # So near to what rounding to float16 costs, and so often, that a short run has decisions.
    recipes.PRECISIONS["adaptive"] = AdaptivePrecision(bound=2.08e-4, every=4)
    words = sys.argv[1:]
    if words[0].startswith("SIG"):
        signals = [signal.Signals[name] for name in words[0].split(",")]
        if signal.SIGKILL in signals:
            loop.SAVE_SECONDS = 0
        accident(signals, *POINTS[words[1]], int(words[2]))
        words = words[3:]
    sys.exit(main(words))
