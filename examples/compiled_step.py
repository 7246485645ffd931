"""A hand-written training step: recorded once, planned to the byte, run as one call."""

import numpy as np

import tinygrad_edge as te


def main() -> te.Plan:
    """Plan a step before running it, show its memory, run it, and watch it call by call."""
    te.manual_seed(0)
    model = te.models.lenet(num_classes=10)
    optimizer = te.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)

    @te.compile
    def step(images: te.Tensor, labels: te.Tensor) -> te.Tensor:
        loss = te.functional.cross_entropy(model(images), labels)
        optimizer.minimize(loss)  # backward and update, part of the same graph
        return loss

    rng = np.random.default_rng(0)
    images = rng.standard_normal((16, 1, 28, 28)).astype(np.float32)
    labels = rng.integers(0, 10, 16)

    plan = step.plan(images, labels)  # nothing has run yet
    print(plan)
    for kind, nbytes in plan.by_kind().items():
        print(f"{kind:<10} {nbytes:>10,}")
    print("saved for backward:")
    for value in plan.saved():
        print(f"  {value.name:<24} {value.dtype}{list(value.shape)} {value.nbytes:,} bytes")

    for _ in range(3):
        print(f"loss {step(images, labels).item():.4f}")
    optimizer.lr = 0.001  # a run-time number: the same plan
    for event in step.trace(images, labels):
        print(
            f"{event.name:<32} {event.live_bytes:>9,} bytes live, "
            f"frees {', '.join(event.frees) or '-'}"
        )
    return plan


if __name__ == "__main__":
    main()
