"""From a folder of one's own pictures, some of them broken, to what a new picture shows."""

import json
import os
import shutil

import numpy as np
import pytest
from cli import photos
from cli.process import run

from tinygrad_edge import runtime, safetensors
from tinygrad_edge.cli import confusion
from tinygrad_edge.cli.record import EpochResult, Progress

TINY = ("--model", "tiny", "--size", "8", "--batch", "16", "--out", "run")


@pytest.fixture(scope="module")
def three_hundred(tmp_path_factory):
    return photos.make_folder(tmp_path_factory.mktemp("own") / "shapes")


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    return photos.make_folder(tmp_path_factory.mktemp("own") / "shapes", each=12)


@pytest.fixture
def trained(command, few):
    code, out, err = command("train", few, *TINY, "--epochs", 2)
    assert (code, err) == (0, "")
    return out


def lines(text):
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.skipif(runtime.current().name == "numpy", reason="takes minutes without kernels")
def test_three_hundred_pictures_are_learned_and_told_apart(command, three_hundred, tmp_path):
    words = ("--size", "32", "--epochs", "8", "--out", "run")
    code, out, err = command("train", three_hundred, *words)
    assert (code, err) == (0, "")
    assert "213 training, 24 validation and 60 test images of 3x32x32, 3 classes" in out
    for name in (*photos.BROKEN, "triangles/", "notes.txt"):
        assert f"  left out {name}: " in out
    assert float(out.split()[-1]) >= 0.8
    fresh = photos.draw("stripes", np.random.default_rng(1))
    image = pytest.importorskip("PIL.Image")
    image.fromarray(fresh).save(tmp_path / "fresh.jpg")
    code, out, err = command("predict", "run", "fresh.jpg", three_hundred / "rings")
    assert code == 2  # one ring is broken
    assert "003.jpg" in err and err.count("\n") == 1
    first, *rings = out.splitlines()
    assert first.startswith("fresh.jpg  stripes 0.")
    assert len(rings) == 99
    assert sum("  rings 0." in ring[: len(str(three_hundred)) + 28] for ring in rings) > 79


# ---- validation: the best epoch, and enough of them ----


def test_best_epoch_is_kept_and_preferred(trained, command, tmp_path):
    rows = lines((tmp_path / "run" / "metrics.jsonl").read_text())
    best = max(rows, key=lambda row: (row["val_accuracy"], row["epoch"]))
    _, metadata = safetensors.load(tmp_path / "run" / "best.safetensors")
    assert json.loads(metadata["progress"])["epochs"][-1] == best
    last = trained.splitlines()[-1]
    assert last == f"test accuracy {best['accuracy']:.4f}"
    assert command("eval", "run")[1].splitlines()[-1] == last


def result(epoch, val_accuracy):
    return EpochResult(epoch, epoch, 1.0, 0.5, 1.0, 1.0, 1, val_accuracy)


def test_of_equal_epochs_the_last_is_best_and_the_first_is_waited_from():
    accuracies = [0.5, 0.8, 0.7, 0.8, 0.6]
    progress = Progress(epochs=[result(i, a) for i, a in enumerate(accuracies, 1)])
    assert (progress.best.epoch, progress.waited()) == (4, 3)


def test_without_validation_no_epoch_is_picked():
    progress = Progress(epochs=[result(1, None), result(2, None)])
    assert progress.best.epoch == 2


def test_patience_ends_the_run_and_a_resumed_one(command, few, tmp_path):
    words = ("--epochs", 50, "--patience", 2, "--lr", "1e-9")
    code, out, _ = command("train", few, *TINY, *words)
    assert code == 0
    rows = lines((tmp_path / "run" / "metrics.jsonl").read_text())
    waited = [row["val_accuracy"] <= rows[-3]["val_accuracy"] for row in rows[-2:]]
    assert len(rows) < 50 and waited == [True, True]
    again = command("train", "--resume", "run")
    assert again[0] == 0 and again[1].splitlines()[-1] == out.splitlines()[-1]


# ---- imbalance ----


@pytest.mark.parametrize("images, weighed", [((24, 8), False), ((25, 8), True)])
def test_classes_count_alike_above_three_to_one(command, tmp_path, images, weighed):
    labels = np.repeat([0, 1], images)
    x = np.random.default_rng(0).integers(0, 256, (len(labels), 8, 8), np.uint8)
    held = np.array([0, 1])
    parts = {f"{part}_images": x[:2] for part in ("test", "val")}
    parts |= {f"{part}_labels": held for part in ("test", "val")}
    np.savez(tmp_path / "own.npz", train_images=x, train_labels=labels, **parts)
    words = ("--model", "tiny", "--epochs", 1, "--batch", 8)
    code, out, _ = command("train", "own.npz", *words)
    assert code == 0
    assert ("all classes count alike" in out) is weighed


