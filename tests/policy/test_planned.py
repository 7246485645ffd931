"""Decisions are saved, taken again elsewhere, and refused for another step."""

import json

import pytest
from policy.test_budget import Step, smallest

from tinygrad_edge.errors import FileError, GraphError
from tinygrad_edge.policy import (
    Budget,
    Checkpoint,
    Default,
    Microbatch,
    Planned,
    save_decisions,
)

NAME = "mobilenet_v1_patch"


@pytest.fixture(scope="module")
def budgeted(tmp_path_factory):
    path = tmp_path_factory.mktemp("plans") / "decisions.json"
    step = Step(NAME, [Budget(int(1.1 * smallest(NAME)))])
    save_decisions(step.plan, path)
    return step, path


def test_another_step_alike_takes_the_same_decisions(budgeted):
    step, path = budgeted
    again = Step(NAME, [Planned(path)])
    assert [c.kernel for c in again.plan.calls] == [c.kernel for c in step.plan.calls]
    assert again.plan.peak_bytes == step.plan.peak_bytes
    assert again.trained() == step.trained()


def test_what_a_budget_chose_besides_is_saved_too(tmp_path):
    path = tmp_path / "decisions.json"
    plan = Step(NAME, [Budget(smallest(NAME) - 1, "microbatch_bn")]).plan
    save_decisions(plan, path)
    assert json.loads(path.read_text())["besides"][0][0] == "Microbatch"
    assert Step(NAME, [Planned(path)]).plan.peak_bytes == plan.peak_bytes


@pytest.mark.parametrize("form, besides", [("float16", []), ("int8", [Microbatch(2)])])
def test_formats_that_a_budget_chose_are_saved(tmp_path, form, besides):
    path = tmp_path / "decisions.json"
    default = Step(NAME, [Default(), *besides]).plan
    budget = default.peak_bytes - default.arena_bytes // 5
    step = Step(NAME, [Budget(budget, form), *besides])
    save_decisions(step.plan, path)
    assert {name for *_, name in json.loads(path.read_text())["stored"]} == {form}
    again = Step(NAME, [Planned(path), *besides])
    assert [c.kernel for c in again.plan.calls] == [c.kernel for c in step.plan.calls]
    assert again.trained() == step.trained()


def test_decisions_about_another_step_are_refused(budgeted):
    with pytest.raises(GraphError, match="about another step"):
        _ = Step("cnn", [Planned(budgeted[1])]).plan
    smaller = Step(NAME, [Planned(budgeted[1])])
    with pytest.raises(GraphError, match="about another step"):
        smaller.run.plan(smaller.x[:2], smaller.y[:2])


def test_a_file_of_something_else_is_refused(tmp_path, budgeted):
    right = json.loads(budgeted[1].read_text())
    for i, wrong in enumerate(
        ("", "{", "[]", "{}", "\N{SNOWMAN}")
        + tuple(
            json.dumps({**right, **changed})
            for changed in (
                {"again": [[0, -1]]},
                {"anew": [[0, 1]]},
                {"besides": [["Page", {}]]},
                {"stored": [[0, 0]]},
                {"besides": [["Microbatch", {"size": 1}]]},
                {"besides": [["Microbatch", {"n": -1}]]},
            )
        )
    ):
        path = tmp_path / f"{i}.json"
        path.write_text(wrong, encoding="utf-8")
        with pytest.raises(FileError, match="is no file of decisions"):
            Planned(path)
    with pytest.raises(FileError, match="cannot read"):
        Planned(tmp_path / "absent.json")


def test_places_that_are_not_in_the_graph_are_refused(tmp_path, budgeted):
    path = tmp_path / "decisions.json"
    path.write_text(json.dumps({**json.loads(budgeted[1].read_text()), "again": [[10**6, 0]]}))
    with pytest.raises(GraphError, match="not in the step"):
        _ = Step(NAME, [Planned(path)]).plan


def test_plans_without_a_budget_have_decisions_as_well(tmp_path):
    plan = Step("lenet", None).plan
    save_decisions(plan, tmp_path / "default.json")
    same = Step("lenet", [Planned(tmp_path / "default.json")]).plan
    assert same.peak_bytes == plan.peak_bytes and len(same.calls) == len(plan.calls)
    assert [s.shape for s in same.saved()] == [s.shape for s in plan.saved()]


def test_nothing_else_decides_beside_it(budgeted):
    for rival in (Budget("1GB"), Checkpoint()):
        with pytest.raises(GraphError, match="decides how each value crosses: leave out"):
            Step(NAME, [Planned(budgeted[1]), rival])
