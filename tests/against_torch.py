"""Compare loss and all gradients of drawn networks with PyTorch's, in float64.

    pip install . torch && python tests/against_torch.py [NETS]

One line a network: the error of the numpy runtime in float64, relative to each tensor's largest
element; and the error of the native runtime in float32, as a share of what rounding may do there
(see ``exact_and_allowed`` in nets.py). The exit code is 1 where one is over its bound.
"""

import itertools
import sys

import nets
import numpy as np
import torch

from tinygrad_edge import runtime
from tinygrad_edge.ops.random import uniform

FLOAT64_BOUND = 1e-10
#: Gradients before a batch norm cancel, those of a bias to nothing but rounding. What is smaller
#: than this beside the largest gradient counts as this large.
CANCELLED = 1e-4


class Dropout(torch.nn.Module):
    """Dropout with this library's random numbers."""

    def __init__(self, p: float, seed: int, sites: itertools.count) -> None:
        super().__init__()
        self.p, self.sites = np.float32(p), sites
        self.generator = np.array([seed, 0, 0, 0], np.uint32)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Zero what the next site draws below p."""
        u = uniform(self.generator, 0, next(self.sites), len(x), x[0].numel()).reshape(x.shape)
        scale = np.float32(1) / (np.float32(1) - self.p)
        return x * torch.from_numpy(np.where(u >= self.p, scale, 0).astype(np.float64))


def run_torch(net: nets.Net, data: nets.Data) -> dict[str, np.ndarray]:
    """Loss and all gradients by PyTorch in float64."""
    sites = itertools.count()
    model = nets.build(
        net, torch.nn, lambda parts: torch.cat(parts, 1), lambda p: Dropout(p, net.seed, sites)
    ).double()
    parameters = dict(model.named_parameters())
    assert list(parameters) == list(data.parameters)
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(torch.from_numpy(data.parameters[name]))
    images = torch.from_numpy(data.images).requires_grad_()
    weights = None if data.class_weights is None else torch.from_numpy(data.class_weights)
    labels = torch.from_numpy(data.labels).long()
    loss = torch.nn.functional.cross_entropy(
        model(images), labels, weights, label_smoothing=net.smoothing
    )
    loss.backward()
    grads = {name: p.grad for name, p in (*parameters.items(), ("images", images))}
    return {"loss": loss.detach().numpy(), **{name: g.numpy() for name, g in grads.items()}}


def relative_error(found: dict[str, np.ndarray], right: dict[str, np.ndarray]) -> float:
    """Largest error over all tensors, each relative to its largest element."""
    least = CANCELLED * max(np.abs(r).max() for r in right.values())
    errors = (np.abs(found[n] - r).max() / max(np.abs(r).max(), least) for n, r in right.items())
    return float(max(errors))


def describe(net: nets.Net) -> str:
    """Name the layers."""

    def names(layers: tuple[nets.Layer, ...]) -> str:
        return " ".join(
            f"{name}({' | '.join(map(names, inside))})" if isinstance(inside, tuple) else name
            for name, inside in layers
        )

    return names(net.layers)


def main(count: int = 50) -> int:
    """Compare so many networks; give the exit code."""
    worst64 = worst32 = 0.0
    tensors = 0
    print(f"PyTorch {torch.__version__}; errors: numpy float64 relative, native float32 of allowed")
    for number in range(count):
        rng = np.random.default_rng(number)
        net = nets.draw_net(lambda options, rng=rng: options[int(rng.integers(len(options)))])
        data = nets.draw_data(net)
        right = run_torch(net, data)
        exact, allowed = nets.exact_and_allowed(net, data)
        with runtime.use("native"):
            found = nets.run(net, data.rounded())
        error64 = relative_error(exact, right)
        error32 = max(float(np.abs(found[n] - r).max()) / allowed[n] for n, r in right.items())
        worst64, worst32 = max(worst64, error64), max(worst32, error32)
        tensors += len(right)
        print(f"{number:>3}  {error64:8.1e}  {error32:6.3f}  {describe(net)}")
    good = worst64 <= FLOAT64_BOUND and worst32 <= 1
    print(
        f"{count} networks, {tensors} losses and gradients: float64 within {worst64:.1e} "
        f"(bound {FLOAT64_BOUND:.0e}), float32 within {worst32:.2f} of what rounding may do: "
        f"{'passed' if good else 'FAILED'}"
    )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