# ---- weights to begin with ----


def test_frozen_weights_stay_and_need_no_memory(trained, command, few, tmp_path):
    words = ("--init", "run", "--epochs", 1, "--model", "tiny", "--size", 8, "--batch", 16)
    free = command("train", few, *words, "--out", "free", "--json")
    frozen = command("train", few, *words, "--out", "frozen", "--freeze", "--json")
    assert free[0] == frozen[0] == 0
    assert lines(frozen[1])[0]["peak_bytes"] < lines(free[1])[0]["peak_bytes"]
    before, _ = safetensors.load(tmp_path / "run" / "best.safetensors")
    after, _ = safetensors.load(tmp_path / "frozen" / "snapshot.safetensors")
    changed = {n for n, t in before.items() if t.tobytes() != after[n].tobytes()}
    assert changed == {"classify.weight", "classify.bias"}
    moments = {name for name in after if name.endswith(".momentum")}
    assert moments == {f"optimizer/{name}.momentum" for name in changed}
    assert command("train", "--resume", "frozen")[0] == 0


def test_weights_for_other_classes_give_all_but_the_head(trained, command, few, tmp_path):
    (tmp_path / "two").mkdir()
    for kind in photos.CLASSES[:2]:
        (tmp_path / "two" / kind).symlink_to(few / kind)
    words = (*TINY[:-1], "other", "--epochs", 1, "--init", "run")
    code, out, _ = command("train", "two", *words, "--freeze")
    assert code == 0
    assert "the last layer alone is trained; begun anew: classify.weight, classify.bias" in out


def test_weights_of_another_model_are_refused(trained, command, tmp_path):
    words = ("--model", "tiny", "--epochs", 1, "--batch", 512, "--out", "digits")
    code, _, err = command("train", *words, "--init", "run")
    assert code == 2 and "conv.weight is [4, 1, 3, 3], got [4, 3, 3, 3]" in err
    code, _, err = command("train", *words, "--freeze")
    assert code == 2 and "name them with --init" in err
    assert not (tmp_path / "digits").exists()


# ---- predict ----


def test_grey_turned_and_deep_pictures_are_read(trained, command, tmp_path):
    image = pytest.importorskip("PIL.Image")
    picture = photos.draw("discs", np.random.default_rng(2))
    turned = image.fromarray(np.rot90(picture).copy())
    exif = turned.getexif()
    exif[0x0112] = 6  # to be turned a quarter clockwise
    upright = image.fromarray(picture)
    upright.save(tmp_path / "upright.png")
    turned.save(tmp_path / "turned.png", exif=exif)
    upright.convert("L").save(tmp_path / "grey.png")
    deep = np.asarray(upright.convert("L")).astype(np.uint16) * 256 + 99
    image.fromarray(deep).save(tmp_path / "deep.png")
    names = ("upright", "turned", "grey", "deep")
    code, out, err = command("predict", "run", *(f"{n}.png" for n in names), "--json")
    assert (code, err) == (0, "")
    upright, turned, grey, deep = (row["classes"] for row in lines(out))
    assert upright == pytest.approx(turned, abs=0.01)  # scaled before it is turned
    assert grey == deep != upright
    assert list(upright) == sorted(upright, key=upright.get, reverse=True)
    assert sum(upright.values()) == pytest.approx(1, abs=2e-4)


def test_what_is_no_picture_is_told_after_the_others_are_predicted(trained, command, few):
    places = ("absent.jpg", few / "notes.txt", few / "discs" / "001.jpg")
    code, out, err = command("predict", "run", *places)
    assert code == 2
    assert out.count("\n") == 1 and out.startswith(f"{few / 'discs' / '001.jpg'}  ")
    assert [line.split(":")[0] for line in err.splitlines()] == ["tinygrad-edge"] * 2
    code, out, _ = command("predict", "run", *places, "--json")
    rows = lines(out)
    assert code == 2
    assert sorted("error" in row for row in rows) == [False, True, True]


