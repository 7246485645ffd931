// What is shown, and what keys, pointer and buttons change.

const data = JSON.parse(document.getElementById("data").textContent);
const labels = data.plans.length > 1 ? ["before", "after"] : [""];
const plans = data.plans.map((p, i) => new Plan(p, data.kinds, labels[i]));
if (data.columns) plans.forEach((plan, i) => plan.align(data.columns.map((pair) => pair[i])));
const ladders = plans.map((plan) => new Ladder(plan));
const count = plans[0].at.length;
const nothing = plans.some((plan) => !plan.calls.length);
const $ = (id) => document.getElementById(id);

const state = {
  column: plans[0].left(plans[0].peak_call),
  mode: plans.length > 1 ? "both" : "before", // before, after, both or difference
  active: 0, // the plan whose graph, call and values are shown
  selected: null, // a value of the active plan
  kind: null, // a kind that is singled out
  whole: plans.every((p) => p.outside < p.arena_bytes), // else the arena would be a thin line
  view: { from: 0, to: count },
  topArena: Math.max(...plans.map((p) => p.arena_bytes)),
  topWhole: Math.max(...plans.map((p) => p.peak_bytes)),
  playing: 0,
};
const shown = () => ({ before: [0], after: [1], both: [0, 1], difference: [] })[state.mode];
const active = () => plans[state.active];
const call = () => active().at[state.column];

// ---- parts of the page that are made once or when the mode changes ----

let frames = []; // {plan, live, map, axes...} of what is on the page

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== null) made.setAttribute(name, value);
  }
  made.append(...children.filter((c) => c !== null));
  return made;
}

function build() {
  const root = $("plans");
  root.replaceChildren();
  root.className = state.mode;
  frames = shown().map((number) => {
    const plan = plans[number];
    const canvas = () => element("canvas", { role: "img" });
    const frame = { number, plan, live: canvas(), map: canvas() };
    const name = plan.label ? plan.label + ": " : "";
    frame.root = element("div", { class: "plan" },
      element("h2", {}, `${name}${bytes(plan.peak_bytes)} at the peak`, element("span", { class: "more" }, `${grouped(plan.calls.length)} calls`)),
      element("p", { class: "title" }, state.whole ? "live bytes, with parameters, inputs and outputs" : "live bytes in the arena"),
      frame.live,
      element("p", { class: "title" }, "the arena: offset against time; hatched is made again"),
      frame.map);
    root.append(frame.root);
    listen(frame, frame.live);
    listen(frame, frame.map);
    return frame;
  });
  if (state.mode === "difference") {
    const frame = { plan: plans[1], number: 1, difference: element("canvas", { role: "img" }) };
    root.append(element("div", { class: "plan" },
      element("h2", {}, `after − before: ${signed(plans[1].peak_bytes - plans[0].peak_bytes)} at the peak`),
      element("p", { class: "title" }, "live bytes: above the line the second plan holds more, below it less"),
      frame.difference, differences()));
    listen(frame, frame.difference);
    frames = [frame];
  }
  for (const button of $("modes").children) button.setAttribute("aria-pressed", String(button.dataset.mode === state.mode));
}

function differences() {
  const [before, after] = plans;
  const row = (name, a, b, format) => element("tr", {}, element("td", {}, name),
    ...[format(a), format(b)].map((t) => element("td", { class: "number" }, t)),
    element("td", { class: "number " + (b > a ? "up" : b < a ? "down" : "") }, (b > a ? "+" : b < a ? "−" : "±") + format(Math.abs(b - a))));
  const rows = data.kinds.filter((k) => before.by_kind[k] || after.by_kind[k]).map((k) => row(k, before.by_kind[k], after.by_kind[k], bytes));
  rows.push(row("peak", before.peak_bytes, after.peak_bytes, bytes));
  rows.push(row("calls", before.calls.length, after.calls.length, grouped));
  rows.push(row("operations", before.flops, after.flops, operations));
  const heads = ["", "before", "after", "change"].map((t, i) => element("th", { class: i ? "number" : "", scope: "col" }, t));
  return element("table", { id: "differences" }, element("tr", {}, ...heads), ...rows);
}

