"""What an installed package promises before anything is computed."""

import importlib
import importlib.metadata
import json
import pkgutil
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import tinygrad_edge as te

ROOT = Path(__file__).parents[1]


def test_import_leaves_heavy_modules_alone():
    program = "import json, sys, tinygrad_edge; print(json.dumps(list(sys.modules)))"
    command = [sys.executable, "-I", "-c", program]
    output = subprocess.run(command, capture_output=True, check=True).stdout
    loaded = {name.split(".")[0] for name in json.loads(output)}
    heavy = {"rich", "matplotlib", "PIL", "torch", "hypothesis", "pytest", "safetensors", "scipy"}
    assert not loaded & heavy


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_import_is_small():
    measure = runpy.run_path(str(ROOT / "benchmarks" / "import_cost.py"))["measure"]
    grown = measure("tinygrad_edge", runs=3).resident - measure("numpy", runs=3).resident
    assert grown < 12e6


MODULES = ["tinygrad_edge"] + [
    module.name
    for module in pkgutil.walk_packages(te.__path__, "tinygrad_edge.")
    if not module.name.endswith("__main__")
]


@pytest.mark.parametrize("name", MODULES)
def test_all_names_what_exists(name):
    module = importlib.import_module(name)
    public = getattr(module, "__all__", [])
    assert len(public) == len(set(public))
    assert not [n for n in public if not hasattr(module, n)]


def test_all_names_what_the_package_offers():
    offered = {n for n in vars(te) if not n.startswith("_")}
    inner = {name.split(".")[1] for name in MODULES[1:]}
    assert not offered - inner - set(te.__all__)


def test_metadata_says_what_is_needed():
    required = importlib.metadata.requires("tinygrad-edge")
    names = {r.split(";")[0].split(">")[0].strip() for r in required if "extra ==" not in r}
    assert names == {"numpy", "cffi"}
    assert te.__version__ == importlib.metadata.version("tinygrad-edge")


def test_types_are_shipped():
    assert (Path(te.__file__).parent / "py.typed").is_file()


def test_the_compiled_module_is_where_the_tests_look():
    """Else every native test would be skipped: a source folder has shadowed the installed wheel."""
    wheel = importlib.metadata.distribution("tinygrad-edge").read_text("WHEEL")
    if "Root-Is-Purelib: false" not in wheel:
        pytest.skip("installed without a C compiler")
    importlib.import_module("tinygrad_edge._native")
