"""The window in headless Chromium: what it shows is what the plan says, and everything works."""

import json

import numpy as np
import pytest
from window.browser import CHROMIUM, DRIVER, MISSING, Browser

import tinygrad_edge as te
from tinygrad_edge.policy import Checkpoint, Default, Microbatch

pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason=MISSING)

SIZES = {
    "lenet": (16, 1, 28, 28),
    "mobilenet_v2": (8, 3, 96, 96),
    "resnet18": (8, 3, 64, 64),
    "resnet50": (8, 3, 224, 224),
}
TWO = "two"  # the page that compares PLANS
PARTS = "parts"  # the page of a step that takes its batch in parts
PAGES = ("lenet", "mobilenet_v2", "resnet50", TWO, PARTS)


def plan_of(name, policies):
    shape = SIZES[name]
    model = te.models.build(name, 10, shape[1], shape[2:])
    optimizer = te.optim.SGD(model.parameters(), 0.1, momentum=0.9)

    @te.compile(policies=policies)
    def step(x, y):
        loss = te.functional.cross_entropy(model(x), y)
        optimizer.minimize(loss)
        return loss

    return step.plan(np.zeros(shape, np.float32), np.zeros(shape[0], np.int32))


@pytest.fixture(scope="module")
def plans():
    policies = [Default(), Checkpoint(every=2)]
    found = {name: (plan_of(name, policies),) for name in PAGES if name in SIZES}
    found[PARTS] = (plan_of("lenet", [Default(), Microbatch(4)]),)
    return {**found, TWO: (plan_of("resnet18", []), plan_of("resnet18", policies))}


