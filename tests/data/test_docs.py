"""What the documentation of data shows is what comes out."""

import doctest
import importlib
import pkgutil
from pathlib import Path

import pytest

import tinygrad_edge.data

MODULES = ["tinygrad_edge.data"] + [
    f"tinygrad_edge.data.{module.name}"
    for module in pkgutil.iter_modules(tinygrad_edge.data.__path__)
]
PAGE = Path(__file__).parents[2] / "docs" / "data.md"


@pytest.mark.parametrize("name", MODULES)
def test_docstrings(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_page():
    result = doctest.testfile(str(PAGE), module_relative=False)
    assert result.attempted > 0
    assert result.failed == 0
