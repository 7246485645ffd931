// Two canvases of a plan that share the time: live bytes by kind, and the arena as a map.

// Colours of the theme, read once: to ask the browser between drawings costs a layout each time.
const colours = new Map();
function style(name) {
  if (!colours.has(name)) colours.set(name, getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim());
  return colours.get(name);
}

// A canvas as sharp as the screen; gives its context and its size in CSS pixels.
function prepare(canvas, height) {
  const width = canvas.clientWidth, ratio = window.devicePixelRatio || 1;
  const pixels = [width, height].map((n) => Math.max(1, Math.round(n * ratio)));
  if (canvas.width !== pixels[0] || canvas.height !== pixels[1]) {
    canvas.style.height = height + "px";
    [canvas.width, canvas.height] = pixels;
  }
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  context.font = "11px system-ui, 'DejaVu Sans', sans-serif";
  return { context, width, height };
}

const LEFT = 62, RIGHT = 8, BAND = 20;

// Round numbers of bytes for an axis.
function ticks(top) {
  const rough = top / 4 || 1, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((s) => s >= rough);
  const found = [];
  for (let y = 0; y <= top; y += step) found.push(y);
  return found;
}
function tickLabel(n) {
  for (const [unit, size] of [["GB", 1e9], ["MB", 1e6], ["kB", 1e3]])
    if (n >= size) return +(n / size).toFixed(2) + " " + unit;
  return n + " B";
}

// Where columns and bytes are on a canvas.
class Axes {
  constructor(width, height, view, bottomBytes, topBytes, above = 0) {
    Object.assign(this, { width, height, view, bottomBytes, topBytes, above });
    this.low = height - 6;
  }
  x(column) { return LEFT + ((column - this.view.from) / (this.view.to - this.view.from)) * (this.width - LEFT - RIGHT); }
  column(x) { return this.view.from + ((x - LEFT) / (this.width - LEFT - RIGHT)) * (this.view.to - this.view.from); }
  y(n) { return this.low - ((n - this.bottomBytes) / (this.topBytes - this.bottomBytes)) * (this.low - this.above); }
  bytes(y) { return this.bottomBytes + ((this.low - y) / (this.low - this.above)) * (this.topBytes - this.bottomBytes); }

  frame(context, marks) {
    context.textAlign = "right";
    context.textBaseline = "middle";
    for (const n of marks) {
      const y = Math.round(this.y(n)) + 0.5;
      context.strokeStyle = style("line");
      context.beginPath(); context.moveTo(LEFT, y); context.lineTo(this.width - RIGHT, y); context.stroke();
      context.fillStyle = style("soft");
      context.fillText(tickLabel(n), LEFT - 7, y);
    }
  }
  clip(context) {
    context.save();
    context.beginPath();
    context.rect(LEFT, 0, this.width - LEFT - RIGHT, this.height);
    context.clip();
  }
  cursor(context, column) {
    const from = this.x(column), to = Math.max(from + 1.5, this.x(column + 1));
    context.fillStyle = style("ink");
    context.globalAlpha = 0.16;
    context.fillRect(from, 0, Math.max(3, to - from), this.height);
    context.globalAlpha = 1;
    context.fillRect(from, 0, 1.5, this.height);
  }
}

// Forward, backward and update above the chart.
function band(context, axes, plan) {
  context.textBaseline = "middle";
  const runs = [];
  plan.calls.forEach((call, i) => {
    const latest = runs[runs.length - 1];
    if (latest && latest.part === call.part) latest.end = plan.right(i);
    else runs.push({ part: call.part, from: plan.left(i), end: plan.right(i) });
  });
  for (const run of runs) {
    const from = axes.x(run.from), to = axes.x(run.end);
    context.fillStyle = style(run.part);
    context.fillRect(from, 0, Math.max(1, to - from), BAND - 4);
  }
  // Each part is named once, where most of it is: updates may be scattered over the backward part,
  // and constants stand before it.
  const longest = (belongs) => {
    let best = { from: 0, end: 0 }, run = null;
    for (const r of runs) {
      run = belongs(r) ? { from: run ? run.from : r.from, end: r.end } : null;
      if (run && run.end - run.from > best.end - best.from) best = run;
    }
    return best;
  };
  // A line below what a loop repeats.
  context.fillStyle = style("accent");
  for (const call of plan.calls)
    if (call.body) context.fillRect(axes.x(plan.left(call.number)), BAND - 4, axes.x(plan.right(call.number + call.body)) - axes.x(plan.left(call.number)), 2);
  context.textAlign = "center";
  context.fillStyle = style("ink");
  const forward = longest((r) => r.part === "forward"), rest = longest((r) => r.part !== "forward");
  const update = longest((r) => r.part === "update");
  const apart = update.end === rest.end && update.end - update.from > 0.1 * (rest.end - rest.from);
  label("forward", forward.from, forward.end);
  label("backward", rest.from, apart ? update.from : rest.end);
  if (apart) label("update", update.from, update.end);

  function label(text, from, end) {
    const left = Math.max(axes.x(from), LEFT), right = Math.min(axes.x(end), axes.width - RIGHT);
    if (right - left > context.measureText(text).width + 6) context.fillText(text, (left + right) / 2, (BAND - 4) / 2 + 0.5);
  }
}

