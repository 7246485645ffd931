"""Arguments of commands: their types, and errors of one line."""

from __future__ import annotations

import argparse
import difflib
import math
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

from .. import data, policy
from ..errors import GraphError
from .recipes import PRECISIONS

__all__ = [
    "BUDGET",
    "DATA",
    "PRECISION",
    "SPARSITY",
    "Parser",
    "budget",
    "count",
    "name_of",
    "nbytes",
    "positive",
    "seed",
    "share",
    "size",
]


#: What a data set is called.
DATA = f"{', '.join(data.SOURCES)}, a folder of pictures, or an .npz file"


#: What a budget may do besides.
ALLOW = (
    "what a budget may do though it changes results, as microbatch_bn,float16: "
    f"{', '.join(policy.ALLOWED)}"
)

#: What a precision does.
PRECISION = (
    f"store saved values as {', '.join(PRECISIONS)}; adaptive follows the numbers, value by value, "
    "and metrics.jsonl tells its decisions (default: float32; --budget has its own --allow)"
)

#: What a sparsity does.
SPARSITY = "store and train this share of the weights' elements not at all, such as 0.8"

#: What a budget does.
BUDGET = "peak bytes of a step, such as 64MB: values are made again instead of kept; same results"


class Parser(argparse.ArgumentParser):
    """argparse's, without abbreviations, which would change their meaning with each new option."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        """End with one line on stderr and exit code 2."""
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def count(text: str) -> int:
    """A whole number from 1 on."""
    return _integer(text, 1)


def seed(text: str) -> int:
    """A whole number that fits 64 bits."""
    number = _integer(text, 0)
    if number >= 2**64:
        raise argparse.ArgumentTypeError(f"expected a number below 2**64, got {text!r}")
    return number


def _integer(text: str, low: int) -> int:
    try:
        number = int(text)
    except ValueError:
        number = low - 1
    if number < low:
        raise argparse.ArgumentTypeError(f"expected a whole number from {low} on, got {text!r}")
    return number


def _number(text: str) -> float:
    """What a text says, NaN where it says no number: within no limits."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def positive(text: str) -> float:
    """A finite number above 0."""
    number = _number(text)
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"expected a positive number, got {text!r}")
    return number


def share(text: str) -> float:
    """A number from 0 to below 1."""
    number = _number(text)
    if not 0 <= number < 1:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to below 1, got {text!r}")
    return number


def budget(text: str) -> policy.Budget:
    """Bytes that a step may take, as 64MB."""
    try:
        return policy.Budget(text)
    except GraphError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def nbytes(text: str) -> int:
    """Bytes, as 1.9MB."""
    try:
        return policy.as_bytes(text)
    except GraphError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def allow(text: str) -> tuple[str, ...]:
    """What a budget may do besides, as microbatch_bn,float16."""
    names = tuple(text.split(","))
    try:
        policy.Budget(0, names)
    except GraphError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return names


def budget_of(args: argparse.Namespace) -> policy.Budget | None:
    """The budget of a command line, with all that it allows."""
    if args.allow and args.budget is None:
        raise GraphError("--allow says what a budget may do: give a --budget")
    return policy.Budget(args.budget.bytes, args.allow) if args.budget else None


def size(text: str) -> tuple[int, int, int]:
    """An image's channels, height and width, as 3x32x32."""
    words = text.split("x")
    if len(words) != 3 or not all(word.isdecimal() and int(word) for word in words):
        raise argparse.ArgumentTypeError(
            f"expected channels x height x width, as 3x32x32, got {text!r}"
        )
    channels, height, width = map(int, words)
    return channels, height, width


def name_of(what: str, names: Iterable[str]) -> Callable[[str], str]:
    """One of some names; another one is answered with the nearest."""
    known = list(names)

    def check(text: str) -> str:
        if text in known:
            return text
        nearest = difflib.get_close_matches(text.lower(), known, n=1)
        hint = f"did you mean {nearest[0]!r}? " if nearest else ""
        raise argparse.ArgumentTypeError(
            f"there is no {what} {text!r}: {hint}there are {', '.join(known)}"
        )

    return check
