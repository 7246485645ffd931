"""bench: what it prints, keeps and draws; never how fast anything is."""

import json
import sys

import numpy as np
import pytest

from tinygrad_edge import runtime, timing
from tinygrad_edge.cli import bench, measure
from tinygrad_edge.cli.kernel_cases import CASES, UNMEASURED
from tinygrad_edge.compiled import compile
from tinygrad_edge.runtime import _ffi

pytestmark = pytest.mark.skipif(not _ffi.available(), reason="the native module was not built")

TINY = ("bench", "tiny", "--size", "1x8x8", "--batch", "4")


@pytest.fixture(autouse=True)
def hurry(monkeypatch, tmp_path):
    """As few runs on as little memory as will do, and a cache folder of one's own."""
    for module, name, value in [
        (bench, "KERNEL_SECONDS", 0.0),
        (bench, "STEP_SECONDS", 0.0),
        (measure, "_PEAK_SECONDS", 0.0),
        (measure, "_CACHE", tmp_path),
    ]:
        monkeypatch.setattr(module, name, value)
    (tmp_path / "index3").mkdir()
    (tmp_path / "index3" / "size").write_text("16K\n")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def few_cases(monkeypatch):
    small = [case._replace(arguments=(lambda rng: np.ones((4, 5), np.float32),) * 2)
             for case in CASES if case.label == "relu(a * b + a)"]  # fmt: skip
    monkeypatch.setattr(bench, "CASES", small)


def test_table_of_a_model(command):
    code, out, err = command(*TINY)
    assert (code, err) == (0, "")
    head, parts, operations = out.split("\n\n")
    assert "GFLOP/s in registers" in head and "tiny, 4 images of 1x8x8: " in head
    for table in parts, operations:
        names, *rows = (line.split() for line in table.splitlines())
        columns = ["calls", "ms", "share", "GFLOP/s", "GB/s", "of", "peak"]
        assert names == ["part", "operation", *columns]
        assert list(dict.fromkeys(row[0] for row in rows)) == ["forward", "backward", "update"]
        assert sum(float(row[4].rstrip("%")) for row in rows) == pytest.approx(100, abs=1)
    assert "conv2d_backward_weights" in operations and "sgd_momentum_update" in operations


def test_a_model_as_json(command):
    code, out, _ = command(*TINY, "--json", "--threads", "1")
    machine, model, *rows = map(json.loads, out.splitlines())
    assert code == 0
    assert machine["threads"] == 1 and machine["isa"] == _ffi.isa()
    assert machine["peak_flops"] > 0 and machine["peak_bandwidth"] > 0
    assert model["model"] == "tiny" and model["step_seconds"] > 0
    sums = [row for row in rows if row["operation"] == "all"]
    assert [row["part"] for row in sums] == ["forward", "backward", "update"]
    for whole in sums:
        parts = [r for r in rows if r["part"] == whole["part"] and r["operation"] != "all"]
        for figure in ("calls", "flops", "bytes"):
            assert sum(part[figure] for part in parts) == whole[figure]
    conv = next(row for row in rows if row["operation"] == "conv2d")
    assert conv["flops"] == 2 * 4 * 4 * 9 * 16  # images, outputs, window, points


def test_kernels_and_roofline(command, monkeypatch, tmp_path):
    few_cases(monkeypatch)
    code, out, err = command("bench", "--out", "roof.png")
    assert (code, err) == (0, "")
    assert out.splitlines()[-1].split()[0] == "chain_f32"
    assert (tmp_path / "roof.png").read_bytes().startswith(b"\x89PNG")


def test_roofline_without_matplotlib(command, monkeypatch, tmp_path):
    few_cases(monkeypatch)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    code, out, _ = command("bench", "--out", "roof.png")
    assert code == 0
    assert out.splitlines()[-1].startswith("no picture: drawing needs matplotlib")
    assert not (tmp_path / "roof.png").exists()


def test_calibrate_keeps_the_time_of_each_call(command):
    for batch in ("4", "6"):
        code, out, _ = command(*TINY[:-1], batch, "--calibrate")
        assert code == 0
    kept = timing.load(_ffi.isa(), runtime.threads())
    assert str(timing.path(_ffi.isa(), runtime.threads())) in out
    assert all(seconds > 0 for seconds in kept.values())
    for batch in (4, 6):
        convolutions = [s for s in kept if s.startswith("conv2d_f32") and f'"n":{batch}' in s]
        assert len(convolutions) == 1


@pytest.mark.parametrize(
    "words, said",
    [
        (("bench", "lennet"), "did you mean 'lenet'?"),
        (("bench", "--calibrate"), "name a MODEL"),
        (("bench", "--threads", "0"), "from 1 on, got '0'"),
        ((*TINY, "--out", "nowhere/roof.png"), "cannot write nowhere/roof.png"),
    ],
    ids=lambda words: words[-1],
)
def test_errors_are_one_line(command, words, said):
    code, _, err = command(*words)
    assert code == 2
    assert said in err and err.count("\n") == 1


def test_the_numpy_runtime_is_refused(command):
    with runtime.use("numpy"):
        code, _, err = command("bench")
    assert code == 2
    assert "bench measures the compiled kernels" in err and err.count("\n") == 1


class Undrawn:
    """Random numbers that nobody looks at."""

    def standard_normal(self, shape, dtype):
        return np.empty(shape, dtype)

    def integers(self, low, high, shape, dtype):
        return np.empty(shape, dtype)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.kernels.split()[0]} {case.label}")
def test_a_case_runs_the_kernels_that_it_measures(case):
    plan = compile(case.step).plan(*(draw(Undrawn()) for draw in case.arguments))
    assert set(case.kernels.split()) <= {call.kernel.name for call in plan.calls if call.kernel}


def test_every_kernel_is_measured():
    measured = {kernel for case in CASES for kernel in case.kernels.split()}
    assert measured | set(UNMEASURED) == set(_ffi.kernel_names())
    assert not measured & set(UNMEASURED)
