// The graph of a plan: a row for each module, forward calls on the left, backward and update calls on
// the right. Saved values are rungs between them.

class Ladder {
  constructor(plan) {
    this.plan = plan;
    const rows = new Map();
    const row = (path) => {
      if (!rows.has(path)) rows.set(path, { path, forward: [], backward: [], update: [] });
      return rows.get(path);
    };
    // A row of its own for what forward calls make; what belongs to parts of a module joins it.
    for (const call of plan.calls) if (call.part === "forward") row(call.path).forward.push(call.number);
    for (const call of plan.calls) {
      if (call.part === "forward") continue;
      let path = call.path;
      while (path && !rows.has(path)) path = path.includes(".") ? path.slice(0, path.lastIndexOf(".")) : "";
      row(path)[call.part].push(call.number);
    }
    this.rows = [...rows.values()];
    this.rungs = plan.values
      .filter((v) => v.kind === "saved" && v.readers.some((r) => plan.calls[r]?.part === "backward"))
      .map((v) => ({ value: v, to: v.readers.find((r) => plan.calls[r].part === "backward") }));
    this.maker = new Map();
    for (const call of plan.calls)
      for (const v of call.made) if (!this.maker.has(v)) this.maker.set(v, call.number);
  }

  draw(canvas, room, call, selected) {
    const pitch = Math.min(26, Math.max(9, (room - 8) / this.rows.length));
    const { context, width, height } = prepare(canvas, Math.ceil(pitch * this.rows.length + 8));
    const columns = { forward: width * 0.47, backward: width * 0.78, update: width * 0.94 };
    this.points = this.plan.calls.map(() => null);
    this.pitch = pitch;
    context.textBaseline = "middle";

    let group = null;
    this.rows.forEach((row, i) => {
      const y = 4 + pitch * (i + 0.5);
      for (const part of PARTS) {
        const numbers = row[part], gap = Math.min(8, (width * 0.2) / Math.max(1, numbers.length));
        numbers.forEach((n, k) => { this.points[n] = { x: columns[part] + (k - (numbers.length - 1) / 2) * gap, y }; });
      }
      const here = row.forward.includes(call) || row.backward.includes(call) || row.update.includes(call);
      const block = row.path.split(".").slice(0, 2).join(".");
      if (here) {
        context.fillStyle = style("accent");
        context.globalAlpha = 0.14;
        context.fillRect(0, y - pitch / 2, width, pitch);
        context.globalAlpha = 1;
      }
      if (pitch >= 13 || here || block !== group) {
        context.textAlign = "left";
        context.fillStyle = style(here ? "ink" : "soft");
        context.font = `${here ? 600 : 400} ${Math.min(11, Math.max(9, pitch))}px system-ui, 'DejaVu Sans', sans-serif`;
        const text = pitch >= 13 || here ? row.path || "the step" : block || "the step";
        context.fillText(fit(context, text, columns.forward - 44), 4, y);
      }
      group = block;
    });

    this.drawRungs(context, call, selected);
    this.drawEdges(context, call);
    for (const [n, p] of this.points.entries()) {
      if (!p) continue;
      const made = this.plan.calls[n].made;
      const again = made.some((v) => this.plan.values[v].copy_of >= 0 && this.plan.calls[n].part === "backward");
      const radius = n === call ? 6 : Math.min(3.4, pitch / 2.8);
      context.globalAlpha = n <= call ? 1 : 0.35;
      context.beginPath(); context.arc(p.x, p.y, radius, 0, 7);
      context.fillStyle = style(n === call ? "accent" : again ? "card" : "ink");
      context.fill();
      if (again || n === call) { context.strokeStyle = style(n === call ? "card" : "ink"); context.lineWidth = 1.4; context.stroke(); }
    }
    context.globalAlpha = 1;
    return height;
  }

  drawRungs(context, call, selected) {
    const most = Math.max(1, ...this.rungs.map((r) => r.value.nbytes));
    for (const { value, to } of this.rungs) {
      const from = this.points[this.maker.get(value.number)], end = this.points[to];
      if (!from || !end) continue;
      const live = value.first <= call && call <= value.last;
      context.strokeStyle = style(value.number === selected ? "ink" : "saved");
      context.globalAlpha = live ? 0.9 : value.number === selected ? 0.7 : 0.13;
      context.lineWidth = 0.8 + 5.2 * Math.sqrt(value.nbytes / most);
      context.beginPath(); context.moveTo(from.x + 4, from.y); context.lineTo(end.x - 4, end.y); context.stroke();
    }
    context.globalAlpha = 1;
  }

  // From the makers of what the call reads, and to the readers of what it makes.
  drawEdges(context, call) {
    const here = this.points[call], { calls, values } = this.plan;
    if (!here) return;
    const arc = (from, to) => {
      if (!from || !to || from === to) return;
      const bend = from.x === to.x ? 22 + Math.abs(from.y - to.y) / 12 : 0;
      context.beginPath();
      context.moveTo(from.x, from.y);
      context.bezierCurveTo(from.x + bend, from.y, to.x + bend, to.y, to.x, to.y);
      context.stroke();
    };
    context.lineWidth = 1.6;
    context.strokeStyle = style("accent");
    for (const v of calls[call].read) arc(this.points[this.maker.get(v)], here);
    context.setLineDash([3, 3]);
    for (const v of calls[call].made) for (const r of values[v].readers) arc(here, this.points[r]);
    context.setLineDash([]);
  }

  // The saved value whose rung passes by a point.
  rungUnder(x, y) {
    let best = null, nearest = 5;
    for (const { value, to } of this.rungs) {
      const a = this.points[this.maker.get(value.number)], b = this.points[to];
      if (!a || !b) continue;
      const share = Math.min(1, Math.max(0, (x - a.x) / (b.x - a.x || 1)));
      const distance = Math.abs(a.y + share * (b.y - a.y) - y) + (x < a.x || x > b.x ? 99 : 0);
      if (distance < nearest) { nearest = distance; best = value.number; }
    }
    return best;
  }

  // The call nearest to a point.
  under(x, y) {
    let best = null, nearest = 9;
    this.points.forEach((p, n) => {
      const distance = p ? Math.hypot(p.x - x, p.y - y) : Infinity;
      if (distance < nearest) { nearest = distance; best = n; }
    });
    return best;
  }
}

function fit(context, text, width) {
  if (context.measureText(text).width <= width) return text;
  while (text.length > 4 && context.measureText("…" + text).width > width) text = text.slice(1);
  return "…" + text;
}
