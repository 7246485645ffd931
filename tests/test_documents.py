"""What the documents show is what happens: README, docstrings, examples."""

import contextlib
import doctest
import importlib
import importlib.util
import io
import pkgutil
import re
from pathlib import Path

import pytest

import tinygrad_edge
from tinygrad_edge.runtime import _ffi

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted((ROOT / "docs").glob("*.md"))
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
# Started by the system, or by a tool that examples need not have.
NOT_IMPORTED = ("tinygrad_edge.cli.__main__", "tinygrad_edge._native")


def modules():
    for found in pkgutil.walk_packages(tinygrad_edge.__path__, "tinygrad_edge."):
        if found.name not in NOT_IMPORTED:
            yield found.name


@pytest.mark.parametrize("name", ["tinygrad_edge", *modules()])
def test_docstring_examples(name):
    module = importlib.import_module(name)
    results = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert results.failed == 0


def test_readme_program_prints_what_it_says():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    programs = re.findall(r"```python\n(.*?)```", text, re.S)
    expected = re.findall(r"```python\n.*?```\n\n```\n(.*?)```", text, re.S)[0]
    printed = io.StringIO()
    space: dict[str, object] = {}
    with contextlib.redirect_stdout(printed):
        exec(programs[0], space)  # noqa: S102
    if _ffi.available():
        assert printed.getvalue().splitlines()[-1] == expected.splitlines()[-1]
        bytes_said = re.sub(r"^[\d,]+", "", expected.splitlines()[0])
        assert re.sub(r"^[\d,]+", "", printed.getvalue().splitlines()[0]) == bytes_said
    for program in programs[1:]:
        exec(program, space)  # noqa: S102


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.stem)
def test_documents_show_what_happens(path):
    results = doctest.testfile(str(path), module_relative=False)
    assert results.failed == 0


def test_documents_name_files_that_exist():
    for document in (ROOT / "README.md", *DOCUMENTS):
        for link in re.findall(r"\]\(([^)#]+)\)", document.read_text(encoding="utf-8")):
            if "://" not in link:
                assert (document.parent / link).exists(), f"{document.name} links to {link}"


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_examples_run(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    arguments = (2,) if path.stem == "train_digits" else ()
    module.main(*arguments)