def test_empty_folder_and_a_model_of_no_pictures_are_refused(command, tmp_path, trained):
    (tmp_path / "empty" / ".hidden").mkdir(parents=True)
    code, _, err = command("predict", "run", "empty")
    assert code == 2 and "there is no picture in empty" in err
    x, labels = np.zeros((8, 2, 8, 8), np.uint8), np.arange(8) % 2
    np.savez(tmp_path / "own.npz", x=x, y=labels)
    words = ("--model", "tiny", "--epochs", 1, "--out", "two")
    assert command("train", "own.npz", *words)[0] == 0
    code, _, err = command("predict", "two", "x.png")
    assert code == 2 and "was trained on 2x8x8, which is no picture" in err


# ---- eval ----


def test_eval_counts_add_up(trained, command, tmp_path):
    code, out, err = command("eval", "run", "--json")
    assert (code, err) == (0, "")
    (row,) = lines(out)
    counts = np.array(row["confusion"])
    assert counts.sum() == row["images"]
    assert row["accuracy"] == np.trace(counts) / row["images"]
    assert list(row["recall"]) == list(photos.CLASSES)
    assert list(row["recall"].values()) == [c[i] / c.sum() for i, c in enumerate(counts)]
    assert (tmp_path / "run" / "confusion.png").read_bytes().startswith(b"\x89PNG")


def test_eval_shows_a_table_and_puts_the_picture_where_it_is_told(trained, command, tmp_path):
    pytest.importorskip("rich")
    (tmp_path / "pictures").mkdir()
    out = command("eval", "run", "--out", "pictures")[1]
    rows = [line.split() for line in out.splitlines()]
    (row,) = [row for row in rows if row[:2] == ["1", "rings"]]
    assert len(row) == 2 + 3 + 1
    assert (tmp_path / "pictures" / "confusion.png").exists()
    assert not (tmp_path / "run" / "confusion.png").exists()


def test_matrix_is_drawn_whatever_the_classes_are_called(tmp_path):
    names = ["\udce9t\udce9", "\u82b1", "$x_", "[bold]"]
    assert confusion.draw(tmp_path / "c.png", np.eye(4, dtype=int), names)


def test_table_cuts_nothing_short(capsys):
    pytest.importorskip("rich")
    names = [f"a long name of class {i}" for i in range(40)]
    assert confusion.table(np.full((40, 40), 98765), names)
    rows = [row.split() for row in capsys.readouterr().out.splitlines() if "98765" in row]
    assert rows == [[str(i), *names[i].split(), *["98765"] * 40, "0.0250"] for i in range(40)]


def test_names_that_are_no_text_are_printed_all_the_same(trained, few, tmp_path):
    name = os.fsdecode(b"\xff.jpg")
    try:
        shutil.copy(few / "discs" / "001.jpg", tmp_path / name)
    except (OSError, UnicodeError):
        pytest.skip("this file system has no such names")
    env = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}
    code, out, err = run("predict", "run", name, folder=tmp_path, env=env)
    assert (code, err) == (0, "")
    assert out.startswith("\\udcff.jpg  ")


def test_eval_that_cannot_draw_says_so_and_gives_the_numbers(trained, command):
    code, out, _ = command("eval", "run", "--out", "nowhere")
    assert code == 0
    *_, why, last = out.splitlines()
    assert why == "no confusion.png: cannot write nowhere/confusion.png: No such file or directory"
    assert last == trained.splitlines()[-1]


def test_eval_without_extras_gives_the_recalls(trained, command, monkeypatch):
    for module in ("rich.box", "rich.console", "rich.table", "matplotlib.figure"):
        monkeypatch.setitem(__import__("sys").modules, module, None)
    out = command("eval", "run")[1]
    assert out.count("pip install 'tinygrad-edge[cli]'") == 2
    assert sum(line.startswith("recall ") for line in out.splitlines()) == 3


def test_eval_refuses_other_classes(trained, command, few, tmp_path):
    for kind, other in zip(photos.CLASSES, "abc", strict=True):
        (tmp_path / "others").mkdir(exist_ok=True)
        (tmp_path / "others" / other).symlink_to(few / kind)
    code, _, err = command("eval", "run", "others")
    assert code == 2 and "(discs, rings, stripes)" in err and "(a, b, c)" in err


# ---- for scripts ----


def test_json_gives_an_object_for_each_epoch_and_one_at_the_end(command, few):
    code, out, err = command("train", few, *TINY, "--epochs", 2, "--json")
    assert (code, err) == (0, "")
    first, second, end = lines(out)
    assert (first["epoch"], second["epoch"]) == (1, 2)
    assert end["finished"] is True and end["run"] == "run"
    assert end["accuracy"] in (first["accuracy"], second["accuracy"])
