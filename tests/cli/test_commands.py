"""plan, doctor, help, and what a terminal shows."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from cli import photos, tiny
from cli.process import SMALL, run

from tinygrad_edge.cli import COMMANDS, build_parser

ROOT = Path(__file__).parents[2]


def test_plan_ends_with_bytes_that_add_up(command):
    code, out, err = command("plan", "lenet", "--batch", "8")
    assert (code, err) == (0, "")
    table, rows = out.rstrip().split("\n\n")
    assert "conv2d" in table and "backward" in table and "sgd" in table
    by_kind = {kind: int(n.replace(",", "")) for kind, n, *_ in map(str.split, rows.splitlines())}
    peak = by_kind.pop("peak")
    assert sum(by_kind.values()) == peak
    assert by_kind["parameter"] == 4 * 61_706


def test_plan_takes_size_classes_and_optimizer(command):
    words = ("--size", "3x8x8", "--classes", "7", "--optimizer", "adam", "--batch", "2")
    code, out, _ = command("plan", "cnn", *words)
    assert code == 0
    assert "adam" in out
    assert "float32[2, 7]" in out
    assert "float32[32, 3, 3, 3]" in out


def test_plan_is_written_to_a_file(command, tmp_path):
    code, out, _ = command("plan", "lenet", "--out", str(tmp_path / "lenet.html"))
    assert (code, out) == (0, f"{tmp_path / 'lenet.html'}\n")
    assert "<h1" in (tmp_path / "lenet.html").read_text(encoding="utf-8")
    code, _, err = command("plan", "lenet", "--out", str(tmp_path / "lenet.pdf"))
    assert code == 2 and "expected a file that ends in .html" in err


def test_plan_shows_time_against_bytes(command, tmp_path):
    picture = tmp_path / "lenet.svg"
    words = ("plan", "lenet", "--batch", "8", "--pareto", "--optimal", "--out", str(picture))
    code, out, err = command(*words)
    assert (code, err) == (0, "")
    header, *rows = out.splitlines()
    assert header.split() == ["budget", "peak", "time", "optimal"]
    factors = [[float(word.rstrip("x")) for word in row.split()[-2:]] for row in rows]
    assert factors == sorted(factors, reverse=True) and factors[-1][0] == factors[-1][1] <= 1.0
    assert all(best <= ours for ours, best in factors)
    assert picture.read_text(encoding="utf-8").startswith("<?xml")


def test_doctor_names_everything(command):
    code, out, err = command("doctor")
    assert (code, err) == (0, "")
    for name in ("Python", "NumPy", "compiled kernels", "runtime", "data", "energy", "rich"):
        assert any(line.startswith(f"{name} ") for line in out.splitlines())


@pytest.mark.parametrize(
    "variable, value, said",
    [
        ("TINYGRAD_EDGE_RUNTIME", "numpy", "numpy: TINYGRAD_EDGE_RUNTIME says so"),
        ("TINYGRAD_EDGE_RUNTIME", "abacus", "unknown runtime 'abacus'"),
        ("TINYGRAD_EDGE_ISA", "abacus", "abacus"),
        (
            "TINYGRAD_EDGE_DATA",
            "nowhere",
            "nowhere: TINYGRAD_EDGE_DATA says so; in it: nothing yet",
        ),
    ],
)
def test_doctor_says_what_the_environment_does(tmp_path, variable, value, said):
    code, out, err = run("doctor", folder=tmp_path, env={**os.environ, variable: value})
    assert (code, err) == (0, "")
    if variable != "TINYGRAD_EDGE_ISA" or "native" in out:
        assert said in out


def test_doctor_names_the_extra_for_what_is_absent(command, monkeypatch):
    for module in ("rich", "matplotlib", "PIL"):
        monkeypatch.setitem(sys.modules, module, None)
    out = command("doctor")[1]
    assert out.count("pip install 'tinygrad-edge[cli]'") == 3


@pytest.mark.parametrize("each", COMMANDS, ids=lambda each: each.__name__.split(".")[-1])
def test_help_suffices(command, each):
    code, out, _ = command(each.__name__.split(".")[-1], "--help")
    assert code == 0
    assert "usage: tinygrad-edge" in out


@pytest.mark.parametrize(
    "document", ["README.md", "docs/daily.md", "docs/benchmarks.md", "docs/memory.md"]
)
def test_commands_in_documents_are_commands(document):
    text = (ROOT / document).read_text(encoding="utf-8")
    blocks = re.findall(r"```sh\n(.*?)```", text, re.S)
    found = [
        c for c in re.split(r"\n|&&", "".join(blocks)) if c.strip().startswith("tinygrad-edge")
    ]
    for command in found:
        build_parser().parse_args(shlex.split(command, comments=True)[1:])
    assert found


def test_module_runs_as_a_program(tmp_path):
    words = [sys.executable, "-m", "tinygrad_edge.cli", "--help"]
    out = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert all(name in out for name in ("train", "eval", "plan", "profile", "doctor"))


def shown(words, folder, stdout=None, **environment):
    """What a terminal gets from a command, all of it or what does not go to another stdout."""
    pty = pytest.importorskip("pty")
    leader, follower = pty.openpty()
    command = [sys.executable, tiny.__file__, *words]
    env = {**os.environ, "TERM": "xterm", "COLUMNS": "120", **environment}
    process = subprocess.Popen(
        command, cwd=folder, stdout=stdout or follower, stderr=follower, env=env
    )
    os.close(follower)
    out = b""
    try:
        while chunk := os.read(leader, 1 << 16):
            out += chunk
    except OSError:  # Linux's word for the end
        pass
    os.close(leader)
    assert process.wait() == 0, out
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "<escape>", out.decode())


def test_terminal_shows_a_bar(tmp_path):
    pytest.importorskip("rich")
    out = shown(["train", *SMALL, "--out", "run"], tmp_path)
    assert "<escape>" in out and "33/33" in out
    assert "test accuracy" in out.rstrip().splitlines()[-1]


def test_terminal_shows_how_far_it_is_and_a_file_gets_the_lines(tmp_path):
    pytest.importorskip("rich")
    pictures = photos.make_folder(tmp_path / "shapes", each=10)
    words = ("--model", "tiny", "--size", "8", "--epochs", "1", "--out", "run")
    assert "reading shapes" in shown(["train", str(pictures), *words], tmp_path)
    for command, bar in (
        ("eval run", "testing"),
        ("predict run shapes/discs/001.jpg", "predicting"),
    ):
        path = tmp_path / f"{bar}.txt"
        with open(path, "w") as file:
            assert bar in shown(command.split(), tmp_path, stdout=file)
        assert "<escape>" not in path.read_text() and "discs" in path.read_text()


def test_terminal_without_rich_gets_plain_lines_and_a_hint(tmp_path):
    (tmp_path / "rich").mkdir()
    (tmp_path / "rich" / "__init__.py").write_text("raise ImportError\n")
    out = shown(["train", *SMALL, "--out", "run"], tmp_path, PYTHONPATH=str(tmp_path))
    assert "<escape>" not in out
    assert "pip install 'tinygrad-edge[cli]'" in out
    assert out.rstrip().splitlines()[-1].startswith("test accuracy")