@pytest.fixture(scope="module")
def folder(plans, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    for name, found in plans.items():
        shown = found[0] if len(found) == 1 else found[0].diff(found[1])
        shown.save(folder / f"{name}.html")
    return folder


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture
def page(browser, folder):
    """Open a page; whatever the test does with it, the console stays empty."""

    def open_page(name, *size):
        browser.open(folder / f"{name}.html", *size)
        browser.wait("document.documentElement.dataset.ready")
        return browser

    yield open_page
    assert browser.errors() == []


def call_shown(browser, card="call"):
    return int(browser.run(f"document.querySelector('#{card} h2').textContent.split(' ')[1]"))


def press_button(browser, selector):
    x, y = browser.run(
        f"(e => {{ e.scrollIntoView({{block: 'center', behavior: 'instant'}});"
        " const b = e.getBoundingClientRect();"
        " return [b.x + b.width / 2, b.y + b.height / 2] })"
        f"(document.querySelector({json.dumps(selector)}))"
    )
    browser.click(x, y)


@pytest.mark.parametrize("name", PAGES)
def test_the_peak_shown_is_the_peak_of_the_plan(page, plans, name):
    browser = page(name)
    shown = browser.run(
        "[...document.querySelectorAll('#peak b')].map(e => e.textContent.replace(/[^0-9]/g, ''))"
    )
    assert [int(n) for n in shown] == [p.peak_bytes for p in plans[name]]
    # Counted anew in the page, from the lives of the buffers.
    counted = browser.run("plans.map(p => Math.max(...p.total))")
    assert counted == [max(p.ledger.live_bytes()) for p in plans[name]]
    told = browser.run(
        "[...document.querySelectorAll('.plan canvas')].map(c => c.ariaLabel).join()"
    )
    assert all(f"peak {p.peak_bytes:,} bytes" in told for p in plans[name])


@pytest.mark.parametrize("name", PAGES)
def test_a_page_needs_nothing_from_outside(page, folder, name):
    browser = page(name)
    assert browser.run("performance.getEntriesByType('resource').length") == 0
    assert (folder / f"{name}.html").stat().st_size < 3e6


def test_keys_and_buttons_step_through_the_calls(page, plans):
    browser = page("lenet")
    count = len(plans["lenet"][0].calls)
    peak = browser.run("plans[0].peak_call")
    assert call_shown(browser) == peak
    for keys, expected in (
        (["home"], 0),
        (["right", "right", "right", "left"], 2),
        (["shift+right"], 12),
        (["end"], count - 1),
        (["right"], count - 1),
        (["p"], peak),
    ):
        browser.press(*keys)
        assert call_shown(browser) == expected
    for button, expected in (("first", 0), ("on", 1), ("back", 0), ("last", count - 1)):
        press_button(browser, f"[data-go={button}]")
        assert call_shown(browser) == expected
    call = plans["lenet"][0].calls[count - 1]
    assert call.kernel.name in browser.run("document.querySelector('#call').textContent")


def test_the_calls_of_a_loop_are_those_of_one_iteration(page, plans):
    browser = page(PARTS)
    plan = plans[PARTS][0]
    head = next(i for i, call in enumerate(plan.calls) if call.kernel is None)
    browser.run(f"go({head} + 1)")
    assert "loop x 4" in browser.run("document.querySelector('#call').textContent")
    browser.run(f"go({head + plan.calls[head].body} + 1)")
    assert "loop x 4" not in browser.run("document.querySelector('#call').textContent")


def test_the_slider_is_a_slider(page):
    browser = page("lenet")
    browser.press("home")
    browser.run("document.getElementById('slider').focus()")
    browser.press("right")
    assert call_shown(browser) == 1
    assert browser.run("slider.getAttribute('aria-valuetext')").startswith("call 1: ")


def test_play_runs_to_the_end(page, plans):
    browser = page("lenet")
    browser.press("end", "left", "left", " ")
    browser.wait(f"call() === {len(plans['lenet'][0].calls) - 1} && !state.playing")


@pytest.mark.parametrize("name", ["lenet", "resnet50"])
def test_a_click_in_the_arena_tells_why_a_value_is_there(page, plans, name):
    browser = page(name)
    plan = plans[name][0]
    largest = browser.run("plans[0].liveAt(call()).find(s => s.value >= 0)")
    x, y = browser.run(
        "(s => { const axes = frames[0].mapAxes, box = frames[0].map.getBoundingClientRect();"
        " return [box.x + axes.x(plans[0].left(call()) + 0.5),"
        " box.y + axes.y(s.offset + s.nbytes / 2)]"
        f"}})({json.dumps(largest)})"
    )
    browser.hover(x, y)
    hint = browser.run("document.getElementById('tip').hidden || $('tip').textContent")
    browser.click(x, y)
    shown = browser.run("document.querySelector('#value').textContent")
    label = browser.run("plans[0].values[state.selected].name")
    why = plan.why(label.split()[0])
    assert label in shown and why.cause in shown and f"{why.nbytes:,}" in shown
    assert label in hint
    assert f"call {why.made} to call {why.last_use}" in shown
    browser.press("escape")
    assert "Press one" in browser.run("document.querySelector('#value').textContent")


def test_up_and_down_go_through_the_live_values(page):
    browser = page("lenet")
    browser.press("down", "down", "up", "down")
    order = browser.run("plans[0].liveAt(call()).filter(s => s.value >= 0).map(s => s.value)")
    assert browser.run("state.selected") == order[1]
    assert browser.run("document.querySelectorAll('#live tr.selected').length") == 1


def test_a_press_on_a_name_selects_the_value(page):
    browser = page("lenet")
    for selector in ("#live .link", "#call .link"):
        number = browser.run(f"document.querySelector('{selector}').dataset.value")
        browser.press("escape")
        press_button(browser, selector)
        assert browser.run("String(state.selected)") == number


def test_a_kind_is_singled_out_and_the_time_zoomed(page):
    browser = page("mobilenet_v2")
    press_button(browser, "#legend [data-kind=saved]")
    pressed = "document.querySelector('#legend [data-kind=saved]').getAttribute('aria-pressed')"
    assert browser.run(pressed) == "true"
    browser.press("+", "+")
    assert browser.run("state.view.to - state.view.from < 0.5 * count")
    browser.press("end")  # what is looked at stays in sight
    assert browser.run("state.view.from <= state.column && state.column < state.view.to")


def test_a_click_on_the_graph_goes_to_the_call(page):
    browser = page("lenet")
    browser.press("home")
    x, y = browser.run(
        "(p => { const b = document.getElementById('ladder').getBoundingClientRect();"
        " return [b.x + p.x, b.y + p.y] })(ladders[0].points[20])"
    )
    browser.click(x, y)
    assert call_shown(browser) == 20
    # A rung between the two columns is a saved value.
    x, y, number = browser.run(
        "(r => { const b = document.getElementById('ladder').getBoundingClientRect(),"
        " p = ladders[0].points, [f, t] = [p[ladders[0].maker.get(r.value.number)], p[r.to]];"
        " return [b.x + (f.x + t.x) / 2, b.y + (f.y + t.y) / 2, r.value.number] })"
        "([...ladders[0].rungs].sort((a, b) => b.value.nbytes - a.value.nbytes)[0])"
    )
    browser.click(x, y)
    assert browser.run("state.selected") == number and call_shown(browser) == 20


def test_two_plans_are_compared(page, plans):
    browser = page(TWO)
    before, after = plans[TWO]
    for key, mode, canvases in (
        ("1", "before", 2),
        ("2", "after", 2),
        ("3", "both", 4),
        ("4", "difference", 1),
    ):
        browser.press(key)
        assert browser.run("document.querySelectorAll('.plan canvas').length") == canvases
        pressed = f"document.querySelector('[data-mode={mode}]').ariaPressed"
        assert browser.run(pressed) == "true"
    rows = dict(
        browser.run(
            "[...document.querySelectorAll('#differences tr')].slice(1)"
            ".map(r => [r.cells[0].textContent, [...r.cells].slice(1).map(c => c.textContent)])"
        )
    )
    calls = len(before.calls), len(after.calls)
    assert rows["calls"] == [*map(str, calls), f"{calls[1] - calls[0]:+}"]
    assert rows["operations"][1] == f"{after.flops / 1e9:.2f} G"
    press_button(browser, "[data-mode=both]")
    # One step of time moves both.
    browser.press("home", "shift+right")
    assert browser.run("plans.map(p => p.at[state.column])") == [10, 10]


@pytest.mark.parametrize("name", PAGES)
def test_a_page_fits_a_phone_and_the_dark(page, browser, name):
    page(name)
    light = browser.run("getComputedStyle(document.body).backgroundColor")
    browser.resize(390, 844, phone=True)
    for mode in "1234":
        browser.press(mode)
        assert browser.run("document.documentElement.scrollWidth") == 390
    browser.prefer("dark")
    browser.wait(f"getComputedStyle(document.body).backgroundColor !== '{light}'")
    press_button(browser, "#theme")
    browser.wait(f"getComputedStyle(document.body).backgroundColor === '{light}'")


def test_the_keyboard_reaches_every_control(page):
    browser = page(TWO)
    reached = set()
    for _ in range(60):
        browser.press("tab")
        reached.add(
            browser.run("(e => e.dataset.go || e.dataset.mode || e.id)(document.activeElement)")
        )
    assert {"first", "back", "play", "on", "last", "peak", "in", "out"} <= reached
    assert {"before", "after", "both", "difference", "theme", "slider"} <= reached


def test_every_control_and_picture_has_a_name(page):
    browser = page(TWO)
    unnamed = browser.run(
        "[...document.querySelectorAll('button, input, [role=img]')]"
        ".filter(e => !(e.textContent.trim() || e.ariaLabel)).map(e => e.outerHTML)"
    )
    assert unnamed == []
