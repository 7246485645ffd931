import json
import re

import pytest
from cli.process import SMALL

from tinygrad_edge import safetensors
from tinygrad_edge.cli import curves, main
from tinygrad_edge.cli.record import EpochResult
from tinygrad_edge.runtime import current


@pytest.fixture
def trained(command):
    code, out, err = command("train", *SMALL, "--out", "run")
    assert (code, err) == (0, "")
    return out


def test_last_line_is_the_accuracy(trained, tmp_path):
    *_, last = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    accuracy = json.loads(last)["accuracy"]
    assert trained.splitlines()[-1] == f"test accuracy {accuracy:.4f}"
    assert accuracy > 0.2


@pytest.mark.skipif(current().name == "numpy", reason="takes minutes without compiled kernels")
def test_without_arguments_it_learns_the_digits(command):
    code, out, _ = command("train")
    assert code == 0
    assert float(out.split()[-1]) >= 0.98


def test_run_leaves_three_files(trained, tmp_path, files):
    assert set(files(tmp_path)) == {
        "run/snapshot.safetensors",
        "run/metrics.jsonl",
        "run/curves.png",
    }


def test_metrics_have_a_line_for_each_epoch(trained, tmp_path):
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert [(row["epoch"], row["step"]) for row in rows] == [(1, 11), (2, 22), (3, 33)]
    assert rows[2]["loss"] < rows[0]["loss"]
    assert all(row["peak_bytes"] == rows[0]["peak_bytes"] > 0 for row in rows)


def test_memory_is_told_before_the_first_step(trained):
    lines = trained.splitlines()
    rows = [line.split() for line in lines if line.endswith(("B", "kB", "MB"))]
    by_kind = {kind: int(number.replace(",", "")) for kind, number, *_ in rows}
    peak = by_kind.pop("peak")
    assert sum(by_kind.values()) == peak
    assert lines.index(next(x for x in lines if "peak" in x)) < next(
        i for i, line in enumerate(lines) if line.startswith("epoch")
    )


def test_weights_are_a_plain_state_dict(trained, tmp_path):
    tensors, metadata = safetensors.load(tmp_path / "run" / "snapshot.safetensors")
    assert [name for name in tensors if "/" not in name] == [
        "conv.weight",
        "norm.weight",
        "norm.bias",
        "norm.running_mean",
        "norm.running_var",
        *(["norm.num_batches_tracked"] if "norm.num_batches_tracked" in tensors else []),
        "classify.weight",
        "classify.bias",
    ]
    assert json.loads(metadata["settings"])["model"] == "tiny"
    assert json.loads(metadata["data"])["class_names"] == list("0123456789")


def test_runs_of_one_name_get_folders_of_their_own(command, tmp_path):
    for _ in range(2):
        assert command("train", "--model", "tiny", "--epochs", "1", "--batch", "512")[0] == 0
    assert sorted(p.name for p in (tmp_path / "runs").iterdir()) == ["digits-tiny", "digits-tiny-2"]


def test_seed_decides_the_run(command, tmp_path, files):
    for out, number in (("a", 0), ("b", 0), ("c", 1)):
        words = ("--epochs", "1", "--batch", "512", "--seed", number, "--out", out)
        assert command("train", "--model", "tiny", *words)[0] == 0
    a, b, c = (safetensors.load(tmp_path / x / "snapshot.safetensors")[0] for x in "abc")
    assert a["classify.weight"].tobytes() == b["classify.weight"].tobytes()
    assert a["classify.weight"].tobytes() != c["classify.weight"].tobytes()


def test_a_function_of_ones_own_gets_what_the_metrics_get(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    got = []
    assert main(["train", *map(str, SMALL), "--out", "run"], on_epoch=got.append) == 0
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert len(got) == 3 and got == [json.loads(line) for line in lines]


def test_an_error_of_ones_own_leaves_a_run_that_goes_on(command, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ZeroDivisionError):
        main(["train", *map(str, SMALL), "--out", "run"], on_epoch=lambda epoch: 1 / 0)
    assert command("train", "--resume", "run")[0] == 0
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 3


def test_a_budget_changes_memory_and_no_result(command, tmp_path):
    def trained(name, *words):
        code, out, err = command("train", "--epochs", "1", *words, "--out", name)
        assert (code, err) == (0, "")
        peak = int(re.search(r"peak +([\d,]+) bytes", out)[1].replace(",", ""))
        tensors, _ = safetensors.load(tmp_path / name / "snapshot.safetensors")
        return peak, {k: v.tobytes() for k, v in tensors.items()}

    plain, tensors = trained("plain")
    tight, same = trained("tight", "--budget", f"{plain - 100_000}")
    assert tight <= plain - 100_000
    assert same == tensors


def test_a_budget_too_small_for_the_step_before_a_change_is_refused_at_the_start(command, tmp_path):
    words = ("train", "--model", "cnn", "--sparsity", "0.8", "--out", "run")

    def smallest(budget, *more):
        code, _, err = command(*words, *more, "--budget", str(budget))
        assert code == 2 and not (tmp_path / "run").exists()
        return int(re.search(r"smallest budget found for this step is (\d+) bytes", err)[1])

    usual = smallest(1)
    assert smallest(usual, "--dst", "rigl") > usual


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "rmsprop"])
def test_optimizers_train(command, tmp_path, optimizer):
    code, _, _ = command("train", *SMALL, "--optimizer", optimizer, "--out", "run")
    assert code == 0
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    first, _, last = (json.loads(line)["loss"] for line in lines)
    assert last < first


def test_without_matplotlib_there_is_a_hint_and_no_picture(command, monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    code, out, _ = command("train", *SMALL, "--out", "run")
    assert code == 0
    assert "pip install 'tinygrad-edge[cli]'" in out
    assert out.splitlines()[-1].startswith("test accuracy")
    assert not (tmp_path / "run" / "curves.png").exists()


def test_picture_is_a_png(tmp_path):
    for validation in (None, 0.5):
        epochs = [EpochResult(1, 11, 2.0, 0.5, 1.0, 1.0, 1, validation)]
        assert curves.draw(tmp_path / "c.png", epochs)
        assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")


def test_eval_gives_the_same_accuracy(trained, command):
    code, out, err = command("eval", "run", "--batch", "50")
    assert (code, err) == (0, "")
    assert out.splitlines()[-1] == trained.splitlines()[-1]


def test_finished_run_says_its_accuracy_again(trained, command, tmp_path, files):
    before = files(tmp_path)["run/snapshot.safetensors"]
    code, out, _ = command("train", "--resume", "run")
    assert code == 0
    assert out.splitlines()[-1] == trained.splitlines()[-1]
    assert files(tmp_path)["run/snapshot.safetensors"] == before
