// The trace as the page sees it: indexes, causal cone, filter and layout. Knows nothing of the document.
'use strict';
const lab = {};

lab.model = (() => {
  /** What cannot be shown, in words for the user. */
  class TraceError extends Error {}

  const FAULTS = new Set(['fault', 'heal', 'crash', 'restart', 'pause', 'resume']);
  const CLIENTS = new Set(['request', 'answer', 'cancel']);
  const MESSAGES = new Set(['deliver', 'duplicate', 'lost']);

  /** The group of events that are no messages; filters show and hide groups and kinds alike. */
  function groupOf(what) {
    if (FAULTS.has(what)) return 'faults';
    if (CLIENTS.has(what)) return 'clients';
    if (what === 'timer') return 'timers';
    return 'internal';
  }
  const GROUPS = ['clients', 'timers', 'faults', 'internal'];

  /** Seeds may exceed what a double holds; the text of a trace has the digits. */
  function parse(text) {
    let raw;
    try {
      raw = JSON.parse(text);
    } catch (error) {
      throw new TraceError(`not JSON: ${error.message}`);
    }
    const trace = new Trace(raw);
    const digits = /"seed"\s*:\s*(\d+)/.exec(text.slice(0, 4096));
    if (digits) trace.seed = digits[1];
    return trace;
  }

  /** A recorded run with everything that is looked up while drawing. Positions count from 0 in `events`. */
  class Trace {
    constructor(raw) {
      if (raw === null || typeof raw !== 'object' || !Array.isArray(raw.events) || !Array.isArray(raw.nodes)) {
        throw new TraceError('this is no trace of dpat: "events" or "nodes" is missing');
      }
      if (raw.version !== 0) throw new TraceError(`version ${raw.version} of traces is not known here`);
      this.raw = raw;
      this.protocol = raw.protocol;
      this.mutant = raw.mutant ?? null;
      this.seed = String(raw.seed);
      this.nodes = raw.nodes;
      // Lanes after the nodes of the script are clients, which no fault strikes.
      const scripted = raw.script?.nodes ?? raw.nodes;
      this.faulty = Array.isArray(scripted) ? scripted.length : scripted;
      this.events = raw.events;
      this.states = raw.states ?? [];
      this.shades = raw.shades ?? [];
      this.violation = raw.violation ?? null;
      const count = this.count = this.events.length;
      this.first = count ? this.events[0].i : 0;
      this.at = new Float64Array(count);
      this.byIndex = new Map();
      this.previous = new Int32Array(count).fill(-1);
      this.perNode = this.nodes.map(() => []);
      for (let pos = 0; pos < count; pos += 1) {
        const event = this.events[pos];
        this.at[pos] = event.at_ns;
        this.byIndex.set(event.i, pos);
        const lane = event.node === null ? undefined : this.perNode[event.node];
        if (lane) {
          if (lane.length) this.previous[pos] = lane[lane.length - 1];
          lane.push(pos);
        }
      }
      this.t0 = count ? this.at[0] : 0;
      this.t1 = count ? this.at[count - 1] : 0;
      this.findKinds();
      this.findMessages();
      this.status = this.nodes.map((_, node) => this.findStatus(node));
      this.violationAt = this.violation && count ? this.nearest(this.violation.at_event) : -1;
      this.keys = [...new Set(this.events.map((event) => event.key).filter((key) => key != null))];
    }

    /** The position of an event by its number; the one before, where it was not recorded. */
    nearest(index) {
      const exact = this.byIndex.get(index);
      if (exact !== undefined) return exact;
      let low = 0;
      let high = this.count;
      while (low < high) {
        const mid = (low + high) >> 1;
        if (this.events[mid].i <= index) low = mid + 1;
        else high = mid;
      }
      return Math.max(0, low - 1);
    }

    findKinds() {
      const seen = new Map();
      const note = (kind) => {
        if (kind != null && !seen.has(kind)) seen.set(kind, seen.size);
      };
      for (const event of this.events) {
        if (MESSAGES.has(event.what)) note(event.kind ?? event.label);
        for (const send of event.sends ?? []) note(send.kind);
      }
      this.kinds = [...seen.keys()];
      this.kindIx = seen;
    }

    /** Pairs every send with its arrival: `{send, recv, src, dst, kind, fate, copy, until}`; `recv` is -1 where there is none. */
    findMessages() {
      const messages = [];
      const inbound = new Int32Array(this.count).fill(-1);
      const outbound = new Map();
      const slots = new Map(); // position of the sender -> messages that have not arrived
      for (let pos = 0; pos < this.count; pos += 1) {
        const event = this.events[pos];
        const from = event.from;
        if (from) {
          const send = this.byIndex.get(from[1]);
          const kind = event.kind ?? event.label;
          const fate = event.what === 'lost' ? 'dropped' : 'delivered';
          const open = send === undefined ? undefined : slots.get(send);
          const matches = (m) => m.recv < 0 && m.dst === event.node && m.kind === kind;
          let found = open?.find((m) => matches(m) && m.until === event.at_ns) ?? open?.find(matches);
          if (found) {
            found.recv = pos;
            found.fate = fate;
          } else {
            // A copy, or a message whose sending is not in the trace.
            found = {
              send: send ?? -1, recv: pos, src: from[0], dst: event.node, kind, fate, copy: send !== undefined, until: event.at_ns,
            };
            if (send !== undefined) outbound.get(send)?.push(messages.length);
            messages.push(found);
          }
          if (event.what === 'duplicate') found.copy = true;
        }
        const sends = event.sends ?? [];
        if (sends.length) {
          const mine = [];
          const ids = [];
          for (const send of sends) {
            const timed = typeof send.fate === 'number';
            const message = {
              id: messages.length, send: pos, recv: -1, src: event.node, dst: send.to, kind: send.kind,
              fate: timed ? 'pending' : send.fate, copy: false, until: timed ? send.fate : -1,
            };
            ids.push(messages.length);
            messages.push(message);
            mine.push(message);
          }
          slots.set(pos, mine);
          outbound.set(pos, ids);
        }
      }
      messages.forEach((message, id) => {
        message.id = id;
        if (message.recv >= 0) inbound[message.recv] = id;
      });
      this.messages = messages;
      this.inbound = inbound;
      this.outbound = outbound;
      this.bucket();
    }

    /** Which messages cross each stretch of 64 positions, so that drawing looks at few. */
    bucket() {
      const buckets = Array.from({ length: (this.count >> 6) + 1 }, () => []);
      for (const message of this.messages) {
        const from = message.send >= 0 ? message.send : message.recv;
        const to = message.recv >= 0 ? message.recv : message.send;
        for (let b = from >> 6; b <= to >> 6; b += 1) buckets[b].push(message.id);
      }
      this.buckets = buckets;
    }

    /** Calls `visit` once with each message that touches the positions from `from` to `to`. */
    crossing(from, to, visit) {
      const first = Math.max(0, from >> 6);
      const last = Math.min(this.buckets.length - 1, to >> 6);
      for (let b = first; b <= last; b += 1) {
        for (const id of this.buckets[b]) {
          const message = this.messages[id];
          const starts = (message.send >= 0 ? message.send : message.recv) >> 6;
          if (b === first || starts === b) visit(message);
        }
      }
    }

    /** `[position, status]` wherever a node's status changes. */
    findStatus(node) {
      const changes = [];
      for (const pos of this.perNode[node]) {
        const what = this.events[pos].what;
        if (what === 'crash') changes.push([pos, 'down']);
        else if (what === 'pause') changes.push([pos, 'paused']);
        else if (what === 'restart' || what === 'resume' || what === 'start') changes.push([pos, 'up']);
      }
      return changes;
    }

    statusAt(node, pos) {
      let status = 'up';
      for (const [at, then] of this.status[node]) {
        if (at > pos) break;
        status = then;
      }
      return status;
    }

    /** The last event of a node up to `pos` after which its state is known, or -1. */
    stateEvent(node, pos) {
      const lane = this.perNode[node];
      for (let k = upper(lane, pos) - 1; k >= 0; k -= 1) {
        if (this.events[lane[k]].state != null) return lane[k];
      }
      return -1;
    }

    /** Everything that may have influenced the event: its cone under happens-before, as a mask. */
    cone(pos) {
      const mask = new Uint8Array(this.count);
      if (pos < 0 || pos >= this.count) return mask;
      mask[pos] = 1;
      for (let at = pos; at >= 0; at -= 1) {
        if (!mask[at]) continue;
        for (const cause of this.causes(at)) mask[cause] = 1;
      }
      return mask;
    }

    /** Positions of the direct causes of an event. */
    causes(pos) {
      const causes = [];
      for (const index of this.events[pos].causes ?? []) {
        const cause = this.byIndex.get(index);
        if (cause !== undefined && cause < pos) causes.push(cause);
      }
      return causes;
    }

    /** The first position at or after a time. */
    positionAt(ns) {
      let low = 0;
      let high = this.count;
      while (low < high) {
        const mid = (low + high) >> 1;
        if (this.at[mid] < ns) low = mid + 1;
        else high = mid;
      }
      return low;
    }

    /** How often each kind and group occurs. */
    tally() {
      const counts = new Map();
      for (let pos = 0; pos < this.count; pos += 1) {
        const name = this.filterName(pos);
        counts.set(name, (counts.get(name) ?? 0) + 1);
      }
      return counts;
    }

    /** The name under which filters know an event: a message's kind, or a group in brackets. */
    filterName(pos) {
      const event = this.events[pos];
      return MESSAGES.has(event.what) ? event.kind ?? event.label : `(${groupOf(event.what)})`;
    }
  }

  function upper(sorted, value) {
    let low = 0;
    let high = sorted.length;
    while (low < high) {
      const mid = (low + high) >> 1;
      if (sorted[mid] <= value) low = mid + 1;
      else high = mid;
    }
    return low;
  }

  const TOP = 10;

  /** Which events are shown, and where. `scale` is `order` (a row an event) or `time`. */
  class View {
    constructor(trace) {
      this.trace = trace;
      this.filter = { kinds: new Set(), nodes: new Set(), key: '', text: '', cone: -1 };
      this.scale = 'order';
      this.zoom = 1;
      this.refresh();
    }

    /** Applies the filter. `kinds` and `nodes` hold what is hidden; `cone` is the position whose cone is shown, or -1. */
    refresh() {
      const { trace, filter } = this;
      const mask = filter.cone >= 0 ? trace.cone(filter.cone) : null;
      const text = filter.text.trim().toLowerCase();
      const shown = new Uint8Array(trace.count);
      const before = new Int32Array(trace.count + 1);
      const rows = [];
      for (let pos = 0; pos < trace.count; pos += 1) {
        before[pos] = rows.length;
        if (this.passes(pos, mask, text)) {
          shown[pos] = 1;
          rows.push(pos);
        }
      }
      before[trace.count] = rows.length;
      this.shown = shown;
      this.before = before;
      this.rows = rows;
      this.lanes = trace.nodes.map((_, node) => node).filter((node) => !filter.nodes.has(node));
      this.laneOf = trace.nodes.map(() => -1);
      this.lanes.forEach((node, lane) => {
        this.laneOf[node] = lane;
      });
    }

    passes(pos, mask, text) {
      const { trace, filter } = this;
      if (pos === trace.violationAt) return true;
      const event = trace.events[pos];
      const fault = FAULTS.has(event.what);
      if (event.node !== null && filter.nodes.has(event.node)) return false;
      if (filter.kinds.size && filter.kinds.has(trace.filterName(pos))) return false;
      // Faults have causes of their own kind: they stay beside the cone up to its tip.
      if (mask && !mask[pos] && !(fault && pos < filter.cone)) return false;
      if (filter.key && event.key !== filter.key && !fault) return false;
      if (text && !`${event.what} ${event.kind ?? ''} ${event.label} ${event.detail} ${event.key ?? ''}`.toLowerCase().includes(text)) {
        return false;
      }
      return true;
    }

    get rowHeight() {
      return Math.max(3, Math.round(24 * this.zoom));
    }

    get pixelsPerNs() {
      const span = Math.max(1, this.trace.t1 - this.trace.t0);
      // A window of 700 pixels shows the whole run at zoom 1 if it is short, and a readable part of a long one.
      const natural = Math.max(700 / span, (this.trace.count * 6) / span);
      return Math.min(natural * this.zoom, 12e6 / span);
    }

    get height() {
      if (this.scale === 'time') return TOP * 2 + 30 + (this.trace.t1 - this.trace.t0) * this.pixelsPerNs;
      return TOP * 2 + 30 + this.rows.length * this.rowHeight;
    }

    /** The middle of an event; of one that is hidden, where it would be. */
    y(pos) {
      if (this.scale === 'time') return TOP + 12 + (this.trace.at[pos] - this.trace.t0) * this.pixelsPerNs;
      const row = this.before[pos];
      return TOP + (this.shown[pos] ? row + 0.5 : row) * this.rowHeight;
    }

    /** Where a moment is. */
    yOfTime(ns) {
      if (this.scale === 'time') return TOP + 12 + (Math.max(ns, this.trace.t0) - this.trace.t0) * this.pixelsPerNs;
      return TOP + this.before[this.trace.positionAt(ns)] * this.rowHeight;
    }

    /** First and last row that touch the pixels from `top` to `bottom`. */
    range(top, bottom) {
      if (!this.rows.length) return [0, -1];
      if (this.scale === 'time') {
        const at = (y) => this.trace.t0 + (y - TOP - 12) / this.pixelsPerNs;
        const first = this.before[this.trace.positionAt(at(top - 12))];
        const last = this.before[Math.min(this.trace.count, this.trace.positionAt(at(bottom + 12)) + 1)] - 1;
        return [Math.max(0, first - 1), Math.min(this.rows.length - 1, last)];
      }
      const clamp = (row) => Math.min(this.rows.length - 1, Math.max(0, row));
      return [clamp(Math.floor((top - TOP) / this.rowHeight)), clamp(Math.ceil((bottom - TOP) / this.rowHeight))];
    }

    /** The shown event nearest to a height, among those of `node` if given. */
    at(y, node) {
      const [first, last] = this.range(y - 40, y + 40);
      let best = -1;
      let distance = Infinity;
      for (let row = first; row <= last; row += 1) {
        const pos = this.rows[row];
        const off = node !== undefined && this.trace.events[pos].node !== node ? 8 : 0;
        const d = Math.abs(this.y(pos) - y) + (this.scale === 'time' ? off : 0);
        if (d < distance) {
          distance = d;
          best = pos;
        }
      }
      return this.scale === 'order' && distance > this.rowHeight ? -1 : best;
    }

    /** The shown event `by` rows after `pos`; from nothing, the first or the last. */
    step(pos, by) {
      if (!this.rows.length) return -1;
      if (pos < 0) return by > 0 ? this.rows[0] : this.rows[this.rows.length - 1];
      const row = this.before[pos] + (by > 0 && !this.shown[pos] ? by - 1 : by);
      return this.rows[Math.min(this.rows.length - 1, Math.max(0, row))];
    }

    /** The shown event of the same node before or after. */
    along(pos, by) {
      const node = pos < 0 ? null : this.trace.events[pos].node;
      if (node === null || node === undefined) return this.step(pos, by);
      for (let row = this.before[pos] + by; row >= 0 && row < this.rows.length; row += by) {
        if (this.trace.events[this.rows[row]].node === node) return this.rows[row];
      }
      return pos;
    }
  }

  // Text of Rust's Debug, broken into lines.

  const CLOSE = { '{': '}', '[': ']', '(': ')' };

  /** Reads nested brackets into `{text, open, items}`; null where they do not match. */
  function tree(text) {
    let at = 0;
    function skip() {
      while (at < text.length && /\s/.test(text[at])) at += 1;
    }
    function item(until) {
      let head = '';
      const parts = [];
      for (;;) {
        if (at >= text.length) {
          if (until) return null;
          break;
        }
        const c = text[at];
        if (c === '"') {
          const start = at;
          at += 1;
          while (at < text.length && text[at] !== '"') at += text[at] === '\\' ? 2 : 1;
          at += 1;
          head += text.slice(start, at);
        } else if (CLOSE[c]) {
          at += 1;
          const items = list(CLOSE[c]);
          if (!items) return null;
          parts.push({ head, open: c, items });
          head = '';
        } else if (c === ',' || c === until) {
          break;
        } else if (c === '}' || c === ']' || c === ')') {
          return null;
        } else if (/\s/.test(c)) {
          skip();
          head += ' ';
        } else {
          head += c;
          at += 1;
        }
      }
      return { parts, tail: head.trimEnd() };
    }
    function list(until) {
      const items = [];
      for (;;) {
        skip();
        if (until && text[at] === until) {
          at += 1;
          return items;
        }
        if (at >= text.length) return until ? null : items;
        const next = item(until);
        if (!next) return null;
        items.push(next);
        if (text[at] === ',') at += 1;
      }
    }
    return list('');
  }

  function flat(item) {
    const parts = item.parts.map(({ head, open, items }) => {
      const inside = items.map(flat).join(', ');
      const pad = open === '{' && inside ? ' ' : '';
      return `${head}${open}${pad}${inside}${pad}${CLOSE[open]}`;
    });
    return parts.join('') + item.tail;
  }

  function lines(item, indent, width, out) {
    const one = flat(item);
    const pad = '  '.repeat(indent);
    const last = item.parts.at(-1);
    if ((pad.length + one.length <= width && indent > 0) || !last || !last.items.length) {
      out.push(pad + one);
      return;
    }
    const before = flat({ parts: item.parts.slice(0, -1), tail: '' });
    out.push(`${pad}${before}${last.head}${last.open}`);
    for (const inner of last.items) lines(inner, indent + 1, width, out);
    out.push(`${pad}${CLOSE[last.open]}${item.tail}`);
  }

  /** Breaks the Debug text of a value into lines no wider than `width` where possible. */
  function pretty(text, width = 46) {
    const items = text.length > 200_000 ? null : tree(text);
    if (!items) return text.split('\n');
    const out = [];
    for (const item of items) lines(item, 0, width, out);
    return out;
  }

  /** Marks the lines of `next` that `previous` has not, by longest common subsequence. */
  function changed(previous, next) {
    const rows = previous.length;
    const columns = next.length;
    const marks = new Array(columns).fill(true);
    if (!rows || rows * columns > 4e6) return new Array(columns).fill(false);
    const best = Array.from({ length: rows + 1 }, () => new Uint16Array(columns + 1));
    for (let r = rows - 1; r >= 0; r -= 1) {
      for (let c = columns - 1; c >= 0; c -= 1) {
        best[r][c] = previous[r] === next[c] ? best[r + 1][c + 1] + 1 : Math.max(best[r + 1][c], best[r][c + 1]);
      }
    }
    for (let r = 0, c = 0; r < rows && c < columns;) {
      if (previous[r] === next[c]) {
        marks[c] = false;
        r += 1;
        c += 1;
      } else if (best[r + 1][c] >= best[r][c + 1]) r += 1;
      else c += 1;
    }
    return marks;
  }

  /** The named fields of a value's Debug text, as text; null where it has none. */
  function fields(text) {
    const parts = tree(text)?.[0]?.parts;
    if (parts?.length !== 1 || parts[0].open !== '{') return null;
    const named = new Map();
    for (const item of parts[0].items) {
      const [name, ...rest] = flat(item).split(': ');
      named.set(name, rest.join(': '));
    }
    return named;
  }

  /** A fault for people: `Loss { link: …, per_million: 27000, for_us: Some(500) }` is `loss n0 → n1 2.7 % for 500 µs`. */
  function faultText(trace, event) {
    const named = fields(event.detail);
    if (!named) return event.label || event.what;
    const node = (text) => {
      const number = /NodeIx\((\d+)\)/.exec(text)?.[1];
      return number === undefined ? '*' : trace.nodes[number] ?? `node ${number}`;
    };
    const words = [event.label || event.what];
    for (const [name, value] of named) {
      const inner = /^Some\((.*)\)$/.exec(value)?.[1] ?? value;
      if (inner === 'None') continue;
      const link = fields(inner);
      if (name === 'node') {
        if (event.node === null) words.push(node(inner));
      } else if (name === 'group') words.push(inner.match(/NodeIx\(\d+\)/g)?.map(node).join(', ') ?? inner);
      else if (name === 'link' && link) {
        const ends = [node(link.get('from') ?? ''), node(link.get('to') ?? '')];
        words.push(ends.join('') === '**' ? 'everywhere' : ends.join(' → '));
      } else if (name === 'per_million') words.push(`${Number((Number(inner) / 1e4).toPrecision(3))} %`);
      else if (name === 'for_us') words.push(`for ${time(Number(inner) * 1e3)}`);
      else if (name === 'delay') words.push(delayText(inner));
      else if (/_us$/.test(name) && /^-?\d+$/.test(inner)) words.push(`${inner < 0 ? '−' : ''}${time(Math.abs(inner) * 1e3)}`);
      else words.push(`${name.replace(/_/g, ' ')} ${inner}`);
    }
    return words.join(' ');
  }

  function delayText(text) {
    const micros = (number) => time(Number(number) * 1e3);
    const simple = /^(\w+)\(([\d, ]+)\)$/.exec(text);
    if (simple) return `${simple[1].toLowerCase()} ${simple[2].split(', ').map(micros).join(' to ')}`;
    const named = fields(text);
    if (!named?.has('slow_us')) return text;
    const slow = Number((Number(named.get('slow_per_million')) / 1e4).toPrecision(3));
    return `${micros(named.get('fast_us'))}, of ${slow} % ${micros(named.get('slow_us'))}`;
  }

  /** What stands beside an event in the diagram. */
  function caption(trace, event) {
    const { what, label } = event;
    if (FAULTS.has(what)) {
      const text = faultText(trace, event);
      return what === 'fault' || text === what || text.startsWith(what) ? text : `${what} ${text}`;
    }
    if (what === 'up' || what === 'down') return `session ${what} ${label}`;
    if (!label || label === '()' || label === what) return what;
    return (MESSAGES.has(what) || CLIENTS.has(what)) && /[a-z]/i.test(label) ? label : `${what} ${label}`;
  }

  /** Simulated time for people. */
  function time(ns) {
    if (ns < 1e3) return `${ns} ns`;
    if (ns < 1e6) return `${(ns / 1e3).toFixed(1)} µs`;
    if (ns < 1e10) return `${(ns / 1e6).toFixed(3)} ms`;
    return `${(ns / 1e9).toFixed(4)} s`;
  }

  /** How long something took, for people. */
  function span(ns) {
    return ns < 1e9 ? time(ns) : `${(ns / 1e9).toFixed(3)} s`;
  }

  /** One line about an event. */
  function sentence(trace, pos) {
    const event = trace.events[pos];
    const name = (node) => trace.nodes[node] ?? `node ${node}`;
    const where = event.node === null ? '' : ` · ${name(event.node)}`;
    const from = event.from ? ` from ${name(event.from[0])}` : '';
    const text = caption(trace, event);
    const what = text.startsWith(event.what) || FAULTS.has(event.what) ? text : `${event.what} ${text}`;
    return `#${event.i} · ${time(event.at_ns)}${where} · ${what}${from}`;
  }

  return { Trace, View, TraceError, GROUPS, FAULTS, CLIENTS, MESSAGES, TOP, parse, groupOf, pretty, changed, time, span, caption, sentence, upper };
})();
