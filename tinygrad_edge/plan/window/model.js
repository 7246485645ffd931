// The data of the page, decoded, and what can be counted from it.

const PARTS = ["forward", "backward", "update"];
// In the arena, from the bottom of the chart up; then what lives outside it.
const IN_ARENA = ["saved", "temporary", "gradient", "workspace"];
const OUTSIDE = ["parameter", "optimizer", "buffer", "index", "input", "output"];

function bytes(n) {
  for (const [unit, size] of [["GB", 1e9], ["MB", 1e6], ["kB", 1e3]])
    if (Math.abs(n) >= size) return (n / size).toFixed(2) + " " + unit;
  return n + " B";
}
function operations(n) {
  for (const [unit, size] of [[" G", 1e9], [" M", 1e6]]) if (n >= size) return (n / size).toFixed(2) + unit;
  return grouped(n);
}
const grouped = (n) => n.toLocaleString("en");
const signed = (n) => (n > 0 ? "+" : n < 0 ? "−" : "±") + bytes(Math.abs(n));

class Plan {
  constructor(data, kinds, label) {
    const text = (i) => data.texts[i];
    Object.assign(this, data);
    this.label = label;
    this.calls = data.calls.map((c, number) => ({
      ...c, number, kernel: text(c.kernel), part: text(c.part), path: text(c.path), source: text(c.source),
    }));
    this.values = data.values.map((v, number) => ({
      ...v, number, name: text(v.name), kind: kinds[v.kind], dtype: text(v.dtype), part: text(v.part),
      source: text(v.source), cause: text(v.cause), policy: text(v.policy),
    }));
    // What the arena map shows: who has which bytes from which call to which.
    this.spans = [];
    for (const b of data.buffers) {
      b.lives.forEach(([first, value], i) => {
        const last = i + 1 < b.lives.length ? b.lives[i + 1][0] - 1 : b.last;
        const kind = value < 0 ? "workspace" : this.values[value].kind;
        const known = IN_ARENA.includes(kind) ? kind : "temporary";
        if (last >= first) this.spans.push({ first, last, value, kind: known, nbytes: b.nbytes, offset: b.offset });
      });
    }
    this.spans.forEach((s, number) => { s.number = number; });
    this.outside = OUTSIDE.reduce((sum, kind) => sum + data.by_kind[kind], 0);
    this.live = this.sums();
    this.total = this.calls.map((_, i) => IN_ARENA.reduce((sum, kind) => sum + this.live[kind][i], 0));
    this.columns = this.calls.map((_, i) => i);
    this.at = this.columns;
  }

  // Live arena bytes of each kind at each call.
  sums() {
    const found = {};
    for (const kind of IN_ARENA) found[kind] = new Float64Array(this.calls.length + 1);
    for (const s of this.spans) {
      found[s.kind][s.first] += s.nbytes;
      found[s.kind][s.last + 1] -= s.nbytes;
    }
    for (const kind of IN_ARENA)
      for (let i = 1; i <= this.calls.length; i++) found[kind][i] += found[kind][i - 1];
    return found;
  }

  // Put the calls where they stand beside another plan's: at[column] is the latest call.
  align(calls) {
    this.at = [];
    this.columns = [];
    let latest = 0;
    calls.forEach((call, column) => {
      if (call >= 0) { latest = call; this.columns[call] = column; }
      this.at[column] = latest;
    });
  }

  // What lives at a call, the largest first.
  liveAt(call) {
    return this.spans.filter((s) => s.first <= call && call <= s.last).sort((a, b) => b.nbytes - a.nbytes);
  }

  spanOf(value, call) {
    const own = this.spans.filter((s) => s.value === value);
    return own.find((s) => s.first <= call && call <= s.last) || own[0] || null;
  }

  // Where the columns of a call begin and end.
  left(call) { return this.columns[call] ?? 0; }
  right(call) { return call + 1 < this.calls.length ? this.columns[call + 1] : this.at.length; }
}
