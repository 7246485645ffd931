"""The operations: one entry each, by family. Functions here take and give graph values.

An entry (:class:`tinygrad_edge.op.Op`) holds the shape rule, the derivative written with other
ops, the NumPy reference that defines what is right, the kernel and the cost. Nothing else in the
library switches on an op's name.
"""

from .check import check_finite
from .conv import conv2d
from .elementwise import (
    absolute,
    add,
    cast,
    clip,
    divide,
    equal,
    exp,
    greater,
    greater_equal,
    hardswish,
    less,
    less_equal,
    log,
    logical_and,
    logical_not,
    logical_or,
    maximum,
    minimum,
    multiply,
    negative,
    not_equal,
    power,
    promote,
    relu,
    relu6,
    sigmoid,
    sign,
    sqrt,
    subtract,
    tanh,
    where,
)
from .fill import arange, constant, full
from .indexing import scatter_add, take
from .matmul import matmul
from .norm import batch_norm, batch_norm_apply
from .pool import avg_pool2d, max_pool2d
from .random import dropout, generator_advance
from .reduce import argmax, max_, mean, sum_, sum_to, topk
from .shape import broadcast_to, concatenate, detach, flip, pad, reshape, slice_, transpose, view
from .softmax import cross_entropy, log_softmax, softmax
from .update import adam_update, rmsprop_update, sgd_momentum_update, sgd_update

__all__ = [
    "absolute",
    "adam_update",
    "add",
    "arange",
    "argmax",
    "avg_pool2d",
    "batch_norm",
    "batch_norm_apply",
    "broadcast_to",
    "cast",
    "check_finite",
    "clip",
    "concatenate",
    "constant",
    "conv2d",
    "cross_entropy",
    "detach",
    "divide",
    "dropout",
    "equal",
    "exp",
    "flip",
    "full",
    "generator_advance",
    "greater",
    "greater_equal",
    "hardswish",
    "less",
    "less_equal",
    "log",
    "log_softmax",
    "logical_and",
    "logical_not",
    "logical_or",
    "matmul",
    "max_",
    "max_pool2d",
    "maximum",
    "mean",
    "minimum",
    "multiply",
    "negative",
    "not_equal",
    "pad",
    "power",
    "promote",
    "relu",
    "relu6",
    "reshape",
    "rmsprop_update",
    "scatter_add",
    "sgd_momentum_update",
    "sgd_update",
    "sigmoid",
    "sign",
    "slice_",
    "softmax",
    "sqrt",
    "subtract",
    "sum_",
    "sum_to",
    "take",
    "tanh",
    "topk",
    "transpose",
    "view",
    "where",
]