function drawLive(canvas, plan, state) {
  const height = canvas.clientWidth < 520 ? 190 : 250;
  const { context, width } = prepare(canvas, height);
  const low = state.whole ? 0 : plan.outside;
  const top = low + (state.whole ? state.topWhole : state.topArena) * 1.14;
  const axes = new Axes(width, height, state.view, low, top, BAND);
  axes.frame(context, state.whole ? ticks(top) : ticks(top - low).map((n) => n + low));
  if (!state.whole) relabel(context, axes, low, top);
  axes.clip(context);
  band(context, axes, plan);

  let base = 0;
  if (state.whole) {
    for (const kind of OUTSIDE) {
      const n = plan.by_kind[kind];
      if (!n) continue;
      paint(context, kind, state);
      context.fillRect(LEFT, axes.y(base + n), width - LEFT - RIGHT, axes.y(base) - axes.y(base + n));
      base += n;
    }
  }
  const floor = new Float64Array(plan.calls.length).fill(plan.outside);
  for (const kind of IN_ARENA) {
    const sums = plan.live[kind];
    context.beginPath();
    for (let i = 0; i < floor.length; i++) {
      const y = axes.y(floor[i] + sums[i]);
      context.lineTo(axes.x(plan.left(i)), y);
      context.lineTo(axes.x(plan.right(i)), y);
    }
    for (let i = floor.length - 1; i >= 0; i--) {
      const y = axes.y(floor[i]);
      context.lineTo(axes.x(plan.right(i)), y);
      context.lineTo(axes.x(plan.left(i)), y);
      floor[i] += sums[i];
    }
    paint(context, kind, state);
    context.fill();
  }
  context.globalAlpha = 1;

  // The peak: what the plan takes, padding included.
  const y = Math.round(axes.y(plan.peak_bytes)) + 0.5, x = axes.x(plan.left(plan.peak_call) + 0.5);
  context.strokeStyle = context.fillStyle = style("ink");
  context.setLineDash([4, 3]);
  context.beginPath(); context.moveTo(LEFT, y); context.lineTo(width, y); context.stroke();
  context.setLineDash([]);
  const here = plan.calls[plan.peak_call];
  const text = `peak ${grouped(plan.peak_bytes)} bytes, call ${plan.peak_call}`;
  context.font = "600 12px system-ui, 'DejaVu Sans', sans-serif";
  const half = context.measureText(text).width / 2 + 4;
  const middle = Math.min(Math.max(x, LEFT + half), width - RIGHT - half);
  context.beginPath(); context.moveTo(x - 5, y); context.lineTo(x + 5, y); context.lineTo(x, y + 7); context.fill();
  axes.cursor(context, state.column);
  context.fillStyle = style("card");
  context.globalAlpha = 0.85;
  context.fillRect(middle - half, y - 18, 2 * half, 16);
  context.globalAlpha = 1;
  context.fillStyle = style("ink");
  context.textAlign = "center"; context.textBaseline = "bottom";
  context.fillText(text, middle, y - 3);
  context.restore();
  canvas.setAttribute("aria-label",
    `Live bytes over ${plan.calls.length} calls. ${text}, ${here.path || here.kernel}, in the ${here.part} part.`);
  return axes;
}

// With the outside left out, the axis says bytes of the arena.
function relabel(context, axes, low, top) {
  context.fillStyle = style("card");
  context.fillRect(0, 0, LEFT - 1, axes.height);
  context.textAlign = "right"; context.textBaseline = "middle"; context.fillStyle = style("soft");
  for (const n of ticks(top - low)) context.fillText(tickLabel(n), LEFT - 7, Math.round(axes.y(n + low)) + 0.5);
}

function paint(context, kind, state) {
  context.fillStyle = style(kind);
  context.globalAlpha = state.kind && state.kind !== kind ? 0.16 : 1;
}

// Lines across what the backward part makes again.
function hatching(context) {
  const tile = document.createElement("canvas");
  tile.width = tile.height = 6;
  const pen = tile.getContext("2d");
  pen.strokeStyle = "rgb(255 255 255 / 70%)";
  pen.lineWidth = 1.6;
  pen.beginPath(); pen.moveTo(-1, 7); pen.lineTo(7, -1); pen.stroke();
  return context.createPattern(tile, "repeat");
}

