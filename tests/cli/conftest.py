from pathlib import Path

import pytest
from cli.tiny import Tiny

from tinygrad_edge import models
from tinygrad_edge.cli import main


@pytest.fixture(scope="module", autouse=True)
def tiny():
    """A model that trains in no time, for the tests of this folder alone."""
    models.MODELS["tiny"] = Tiny
    yield
    del models.MODELS["tiny"]


@pytest.fixture
def command(capsys, monkeypatch, tmp_path):
    """Run a command in a temporary folder; gives exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*words):
        try:
            code = main([str(word) for word in words])
        except SystemExit as end:
            code = end.code
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def files():
    """Relative paths below a folder, with contents."""

    def read(folder):
        found = sorted(Path(folder).rglob("*"))
        return {str(p.relative_to(folder)): p.read_bytes() for p in found if p.is_file()}

    return read
