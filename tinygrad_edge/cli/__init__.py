"""The command line: ``tinygrad-edge train | eval | predict | plan | profile | bench | doctor``."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from io import TextIOWrapper
from typing import Any

from ..errors import TinygradEdgeError
from . import bench, doctor, eval, plan, predict, profile, train
from .arguments import Parser

__all__ = ["build_parser", "main"]

COMMANDS = (train, eval, predict, plan, profile, bench, doctor)


def main(
    argv: Sequence[str] | None = None,
    *,
    on_epoch: Callable[[dict[str, Any]], object] | None = None,
) -> int:
    """Run a command.

    Parameters
    ----------
    argv : sequence of str, optional
        The words after the program's name; the process's own by default.
    on_epoch : callable, optional
        What ``train`` calls after each epoch, once it is saved, with what metrics.jsonl gets: for
        logging of one's own. An error that it raises ends the run, which can be resumed.

    Returns
    -------
    int
        The exit code: 0 done, 2 an error that one line on stderr names, 130 interrupted.
    """
    if isinstance(sys.stdout, TextIOWrapper):  # names of files need be no text
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        args = build_parser().parse_args(argv, Namespace(on_epoch=on_epoch))
        code = int(args.run(args))
        sys.stdout.flush()  # so that a full disk behind stdout shows while it can be told
        return code
    except KeyboardInterrupt:
        return _end("interrupted", 130)
    except BrokenPipeError:  # as in `| head`: nobody reads on, and nobody needs to be told
        _drop_output()
        return 0
    except (TinygradEdgeError, OSError) as error:
        return _end(str(error), 2)
    except MemoryError:
        return _end("there is not enough memory; a smaller --batch needs less", 2)


def build_parser() -> Parser:
    """Make the parser of all commands; what it parses says in `run` what to call."""
    parser = Parser(
        prog="tinygrad-edge",
        description="Train small neural networks in memory that is known before anything runs.",
        epilog="tinygrad-edge COMMAND --help says more. train needs no arguments and no files.",
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add(commands)
    return parser


def _end(message: str, code: int) -> int:
    print("tinygrad-edge:", " ".join(message.split()), file=sys.stderr)
    try:
        sys.stdout.flush()
    except OSError:
        _drop_output()
    return code


def _drop_output() -> None:
    """Send what stdout still holds nowhere, or the interpreter fails on it once more at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