function setMode(mode) {
  state.mode = mode;
  if (mode === "before") state.active = 0;
  if (mode === "after" || mode === "difference") state.active = Math.min(1, plans.length - 1);
  state.selected = null;
  build();
  render();
}

// ---- what follows every step ----

let waiting = false;
function render() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => { waiting = false; draw(); });
}

function draw() {
  if (nothing) return;
  for (const frame of frames) {
    const selected = frame.number === state.active ? state.selected : null;
    if (frame.difference) { frame.axes = drawDifference(frame.difference, plans, state); continue; }
    frame.root.classList.toggle("active", frame.number === state.active);
    frame.axes = drawLive(frame.live, frame.plan, state);
    frame.mapAxes = drawMap(frame.map, frame.plan, state, selected);
  }
  const scroll = $("ladder-scroll"), ladder = ladders[state.active];
  const room = Math.max(320, Math.min(window.innerHeight - 120, 900));
  ladder.draw($("ladder"), room, call(), state.selected);
  const here = ladder.points[call()];
  if (here && (here.y < scroll.scrollTop + 30 || here.y > scroll.scrollTop + scroll.clientHeight - 30))
    scroll.scrollTop = here.y - scroll.clientHeight / 2;
  const step = active().calls[call()];
  scroll.setAttribute("aria-label", `Graph: call ${step.number} of ${active().calls.length}, ${step.path || "the step"}, ${step.part}`);
  $("slider").value = state.column;
  $("slider").setAttribute("aria-valuetext", `call ${step.number}: ${step.kernel} ${step.path}`);
  legend(); describeCall(step); describeValue(); listLive();
}

function legend() {
  const plan = active(), list = $("legend"), focused = document.activeElement?.dataset?.kind;
  const now = (kind) => (IN_ARENA.includes(kind) ? plan.live[kind][call()] : plan.by_kind[kind]);
  const kinds = [...IN_ARENA, ...OUTSIDE].filter((k) => plan.by_kind[k] || (plan.live[k] && plan.live[k].some((n) => n > 0)));
  list.replaceChildren(...kinds.map((kind) => element("li", {}, element("button", {
    type: "button", "data-kind": kind, "aria-pressed": String(state.kind === kind),
    onclick: () => { state.kind = state.kind === kind ? null : kind; render(); },
  }, element("i", { style: `background:var(--${kind})` }), kind, element("span", {}, bytes(now(kind)))))));
  list.append(element("li", {}, element("button", {
    type: "button", "data-kind": "whole", "aria-pressed": String(state.whole),
    onclick: () => { state.whole = !state.whole; build(); render(); },
  }, "with parameters, inputs, outputs")));
  if (focused) list.querySelector(`[data-kind="${focused}"]`)?.focus();
}

function link(number) {
  const value = active().values[number];
  return element("button", { class: "link", type: "button", "data-value": number, onclick: () => select(number) },
    element("i", { style: `background:var(--${value.kind})` }), value.name);
}

function rows(pairs) {
  const list = element("dl");
  for (const [name, contents] of pairs) {
    if (contents === null || (Array.isArray(contents) && !contents.length)) continue;
    list.append(element("dt", {}, name), element("dd", {}, ...[contents].flat()));
  }
  return list;
}

const several = (numbers, most = 6) => [
  ...numbers.slice(0, most).flatMap((n, i) => (i ? [element("br"), link(n)] : [link(n)])),
  ...(numbers.length > most ? [element("span", { class: "more" }, ` and ${numbers.length - most} more`)] : []),
];

