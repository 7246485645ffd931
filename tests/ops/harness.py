"""What the tests over the op table share."""

from collections.abc import Callable, Iterable

import hypothesis
import numpy as np
import pytest
from ops.samples import ROWS, Sample

from tinygrad_edge import trace
from tinygrad_edge.dtypes import of_array
from tinygrad_edge.graph import Node, Value, emit, new_input
from tinygrad_edge.op import OPS, Op, TensorType
from tinygrad_edge.ops import slice_
from tinygrad_edge.tensor import Tensor

#: Ops with a derivative and something to differentiate by.
DIFFERENTIABLE = sorted(name for name in ROWS if OPS[name].differentiable and name != "full")


def on_samples(names: Iterable[str] = ROWS, *, wild: bool = True, examples: int = 20) -> Callable:
    """Make ``test(name, sample)`` a test on samples of ops: drawn, and if wild also by hand."""

    def decorate(test: Callable[[str, Sample], None]) -> Callable[[str], None]:
        @pytest.mark.parametrize("name", sorted(names))
        def on_op(name: str) -> None:
            @hypothesis.settings(max_examples=examples)
            @hypothesis.given(ROWS[name].draw(wild))
            def on_sample(sample: Sample) -> None:
                test(name, sample)

            for sample in ROWS[name].samples if wild else ():
                on_sample = hypothesis.example(sample)(on_sample)
            on_sample()

        return on_op

    return decorate


def types_of(arrays: Iterable[np.ndarray]) -> list[TensorType]:
    return [TensorType(a.shape, of_array(a)) for a in arrays]


def node_of(op: Op, sample: Sample) -> Node:
    return emit(op, *(new_input(t) for t in types_of(sample.arrays)), **sample.attrs)


def reference(op: Op, sample: Sample) -> tuple[np.ndarray, ...]:
    with np.errstate(all="ignore"):
        return op.reference(*sample.arrays, **sample.attrs)


def widened(name: str, sample: Sample) -> Sample:
    """The same call on float64, where an input may be."""
    by = ROWS[name].by or range(len(sample.arrays))
    wide = (
        a.astype(np.float64) if i in by and a.dtype == np.float32 else a
        for i, a in enumerate(sample.arrays)
    )
    return Sample(tuple(wide), sample.attrs)


def run(op: Op, sample: Sample, in_arena: bool = False) -> list[np.ndarray]:
    """Outputs in the present runtime.

    In the arena, inputs and outputs are values in the middle of a plan, so that the op writes over
    those inputs that it may.
    """
    values = [Tensor(a, dtype=of_array(a)).value for a in sample.arrays]
    node = emit(op, *(map(copied, values) if in_arena else values), **sample.attrs)
    if op.effect:
        trace.current().effects.append(node)
        trace.current().run()
    outputs = [Tensor.of_value(copied(v) if in_arena else v) for v in node.outputs]
    return [y.numpy() for y in outputs]


def copied(v: Value) -> Value:
    return slice_(v, (0,) * len(v.shape), v.shape, (1,) * len(v.shape))


def as_function(name: str, sample: Sample) -> tuple[Callable[..., list[Tensor]], tuple[int, ...]]:
    """The op as a function of tensors, and the numbers of those to differentiate by."""

    def function(*tensors: Tensor) -> list[Tensor]:
        node = emit(OPS[name], *(t.value for t in tensors), **sample.attrs)
        return [Tensor.following(v, *tensors) for v in node.outputs]

    floats = (i for i, a in enumerate(sample.arrays) if a.dtype.kind == "f")
    return function, ROWS[name].by or tuple(floats)
