"""plan.why against lives and readers counted another way; diff, table and files."""

import json

import numpy as np
import pytest

import tinygrad_edge as te
from tinygrad_edge.dtypes import float32
from tinygrad_edge.errors import DataError, GraphError
from tinygrad_edge.graph import Graph, new_input
from tinygrad_edge.op import TensorType
from tinygrad_edge.ops import add, relu, sum_
from tinygrad_edge.ops.loop import loop
from tinygrad_edge.plan import make_plan
from tinygrad_edge.policy import Checkpoint, Default, Recompute, Store


def residual_plan(policies):
    te.manual_seed(0)
    model = te.models.resnet18(num_classes=10)
    optimizer = te.optim.SGD(model.parameters(), 0.1, momentum=0.9)

    @te.compile(policies=policies)
    def step(x, y):
        loss = te.functional.cross_entropy(model(x), y)
        optimizer.minimize(loss)
        return loss

    return step.plan(np.zeros((4, 3, 32, 32), np.float32), np.zeros(4, np.int32))


@pytest.fixture(scope="module")
def checkpointed():
    return residual_plan([Checkpoint(every=2)])


def life_by_calls(plan, value):
    """First and last call that touch a value, and which read it: by following every operand."""

    def means(v):
        while v.node.op.alias:
            v = v.node.inputs[0]
        return v

    making = [i for i, c in enumerate(plan.calls) if value in c.node.outputs and c.moves is None]
    reading = [i for i, c in enumerate(plan.calls) if any(means(v) is value for v in c.node.inputs)]
    return making[0], max(making + reading), reading


def ten_values(plan):
    """Values of all sorts: kept, made again, passed by, gradients; of several parts."""
    marked = plan.graph.causes
    originals = {n.origin: n for n in reversed(plan.graph.nodes)}
    again = sorted(marked["again"], key=lambda v: v.node.number)
    kept = sorted(marked["kept"], key=lambda v: v.node.number)
    dropped = [originals[v.node.origin].outputs[v.index] for v in again]
    gradients = [e.value for e in plan.live() if e.kind == "gradient"]
    return [*kept[:3], *again[5:8], *dropped[5:7], *gradients[:2]]


def test_why_agrees_with_lives_counted_by_calls(checkpointed):
    plan = checkpointed
    values = ten_values(plan)
    assert len(set(values)) == 10
    for value in values:
        why = plan.why(value)
        first, last, reading = life_by_calls(plan, value)
        assert (why.made, why.last_use) == (first, last), str(why)
        assert [int(r.split()[1]) for r in why.readers] == reading
        # Its bytes are its own from the first call to the last, and no longer.
        for call, there in ((first, True), (last, True), (first - 1, False), (last + 1, False)):
            if call < len(plan.calls):
                live = {e.value for e in plan.live(plan.calls[call].time)}
                assert (value in live) == there, (call, str(why))


@pytest.mark.parametrize("policies", [[], None, [Default(), Checkpoint()]])
def test_every_life_in_the_arena_is_as_long_as_its_readers_say(policies):
    plan = residual_plan(policies)
    values = [v for b in plan.storage.buffers for _, v in b.lives]
    assert len(values) > 200
    shared = [b for b in plan.storage.buffers if len(b.lives) > 1]
    assert shared  # what is written over what dies there ends where that begins
    for value in values:
        why = plan.why(value)
        assert (why.made, why.last_use) == life_by_calls(plan, value)[:2], str(why)
    for value in (v for n in plan.graph.nodes for v in n.outputs):
        assert plan.why(value).made <= plan.why(value).last_use


def test_why_names_the_policy(checkpointed):
    plan, policy = checkpointed, repr(Checkpoint(every=2))
    kept, again, dropped = (plan.why(ten_values(plan)[i]) for i in (0, 3, 6))
    assert kept.cause == f"kept for the backward part: {policy}"
    assert again.cause.startswith("made again in the backward part") and policy in again.cause
    assert dropped.cause.startswith("not kept: call ") and policy in dropped.cause
    assert int(dropped.cause.split()[3]) > dropped.last_use
    assert "test_why.py:" in kept.source
    stored = residual_plan([Default(), Store("float16")])
    halves = [s for s in stored.saved() if s.dtype == "float16"]
    assert halves and all(repr(Store("float16")) in stored.why(s).cause for s in halves)
    bits = residual_plan([Default(), Store("bitmask")])
    packed = next(s for s in bits.saved() if s.name == "maxpool.pack")
    unpacked = next(v for v in bits.graph.causes["stored"] if v.node.part == "backward")
    assert repr(Store("bitmask")) in bits.why(packed).cause
    assert bits.reasons.original(unpacked).shape == unpacked.shape
    assert "no policy" in residual_plan([]).why("conv1.conv2d").cause


def test_what_dropping_saves_and_costs_is_what_a_plan_without_it_has():
    plan, without = residual_plan([]), residual_plan([Recompute(where="conv1")])
    why = plan.why("conv1.conv2d")
    peaks = [max(p.ledger.live_bytes()) for p in (plan, without)]
    assert 0 < why.saves == peaks[0] - peaks[1]
    assert 0 < why.flops == plan.diff(without).flops
    assert "less at the peak" in str(why)