function describeCall(step) {
  const plan = active();
  const freed = plan.spans.filter((s) => s.last === step.number && s.value >= 0).map((s) => s.value);
  const live = plan.total[step.number];
  const inside = plan.calls.filter((c) => c.number < step.number && step.number <= c.number + c.body);
  $("call").replaceChildren(
    element("h2", {}, `Call ${step.number} of ${plan.calls.length}`, element("small", {}, [plan.label, step.part].filter(Boolean).join(", "))),
    rows([
      ["kernel", element("code", {}, step.kernel)],
      ["within", inside.length ? inside.map((c) => c.kernel).join(", ") : null],
      ["module", step.path ? element("code", {}, step.path) : null],
      ["line", step.source ? element("code", {}, step.source) : null],
      ["makes", several(step.made)],
      ["reads", several(step.read)],
      ["frees", several(freed)],
      ["live", `${grouped(live)} bytes of ${grouped(plan.arena_bytes)} in the arena`],
      ["work", step.flops ? `${grouped(step.flops)} operations` : null],
    ]));
}

function describeValue() {
  const plan = active(), card = $("value");
  if (state.selected === null) {
    card.replaceChildren(element("h2", {}, "A value"), element("p", { class: "more" }, "Press one in the arena, in a list or on a rung: its life, and why it is there."));
    return;
  }
  const v = plan.values[state.selected];
  const jump = (number) => element("button", { class: "link", type: "button", onclick: () => go(plan.left(number)) }, `call ${number}`);
  const readers = v.readers.slice(0, 8).flatMap((r, i) => (i ? [", ", jump(r)] : [jump(r)]));
  card.replaceChildren(
    element("h2", {}, v.name, element("small", {}, v.kind)),
    rows([
      ["shape", element("code", {}, `${v.dtype}[${v.shape.join(", ")}]`)],
      ["bytes", `${grouped(v.nbytes)} (${bytes(v.nbytes)})`],
      ["life", [jump(v.first), " to ", jump(v.last)]],
      ["read by", readers.length ? [...readers, v.readers.length > 8 ? ` and ${v.readers.length - 8} more` : ""] : "nobody"],
      ["line", v.source ? element("code", {}, v.source) : null],
      ["policy", v.policy ? element("code", {}, v.policy) : null],
      ["because", v.cause],
      ["copy of", v.copy_of >= 0 ? link(v.copy_of) : null],
      [v.copy_of >= 0 ? "keeping it" : "dropping it", v.kind === "saved" || v.copy_of >= 0
        ? `${v.copy_of >= 0 ? "would take" : "would spare"} ${bytes(v.saves)} at the peak, ${v.copy_of >= 0 ? "and spare" : "for"} ${grouped(v.flops)} operations` : null],
    ]));
}

function listLive() {
  const plan = active(), now = call(), found = plan.liveAt(now), most = 12;
  const line = (s) => {
    const v = s.value < 0 ? null : plan.values[s.value];
    return element("tr", { class: v && v.number === state.selected ? "selected" : "" },
      element("td", {}, v ? link(v.number) : element("span", {}, "workspace")),
      element("td", {}, element("code", {}, v ? `${v.dtype}[${v.shape.join(", ")}]` : "")),
      element("td", {}, s.kind),
      element("td", { class: "number" }, grouped(s.nbytes)),
      element("td", { class: "number" }, v ? `${s.first}–${s.last}` : ""));
  };
  const head = ["value", "type", "kind", "bytes", "calls"].map((t, i) => element("th", { scope: "col", class: i > 2 ? "number" : "" }, t));
  const focused = document.activeElement?.dataset?.value, inside = $("live").contains(document.activeElement);
  $("live").replaceChildren(
    element("h2", {}, `Live at call ${now}`, element("small", {}, `${found.length} values, the largest first`)),
    element("table", {}, element("tr", {}, ...head), ...found.slice(0, most).map(line)),
    ...(found.length > most ? [element("p", { class: "more" }, `and ${found.length - most} more, ${bytes(found.slice(most).reduce((n, s) => n + s.nbytes, 0))}`)] : []));
  if (inside && focused !== undefined) $("live").querySelector(`[data-value="${focused}"]`)?.focus();
}

