"""From plain backpropagation to a tenth of its memory, one policy at a time.

A CNN of 32 small convolutions trains on 64 images of 32x32. Nothing runs here; each plan is exact
before it does. Running this prints

    policies so far                      peak bytes   of plain   operations   results
    plain backpropagation               269,825,136     1.000        1.000    -
    + Default()                         135,607,408     0.503        1.005    the same bits
    + Checkpoint(every=4)                81,071,216     0.300        1.331    the same bits
    + Store(format='float16')            51,711,088     0.192        1.332    gradients are rounded
    + Microbatch(2)                      26,549,616     0.098        1.332    statistics of halves

- Plain backpropagation keeps what each convolution and activation makes until the backward part
  comes back to it.
- `Default` keeps only what a convolution makes: normalising and rectifying it again is nearly free.
  Gradients die as soon as they are used.
- `Checkpoint` keeps what every second layer makes (of its two values that alone lead on, every
  fourth), and runs both layers once more.
- `Store` keeps the checkpoints in half the bits.
- `Microbatch` takes one half of the images after the other through forward and backward, before the
  one update: everything above is half as large.

``python examples/memory_step_by_step.py FOLDER`` also writes a picture of each step beside the one
before, and the first and the last in the window: ``step_by_step.html``.
"""

import sys
from pathlib import Path

import numpy as np

import tinygrad_edge as te
from tinygrad_edge import runtime
from tinygrad_edge.plan import Plan
from tinygrad_edge.policy import Checkpoint, Default, Microbatch, Policy, Store

LAYERS, CHANNELS = 32, 16
IMAGES, LABELS = np.zeros((64, 3, 32, 32), np.float32), np.zeros(64, np.int32)

STEPS: tuple[tuple[str, Policy | None, str], ...] = (
    ("plain backpropagation", None, "-"),
    ("+ Default()", Default(), "the same bits"),
    ("+ Checkpoint(every=4)", Checkpoint(every=4), "the same bits"),
    ("+ Store(format='float16')", Store("float16"), "gradients are rounded"),
    ("+ Microbatch(2)", Microbatch(2), "statistics of halves"),
)


def network() -> te.nn.Module:
    """Convolutions, each normalised and rectified, and a linear layer."""
    layers: list[te.nn.Module] = []
    for channels in (3, *(LAYERS - 1) * (CHANNELS,)):
        conv = te.nn.Conv2d(channels, CHANNELS, 3, padding=1, bias=False)
        layers += [conv, te.nn.BatchNorm2d(CHANNELS), te.nn.ReLU()]
    head = (te.nn.AdaptiveAvgPool2d(1), te.nn.Flatten(), te.nn.Linear(CHANNELS, 10))
    return te.nn.Sequential(*layers, *head)


def plan(policies: list[Policy]) -> Plan:
    """Plan a training step under some policies."""
    model = network()
    optimizer = te.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    @te.compile(policies=policies)
    def step(images: te.Tensor, labels: te.Tensor) -> te.Tensor:
        loss = te.functional.cross_entropy(model(images), labels)
        optimizer.minimize(loss)
        return loss

    return step.plan(IMAGES, LABELS)


def main(folder: str | None = None) -> None:
    """Plan each step, print what it takes and costs, and draw it if there is a folder."""
    plans: list[Plan] = []
    print("policies so far                      peak bytes   of plain   operations   results")
    # The compiled kernels want a little workspace besides, which depends on the processor.
    with runtime.use("numpy"):
        for i, (name, _, results) in enumerate(STEPS):
            plans.append(plan([policy for _, policy, _ in STEPS[: i + 1] if policy]))
            bytes_, operations = (
                now / plain
                for now, plain in (
                    (plans[-1].peak_bytes, plans[0].peak_bytes),
                    (plans[-1].flops, plans[0].flops),
                )
            )
            print(
                f"{name:<34}{plans[-1].peak_bytes:>13,}{bytes_:>10.3f}{operations:>13.3f}    "
                f"{results}"
            )
    if folder:
        plans[0].save(Path(folder, "step_0.png"))
        for i, (before, after) in enumerate(zip(plans, plans[1:], strict=False), 1):
            before.diff(after).save(Path(folder, f"step_{i}.png"))
        plans[0].diff(plans[-1]).save(Path(folder, "step_by_step.html"))


if __name__ == "__main__":
    main(*sys.argv[1:2])