function drawMap(canvas, plan, state, selected) {
  const height = canvas.clientWidth < 520 ? 170 : 230;
  const { context, width } = prepare(canvas, height);
  const axes = new Axes(width, height, state.view, 0, state.topArena * 1.03 || 1, 4);
  axes.frame(context, ticks(state.topArena));
  axes.clip(context);
  const lines = hatching(context), fine = axes.x(1) - axes.x(0) > 3;
  for (const s of plan.spans) {
    const x = axes.x(plan.left(s.first)), w = Math.max(0.7, axes.x(plan.right(s.last)) - x);
    if (x + w < LEFT || x > width) continue;
    const y = axes.y(s.offset + s.nbytes), h = Math.max(0.7, axes.y(s.offset) - y);
    paint(context, s.kind, state);
    context.fillRect(x, y, w, h);
    const again = s.value >= 0 && plan.values[s.value].copy_of >= 0;
    if (again && h > 2) { context.fillStyle = lines; context.fillRect(x, y, w, h); }
    if (h > 3 && (fine || w > 3)) {
      context.globalAlpha = 0.75;
      context.strokeStyle = style("card");
      context.lineWidth = 0.7;
      context.strokeRect(x, y, w, h);
    }
  }
  context.globalAlpha = 1;
  for (const s of plan.spans) {
    if (s.value < 0 || s.value !== selected) continue;
    const x = axes.x(plan.left(s.first)), y = axes.y(s.offset + s.nbytes);
    context.strokeStyle = style("ink"); context.lineWidth = 2;
    context.strokeRect(x, y, Math.max(2, axes.x(plan.right(s.last)) - x), Math.max(2, axes.y(s.offset) - y));
  }
  axes.cursor(context, state.column);
  context.restore();
  canvas.setAttribute("aria-label", `The arena of ${grouped(plan.arena_bytes)} bytes: offset against time.`);
  return axes;
}

// What is under a point of the map; the smallest, where strokes are thinner than a pixel.
function spanUnder(axes, plan, x, y) {
  const column = axes.column(x), n = axes.bytes(y);
  const width = 3 / (axes.x(1) - axes.x(0)), height = axes.bytes(0) - axes.bytes(3);
  const inside = (slack) => plan.spans.filter((s) =>
    plan.left(s.first) - slack * width <= column && column < plan.right(s.last) + slack * width &&
    s.offset - slack * height <= n && n < s.offset + s.nbytes + slack * height);
  const found = [...inside(0), ...inside(1)];
  return found[0] || null;
}

// How much more the second plan holds at each column: up is more, down is less.
function drawDifference(canvas, plans, state) {
  const height = canvas.clientWidth < 520 ? 220 : 320;
  const { context, width } = prepare(canvas, height);
  const [before, after] = plans;
  const count = before.at.length, change = new Float64Array(count);
  for (let c = 0; c < count; c++)
    change[c] = after.total[after.at[c]] + after.outside - before.total[before.at[c]] - before.outside;
  const most = Math.max(1, ...change.map(Math.abs));
  const least = Math.min(0, ...change), largest = Math.max(0, ...change);
  const axes = new Axes(width, height, state.view, least - most * 0.08, largest + most * 0.12, BAND);
  const step = ticks(Math.max(largest, -least))[1] ?? 1;
  const marks = [];
  for (let n = -Math.floor(-least / step) * step; n <= largest; n += step) marks.push(n);
  context.textAlign = "right"; context.textBaseline = "middle";
  for (const n of new Set(marks)) {
    const y = Math.round(axes.y(n)) + 0.5;
    context.strokeStyle = style("line");
    context.beginPath(); context.moveTo(LEFT, y); context.lineTo(width - RIGHT, y); context.stroke();
    context.fillStyle = style("soft");
    context.fillText((n > 0 ? "+" : n < 0 ? "−" : "") + tickLabel(Math.abs(n)), LEFT - 7, y);
  }
  axes.clip(context);
  band(context, axes, after);
  const zero = axes.y(0);
  for (let c = 0; c < count; c++) {
    context.fillStyle = style(change[c] > 0 ? "saved" : "gradient");
    const y = axes.y(change[c]), x = axes.x(c);
    context.fillRect(x, Math.min(y, zero), Math.max(1, axes.x(c + 1) - x + 0.3), Math.abs(y - zero));
  }
  context.strokeStyle = style("ink");
  context.beginPath(); context.moveTo(LEFT, zero); context.lineTo(width, zero); context.stroke();
  axes.cursor(context, state.column);
  context.restore();
  canvas.setAttribute("aria-label", "Live bytes of the plan after less those of the plan before, over all calls.");
  return axes;
}