// ---- what the user does ----

function go(column) {
  state.column = Math.min(count - 1, Math.max(0, Math.round(column)));
  const { from, to } = state.view, width = to - from;
  if (state.column < from || state.column >= to) {
    const start = Math.min(count - width, Math.max(0, state.column - width / 2));
    state.view = { from: start, to: start + width };
  }
  render();
}

function select(number) {
  state.selected = state.selected === number ? null : number;
  render();
}

function zoom(factor, around = state.column + 0.5) {
  const width = Math.min(count, Math.max(Math.min(12, count), (state.view.to - state.view.from) * factor));
  const share = (around - state.view.from) / (state.view.to - state.view.from);
  const from = Math.min(count - width, Math.max(0, around - share * width));
  state.view = { from, to: from + width };
  render();
}

function play() {
  if (state.playing) { clearInterval(state.playing); state.playing = 0; }
  else {
    if (state.column === count - 1) go(0);
    // The whole step in about twelve seconds, however many calls it has.
    const stride = Math.max(1, Math.round(count / 300));
    state.playing = setInterval(() => {
      if (state.column >= count - 1) play();
      else go(state.column + stride);
    }, Math.max(40, 12000 / count));
  }
  $("play").textContent = state.playing ? "pause" : "play";
}

const ACTIONS = {
  first: () => go(0),
  back: () => go(state.column - 1),
  play,
  on: () => go(state.column + 1),
  last: () => go(count - 1),
  peak: () => go(active().left(active().peak_call)),
  in: () => zoom(0.6),
  out: () => zoom(1 / 0.6),
};

function neighbour(by) {
  const found = active().liveAt(call()).filter((s) => s.value >= 0).map((s) => s.value);
  if (!found.length) return;
  const at = found.indexOf(state.selected);
  state.selected = found[at < 0 ? 0 : (at + by + found.length) % found.length];
  render();
}

const MODES = ["before", "after", "both", "difference"];
const KEYS = {
  ArrowLeft: (e) => go(state.column - (e.shiftKey ? 10 : 1)),
  ArrowRight: (e) => go(state.column + (e.shiftKey ? 10 : 1)),
  ArrowUp: () => neighbour(-1),
  ArrowDown: () => neighbour(1),
  Home: ACTIONS.first, End: ACTIONS.last, p: ACTIONS.peak, P: ACTIONS.peak, " ": play,
  "+": ACTIONS.in, "=": ACTIONS.in, "-": ACTIONS.out,
  Escape: () => { state.selected = state.kind = null; render(); },
};

document.addEventListener("keydown", (e) => {
  if (e.ctrlKey || e.metaKey || e.altKey) return;
  if (e.key === " " && e.target.closest("button")) return; // presses it
  if (plans.length > 1 && MODES[e.key - 1]) { setMode(MODES[e.key - 1]); return; }
  const act = KEYS[e.key];
  if (act) { e.preventDefault(); act(e); }
});

document.querySelectorAll("[data-go]").forEach((button) => button.addEventListener("click", () => ACTIONS[button.dataset.go]()));
$("slider").addEventListener("input", () => go(+$("slider").value));

function point(canvas, e) {
  const box = canvas.getBoundingClientRect();
  return [e.clientX - box.left, e.clientY - box.top];
}

