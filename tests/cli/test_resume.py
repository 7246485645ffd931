"""A run that was stopped ends as if it had not been."""

import json
import os
import re
import signal

import pytest
from cli import photos
from cli.process import SMALL, run

from tinygrad_edge import runtime, safetensors

RUN = ("train", *SMALL, "--out", "run")
RESUME = ("train", "--resume", "run")


def results(folder, snapshots=("snapshot",)):
    """All tensors as bytes, and what each epoch measured besides the time."""
    files = [safetensors.load(folder / "run" / f"{name}.safetensors")[0] for name in snapshots]
    lines = (folder / "run" / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    names = ("epoch", "step", "loss", "accuracy", "val_accuracy", "value", "before", "after", "why")
    names += ("layer", "pruned", "grown", "nonzeros")
    measured = [[row.get(name) for name in names] for row in rows]
    return [{name: t.tobytes() for name, t in tensors.items()} for tensors in files], measured


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    code, out, err = run(*RUN, "--threads", 1, folder=folder)
    assert (code, err) == (0, "")
    return results(folder), out.splitlines()[-1]


def killed(*point, words=RUN, folder):
    assert run("SIGKILL", *point, *words, folder=folder)[0] == -signal.SIGKILL


def test_killed_run_ends_with_the_same_bits_whatever_the_threads(undisturbed, tmp_path):
    killed("step", 1, words=(*RUN, "--threads", 3), folder=tmp_path)  # epoch 1, before step 1
    killed("step", 5, words=(*RESUME, "--threads", 2), folder=tmp_path)  # before step 5
    killed("replace", 4, words=(*RESUME, "--threads", 3), folder=tmp_path)  # while saving step 7
    killed("append", 1, words=(*RESUME, "--threads", 1), folder=tmp_path)  # epoch 1 is tested
    killed("save", 1, words=(*RESUME, "--threads", 2), folder=tmp_path)  # and in the metrics
    killed("step", 15, words=(*RESUME, "--threads", 2), folder=tmp_path)  # in epoch 2
    code, out, err = run(*RESUME, "--threads", 3, folder=tmp_path)
    assert (code, err) == (0, "")
    assert results(tmp_path) == undisturbed[0]
    assert out.splitlines()[-1] == undisturbed[1]
    assert len(list((tmp_path / "run").iterdir())) == 3  # nothing half-written is left


def test_killed_run_on_augmented_pictures_ends_with_the_same_bits(tmp_path):
    """Batches come from the prefetch thread, each picture flipped, cut and lit by chance."""
    pictures = photos.make_folder(tmp_path / "shapes", each=24)
    words = ("train", pictures, "--model", "tiny", "--size", 8, "--epochs", 3, "--batch", 8)
    expected, found = tmp_path / "undisturbed", tmp_path / "disturbed"
    expected.mkdir()
    found.mkdir()
    assert run(*words, "--out", "run", folder=expected)[0] == 0
    killed("step", 4, words=(*words, "--out", "run"), folder=found)  # in epoch 1 of 6 steps
    killed("step", 5, words=RESUME, folder=found)  # in epoch 2
    killed("replace", 7, words=RESUME, folder=found)
    killed("append", 1, words=RESUME, folder=found)  # of epoch 2, or 3
    assert run(*RESUME, folder=found)[0] == 0
    snapshots = ("snapshot", "best")
    assert results(found, snapshots) == results(expected, snapshots)
    assert not list((found / "run").glob(".*"))


@pytest.mark.skipif(runtime.current().name == "numpy", reason="it runs a step to its end")
@pytest.mark.parametrize("nth, steps", [(5, 2), (23, 11)])  # in step 3 of two runs; in the test
def test_interrupt_among_kernels_undoes_the_step(undisturbed, tmp_path, nth, steps):
    code, out, err = run("SIGINT", "kernels", nth, *RUN, folder=tmp_path)
    assert (code, err) == (130, "")
    assert out.splitlines()[-1] == "stopped; continue with: tinygrad-edge train --resume run"
    _, metadata = safetensors.load(tmp_path / "run" / "snapshot.safetensors")
    progress = json.loads(metadata["progress"])
    assert (progress["batch"], progress["epochs"]) == (steps, [])
    assert run(*RESUME, folder=tmp_path)[0] == 0
    assert results(tmp_path) == undisturbed[0]


def test_interrupted_run_finishes_its_step_and_says_how_to_continue(undisturbed, tmp_path):
    code, out, err = run("SIGINT", "step", 5, *RUN, folder=tmp_path)
    assert (code, err) == (130, "")
    assert out.splitlines()[-1] == "stopped; continue with: tinygrad-edge train --resume run"
    _, metadata = safetensors.load(tmp_path / "run" / "snapshot.safetensors")
    assert json.loads(metadata["progress"])["batch"] == 5
    assert run(*RESUME, folder=tmp_path)[0] == 0
    assert results(tmp_path) == undisturbed[0]


def test_interrupted_test_of_an_epoch_is_finished(undisturbed, tmp_path):
    code, _, err = run("SIGINT", "append", 1, *RUN, folder=tmp_path)
    assert (code, err) == (130, "")
    assert run(*RESUME, folder=tmp_path)[0] == 0
    assert results(tmp_path) == undisturbed[0]


def test_second_interrupt_ends_at_once_and_loses_what_no_snapshot_holds(undisturbed, tmp_path):
    code, out, err = run("SIGINT,SIGINT", "step", 15, *RUN, folder=tmp_path)
    assert (code, err) == (130, "")
    assert out.splitlines()[-1] == "stopped; continue with: tinygrad-edge train --resume run"
    _, metadata = safetensors.load(tmp_path / "run" / "snapshot.safetensors")
    progress = json.loads(metadata["progress"])
    assert (len(progress["epochs"]), progress["batch"]) == (1, 0)
    assert run(*RESUME, folder=tmp_path)[0] == 0
    assert results(tmp_path) == undisturbed[0]


def test_torn_and_superfluous_lines_are_repaired(undisturbed, tmp_path):
    killed("step", 15, folder=tmp_path)
    with open(tmp_path / "run" / "metrics.jsonl", "a") as file:
        file.write('{"epoch": 2, "step": 22, "loss": 9, "accuracy": 0}\n{"epoch": 3, "st')
    assert run(*RESUME, folder=tmp_path)[0] == 0
    assert results(tmp_path) == undisturbed[0]


def test_lost_lines_are_written_again(undisturbed, tmp_path):
    killed("step", 15, folder=tmp_path)
    os.unlink(tmp_path / "run" / "metrics.jsonl")
    assert run("train", "--resume", "run/snapshot.safetensors", folder=tmp_path)[0] == 0
    assert results(tmp_path) == undisturbed[0]


@pytest.mark.parametrize(
    "words, said",
    [
        (["--model", "lenet"], "has model tiny, not lenet"),
        (["mnist"], "has data digits, not mnist"),
        (["--epochs", "4"], "has epochs 1, not 4"),
        (["--seed", "7"], "has seed 0, not 7"),
        (["--out", "other"], "stays in its folder"),
    ],
)
def test_resumed_run_keeps_its_settings(tmp_path, command, files, words, said):
    command("train", "--model", "tiny", "--epochs", 1, "--batch", 512, "--out", "run")
    before = files(tmp_path)
    code, out, err = command("train", *words, "--resume", "run")
    assert (code, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1
    assert files(tmp_path) == before


def test_a_run_keeps_a_budget_that_may_change_its_results(tmp_path):
    """It is a setting then: a resumed run has it without being told."""
    begun = ("train", *SMALL, "--out", "run")
    code, _, err = run(*begun, "--budget", 1, folder=tmp_path)
    assert code == 2
    smallest = int(re.search(r"smallest budget found for this step is (\d+) bytes", err)[1])
    words = (*begun, "--budget", smallest - 1, "--allow", "microbatch_bn")
    expected, found = tmp_path / "undisturbed", tmp_path / "disturbed"
    expected.mkdir()
    found.mkdir()
    code, out, err = run(*words, folder=expected)
    assert (code, err) == (0, "") and "chosen besides: Microbatch(" in out
    killed("step", 5, words=words, folder=found)
    assert run(*RESUME, folder=found)[0] == 0
    assert results(found) == results(expected)
    code, _, err = run(*RESUME, "--budget", "1GB", "--allow", "float16", folder=found)
    assert code == 2 and "keeps its settings" in err


def test_decisions_about_precision_are_told_once_each(tmp_path):
    words = ("train", "--model", "cnn", "--epochs", 2, "--batch", 128, "--precision", "adaptive")
    begun = (*words, "--out", "run")
    expected, found = tmp_path / "undisturbed", tmp_path / "disturbed"
    expected.mkdir()
    found.mkdir()
    assert run(*begun, folder=expected)[0] == 0
    tensors, lines = results(expected)
    steps = [step for epoch, step, *_ in lines if epoch is None]
    assert 1 in steps and 5 in steps and {len(line) for line in lines} == {13}
    killed("append", 1, words=begun, folder=found)  # the decisions of step 1 are in no file
    killed("replace", 7, words=RESUME, folder=found)  # those of step 5 in the metrics alone
    assert (found / "run" / "metrics.jsonl").read_text().count('"step": 5') == steps.count(5)
    killed("step", 9, words=RESUME, folder=found)
    code, out, _ = run(*RESUME, folder=found)
    assert code == 0 and "AdaptivePrecision(" in out and "none has moved" not in out
    assert results(found) == (tensors, lines)
    code, _, err = run(*RESUME, "--precision", "int8", folder=found)
    assert code == 2 and "has precision adaptive, not int8" in err


@pytest.mark.parametrize("algorithm", ["dsr", "rigl"])  # whose state is more than a count
def test_sparse_weights_move_on_as_if_nothing_had_happened(algorithm, tmp_path):
    words = ("train", "--model", "cnn", "--epochs", 2, "--batch", 128, "--out", "run")
    begun = (*words, "--sparsity", 0.8, "--dst", algorithm)
    expected, found = tmp_path / "undisturbed", tmp_path / "disturbed"
    expected.mkdir()
    found.mkdir()
    code, out, err = run(*begun, folder=expected)
    assert (code, err) == (0, "") and f"layers; {algorithm} moves them" in out
    tensors, lines = results(expected)
    grown = [line[11] for line in lines if line[9] is not None]
    assert any(grown) and len(grown) > 5
    killed("append", 2, words=begun, folder=found)
    killed("step", 9, words=RESUME, folder=found)
    assert run(*RESUME, folder=found)[0] == 0
    assert results(found) == (tensors, lines)
    code, out, _ = run("eval", "run", folder=found)
    assert code == 0 and out.splitlines()[-1] == f"test accuracy {lines[-1][3]:.4f}"


def test_weights_to_begin_with_are_pruned_by_magnitude(tmp_path):
    dense = ("train", "--model", "cnn", "--batch", 128)
    assert run(*dense, "--epochs", 2, "--out", "dense", folder=tmp_path)[0] == 0
    sparse = (*dense, "--init", "dense", "--sparsity", 0.5)
    code, out, err = run(*sparse, "--epochs", 1, "--lr", 1e-9, "--out", "run", folder=tmp_path)
    assert (code, err) == (0, "")
    before, _ = safetensors.load(tmp_path / "dense" / "snapshot.safetensors")
    after, _ = safetensors.load(tmp_path / "run" / "snapshot.safetensors")
    layers = [name for name in before if name not in after and "/" not in name]
    largest = max(abs(before[name]).max() for name in layers)
    assert abs(after["sparse.values"]).max() == pytest.approx(largest, rel=1e-4)
