"""What the documents show is what happens: README, docstrings, examples."""

import contextlib
import doctest
import importlib
import importlib.util
import io
import pkgutil
import re
import runpy
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


def test_readme_programs_print_what_they_say():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    programs = re.findall(r"```python\n(.*?)```\n(?:\n```\n(.*?)```)?", text, re.S)
    assert len(programs) == 2
    space: dict[str, object] = {}
    for program, expected in programs:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(program, space)  # noqa: S102
        # The workspace depends on the threads, and with it the sum; roundings on the kernels.
        found, expected = (re.sub(r"[\d,]+ bytes:", "", t) for t in (printed.getvalue(), expected))
        assert found == expected or not _ffi.available()


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.stem)
def test_documents_show_what_happens(path):
    assert doctest.testfile(str(path), module_relative=False).failed == 0


def test_documents_name_files_that_exist():
    for document in (ROOT / "README.md", *DOCUMENTS):
        for link in re.findall(r"\]\(([^)#]+)\)", document.read_text(encoding="utf-8")):
            if "://" not in link:
                assert (document.parent / link).exists(), f"{document.name} links to {link}"


def test_the_tutorial_prints_what_it_says(tmp_path):
    tutorial = ROOT / "examples" / "memory_step_by_step.py"
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        runpy.run_path(str(tutorial))["main"](str(tmp_path))
    lines = printed.getvalue().splitlines()
    for text in (tutorial, ROOT / "docs" / "memory.md"):
        told = text.read_text(encoding="utf-8").splitlines()
        start = next(i for i, line in enumerate(told) if line.endswith(lines[0]))
        assert [line.strip() for line in told[start : start + len(lines)]] == lines
    fractions = [float(line.split()[-1]) for line in (row[:57] for row in lines[1:])]
    assert fractions == sorted(fractions, reverse=True) and fractions[-1] < 0.1
    written = {path.name for path in tmp_path.iterdir()}
    assert written == {*(f"step_{i}.png" for i in range(5)), "step_by_step.html"}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_examples_run(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    arguments = (2,) if path.stem == "train_digits" else ()
    module.main(*arguments)