function listen(frame, canvas) {
  const axesOf = () => (canvas === frame.map ? frame.mapAxes : frame.axes);
  const over = (e) => (canvas === frame.map ? spanUnder(frame.mapAxes, frame.plan, ...point(canvas, e)) : null);
  canvas.addEventListener("pointermove", (e) => {
    const column = Math.floor(axesOf().column(point(canvas, e)[0]));
    if (column < 0 || column >= count) { tip(null); return; }
    if (e.buttons && canvas !== frame.map) { state.active = frame.number; go(column); }
    const span = over(e), plan = frame.plan, step = plan.calls[plan.at[column]];
    if (span) {
      const v = span.value < 0 ? null : plan.values[span.value];
      tip(e, v ? `${v.name}\n${v.dtype}[${v.shape.join(", ")}], ${bytes(v.nbytes)}, ${v.kind}\ncalls ${span.first} to ${span.last}${v.policy ? "\n" + v.policy : ""}` : `workspace of call ${span.first}, ${bytes(span.nbytes)}`);
    } else tip(e, `call ${step.number}: ${step.kernel}\n${step.path ? step.path + ", " : ""}${step.part}\n${bytes(plan.total[step.number])} live`);
  });
  canvas.addEventListener("pointerleave", () => tip(null));
  canvas.addEventListener("click", (e) => {
    if (state.active !== frame.number) { state.active = frame.number; state.selected = null; }
    const span = over(e);
    if (span && span.value >= 0) state.selected = span.value;
    go(Math.floor(axesOf().column(point(canvas, e)[0])));
  });
  canvas.addEventListener("wheel", (e) => {
    if (!e.ctrlKey && !e.metaKey) return; // the page scrolls
    e.preventDefault();
    zoom(e.deltaY > 0 ? 1.15 : 1 / 1.15, axesOf().column(point(canvas, e)[0]));
  }, { passive: false });
}

$("ladder").addEventListener("click", (e) => {
  const ladder = ladders[state.active], place = point($("ladder"), e);
  const found = ladder.under(...place), rung = ladder.rungUnder(...place);
  if (found === null && rung !== null) { state.selected = rung; render(); }
  if (found !== null) { state.selected = active().calls[found].made[0] ?? state.selected; go(active().left(found)); }
});

function tip(e, text) {
  const box = $("tip");
  box.hidden = e === null;
  if (e === null) return;
  box.replaceChildren(...text.split("\n").flatMap((line, i) => (i ? [element("br"), line] : [line])));
  const { width, height } = box.getBoundingClientRect();
  box.style.left = Math.max(4, Math.min(e.clientX + 14, innerWidth - width - 8)) + "px";
  box.style.top = (e.clientY + 16 + height > innerHeight ? e.clientY - height - 10 : e.clientY + 16) + "px";
}

const dark = matchMedia("(prefers-color-scheme: dark)");
function theme(name) {
  document.documentElement.dataset.theme = name;
  colours.clear();
  render();
}
dark.addEventListener("change", () => theme(dark.matches ? "dark" : "light"));
$("theme").addEventListener("click", () => theme(document.documentElement.dataset.theme === "dark" ? "light" : "dark"));
addEventListener("resize", render);

// ---- begin ----

document.title = `${data.title}: memory of a training step`;
$("title").textContent = data.title;
const peaks = plans.map((plan) => [`${plan.label ? plan.label + " " : ""}peak `, element("b", { "data-peak": plan.peak_bytes }, `${grouped(plan.peak_bytes)} bytes`)]);
$("peak").replaceChildren(...peaks.flatMap((p, i) => (i ? [" · ", ...p] : p)), ` · ${plans.map((p) => `arena ${bytes(p.arena_bytes)}`).join(" and ")}`);
$("remarks").replaceChildren(...plans.flatMap((p) => p.remarks.map((r) => element("p", {}, r))));
$("slider").max = count - 1;
if (plans.length > 1) {
  $("modes").hidden = $("mode-keys").hidden = false;
  MODES.forEach((mode) => $("modes").append(element("button", { type: "button", "data-mode": mode, onclick: () => setMode(mode) }, mode)));
}
document.documentElement.dataset.theme = dark.matches ? "dark" : "light";
if (nothing) $("plans").textContent = "This step calls no kernel.";
else build();
draw();
document.documentElement.dataset.ready = String(Math.round(performance.now()));