def test_a_name_means_one_value_or_is_refused(checkpointed):
    plan = checkpointed
    label = next(e for e in plan.live() if e.value is not None)
    number = plan.why(label).name.split()[0]
    assert plan.why(number) == plan.why(label)
    assert plan.why("fc.weight").kind == "parameter"
    assert plan.why("layer1.0.conv1.conv2d").part == "forward"  # not its copy
    with pytest.raises(GraphError, match=r"2 values are called 'bn1.chain': say which of %\d+, "):
        plan.why("bn1.chain")
    with pytest.raises(GraphError, match="no value of this plan is called 'nothing'"):
        plan.why("nothing")
    with pytest.raises(GraphError, match="is not in this plan"):
        plan.why(new_input(TensorType((2,), float32)))


def test_diff_counts_bytes_calls_and_values(checkpointed):
    before = residual_plan([])
    difference = before.diff(checkpointed)
    assert difference.peak_bytes == checkpointed.peak_bytes - before.peak_bytes < 0
    assert sum(difference.by_kind().values()) == difference.peak_bytes
    assert difference.flops > 0
    gone, new = difference.saved()
    assert len(gone) - len(new) == len(before.saved()) - len(checkpointed.saved())
    text = str(difference)
    assert f"{difference.peak_bytes:+,}" in text and "saved before alone" in text
    columns = difference.aligned()
    for side, plan in enumerate((before, checkpointed)):
        assert [c[side] for c in columns if c[side] is not None] == list(range(len(plan.calls)))
    # With checkpoints alone, nothing is left out or elsewhere: all that is new is made again.
    assert sum(None not in c for c in columns) == len(before.calls)
    assert all(
        before.calls[i].kernel.name == checkpointed.calls[j].kernel.name
        for i, j in columns
        if i is not None and j is not None
    )
    assert before.diff(before).peak_bytes == 0 and before.diff(before).saved() == ([], [])


def test_files_have_what_their_suffix_says(checkpointed, tmp_path):
    before = residual_plan([])
    for shown in (checkpointed, before.diff(checkpointed)):
        for name, begins in (
            ("a.html", b"<!doctype html>"),
            ("a.json", b"{"),
            ("a.png", b"\x89PNG"),
            ("a.svg", b"<?xml"),
        ):
            shown.save(tmp_path / name)
            assert (tmp_path / name).read_bytes().startswith(begins)
        assert "<iframe" in shown._repr_html_()
    with pytest.raises(DataError, match=r"ends in .html, .svg, .png or .json, got 'a.pdf'"):
        checkpointed.save(tmp_path / "a.pdf")


def test_a_step_without_calls_is_a_plan_too(tmp_path):
    plan = te.compile(lambda x: None).plan(np.ones(3, np.float32))
    assert plan.calls == [] and plan.table().endswith("(0 B)")
    plan.diff(plan).save(tmp_path / "plan.html")
    with pytest.raises(DataError, match="calls no kernel"):
        plan.save(tmp_path / "plan.png")


@pytest.mark.parametrize("function", [lambda x: x, lambda x: x * 2.0])
def test_a_step_without_an_arena_is_a_plan_like_others(function, tmp_path):
    plan = te.compile(function).plan(np.ones((2, 3), np.float32))
    assert plan.arena_bytes == 0
    assert plan.table().endswith(f"({plan.peak_bytes} B)")
    for suffix in ("html", "json", "svg", "png"):
        plan.save(tmp_path / f"plan.{suffix}")
        plan.diff(plan).save(tmp_path / f"same.{suffix}")


def test_the_data_sum_up_to_the_ledger(checkpointed, tmp_path):
    checkpointed.save(tmp_path / "plan.json")
    told = json.loads((tmp_path / "plan.json").read_text())["plans"][0]
    live = np.zeros(len(told["calls"]), np.int64)
    for buffer in told["buffers"]:
        live[buffer["first"] : buffer["last"] + 1] += buffer["nbytes"]
    ledger = checkpointed.ledger.live_bytes()
    assert live.tolist() == [ledger[c.time] for c in checkpointed.calls]
    assert sum(told["by_kind"].values()) == told["peak_bytes"] == checkpointed.peak_bytes


def test_the_calls_of_a_loop_are_shown_once(tmp_path):
    x, total = new_input(TensorType((6, 4), float32)), new_input(TensorType((4,), float32))
    part, carried = new_input(TensorType((2, 4), float32)), new_input(TensorType((4,), float32))
    body = Graph([add(carried, sum_(relu(part), 0))], (), [part, carried])
    plan = make_plan(Graph([relu(loop(body, 3, [], [x], [total])[0])], (), [x, total]))
    rows = plan.table().splitlines()[2 : 2 + len(plan.calls)]
    assert sum("loop x 3" in row for row in rows) == 1
    assert sum(f"  {'  '}sum_f32" in row for row in rows) == 1
    for moment in plan.storage.moments:
        for value in moment.node.outputs:
            assert plan.why(value).made <= plan.why(value).last_use
    plan.save(tmp_path / "loop.json")
    plan.save(tmp_path / "loop.html")
    plan.save(tmp_path / "loop.svg")


def test_the_table_is_aligned_and_stars_what_is_saved(checkpointed):
    head, rule, *rows = checkpointed.table().split("\n\n")[0].splitlines()
    assert set(rule) == {"-"}
    at = head.index("live") + 4
    assert all(row[at - 1].isdigit() for row in rows)
    computed = [s for s in checkpointed.saved() if s.value.node.inputs and s.value.index == 0]
    text = "\n".join(rows)
    assert computed and all(f"{checkpointed.why(s).name.split()[0]}* " in text for s in computed)
