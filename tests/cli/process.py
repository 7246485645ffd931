"""``tinygrad-edge`` in a process of its own."""

import subprocess
import sys

from cli import tiny

#: 3 epochs of 11 steps.
SMALL = ("--model", "tiny", "--epochs", "3", "--batch", "128")


def run(*words, folder, **options):
    """Exit code, stdout and stderr of a command that is run in a folder."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    command = [sys.executable, tiny.__file__, *map(str, words)]
    process = subprocess.run(command, cwd=folder, text=True, timeout=120, **pipes)
    return process.returncode, process.stdout, process.stderr
