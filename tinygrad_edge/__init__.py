"""A minimal tensor and autograd engine that knows every byte of a training step before it runs.

>>> import tinygrad_edge as te
>>> x = te.Tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
>>> loss = (x @ x).relu().mean()
>>> loss.backward()
>>> x.grad.numpy()
array([[1.75, 2.75],
       [2.25, 3.25]], dtype=float32)
"""

from . import data, functional, models, nn, optim, policy, sparse, testing
from .compiled import CompiledStep, compile
from .errors import TinygradEdgeError
from .generator import Generator, manual_seed
from .gradients import grad
from .parameter import Parameter
from .plan import Plan
from .runtime import set_threads
from .snapshot import Snapshot, load, save
from .tensor import Tensor
from .trace import no_grad

policy.SparseWeights = sparse.SparseWeights

__version__ = "0.1.0"

__all__ = [
    "CompiledStep",
    "Generator",
    "Parameter",
    "Plan",
    "Snapshot",
    "Tensor",
    "TinygradEdgeError",
    "compile",
    "data",
    "functional",
    "grad",
    "load",
    "manual_seed",
    "models",
    "nn",
    "no_grad",
    "optim",
    "policy",
    "save",
    "set_threads",
    "sparse",
    "testing",
]
