"""profile: memory block by block."""

import json

import numpy as np
import pytest

import tinygrad_edge as te
from tinygrad_edge.cli.blocks import block_of, blocks


def profiled(command, *words):
    code, out, err = command("profile", *words, "--json")
    assert (code, err) == (0, "")
    *rows, last = map(json.loads, out.splitlines())
    return {row["name"]: row for row in rows}, last


def test_the_sensitive_blocks_of_mobilenet_v2_are_the_first_four(command):
    """Figure 1 of Yoosefi et al. 2023: frozen, beside a side network that saves 1.9 MB."""
    words = ("mobilenet_v2", "--size", "3x224x224", "--batch", "1", "--freeze", "features.*")
    rows, last = profiled(command, *words, "--saved", "1.9MB")
    assert last["sensitive"] == [f"features.{i}" for i in (1, 2, 3, 4)]
    assert last["peak_block"] == "features.2"
    # The widened map beside that of half its height and width; the paper has 5.72 MB.
    wide = 4 * 96 * (112**2 + 56**2)
    assert wide <= rows["features.2"]["peak"] < 1.002 * wide
    assert wide / 2**20 == pytest.approx(5.72, rel=0.005)


def test_nothing_is_sensitive_where_everything_is_saved(command):
    rows, last = profiled(command, "resnet18", "--batch", "2", "--size", "3x32x32")
    assert last["sensitive"] == []
    saved = [row["saved"] for row in rows.values()]
    assert saved == sorted(saved) and saved[-1] == last["saved"]


def test_a_table_and_a_picture(command, tmp_path):
    code, out, _ = command("profile", "lenet", "--out", str(tmp_path / "blocks.png"))
    assert code == 0
    assert out.splitlines()[0].split() == ["block", "temporary", "workspace", "saved", "peak"]
    assert sum("<- peak" in line for line in out.splitlines()) == 1
    assert (tmp_path / "blocks.png").read_bytes().startswith(b"\x89PNG")
    code, _, err = command("profile", "lenet", "--saved", "much")
    assert code == 2 and "expected bytes such as" in err


@pytest.mark.parametrize(
    "path, block",
    [("features.2.conv.0.0", "features.2"), ("conv1", "conv1"), ("fc", "fc"), ("", "loss")],
)
def test_blocks_end_at_the_first_number(path, block):
    assert block_of(path) == block


def test_the_peak_of_a_plan_is_that_of_a_block():
    model = te.models.lenet()
    optimizer = te.optim.SGD(model.parameters(), 0.1)

    @te.compile(policies=[])
    def step(x, y):
        loss = te.functional.cross_entropy(model(x), y)
        optimizer.minimize(loss)
        return loss

    plan = step.plan(np.zeros((8, 1, 28, 28), np.float32), np.zeros(8, np.int32))
    assert max(b.peak for b in blocks(plan)) == max(plan.ledger.live_bytes())
