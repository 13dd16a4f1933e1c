// The space-time diagram and the overview beside it, on canvas. Draws only what the window shows.
'use strict';

lab.draw = (() => {
  const GUTTER = 96;
  const LANE_MIN = 40;
  const { FAULTS, CLIENTS, MESSAGES, TOP, caption, time } = lab.model;

  /** Colours of the current theme. */
  function palette() {
    const style = getComputedStyle(document.documentElement);
    const get = (name) => style.getPropertyValue(name).trim();
    const names = ['ink', 'soft', 'faint', 'line', 'paper', 'card', 'accent', 'bad', 'warn', 'good', 'select', 'hover'];
    const colours = Object.fromEntries(names.map((name) => [name, get(`--${name}`)]));
    colours.kinds = Array.from({ length: 8 }, (_, k) => get(`--k${k}`));
    return colours;
  }

  /** What covers a lane: its colour, and whether hatched. Other faults last long and change little: a thin strip. */
  const SHADES = {
    down: ['bad', false], crash: ['bad', false], pause: ['warn', false], partition: ['bad', true], hold: ['warn', true],
  };
  const STRIP = ['soft', false];

  class Diagram {
    /** `parts`: scroller, canvas, spacer, header, minimap. `look` gives what the user has chosen: selected, cursor, hover. */
    constructor(parts, look) {
      Object.assign(this, parts);
      this.look = look;
      this.trace = null;
      this.view = null;
      this.colours = palette();
      this.queued = false;
      this.scroller.addEventListener('scroll', () => this.redraw());
      new ResizeObserver(() => this.layout()).observe(this.scroller);
    }

    show(trace, view) {
      this.trace = trace;
      this.view = view;
      this.layout();
    }

    /** Takes up another theme. */
    recolour() {
      this.colours = palette();
      this.hatches = null;
      this.layout();
    }

    /** Sizes everything anew: after another window, filter, scale or zoom. */
    layout() {
      const { scroller, canvas, spacer } = this;
      this.width = scroller.clientWidth;
      this.depth = scroller.clientHeight;
      this.ratio = window.devicePixelRatio || 1;
      canvas.width = Math.max(1, this.width * this.ratio);
      canvas.height = Math.max(1, this.depth * this.ratio);
      canvas.style.width = `${this.width}px`;
      canvas.style.height = `${this.depth}px`;
      if (this.view) {
        const lanes = Math.max(1, this.view.lanes.length);
        this.lane = Math.max(LANE_MIN, (this.width - GUTTER - 8) / lanes);
        spacer.style.height = `${Math.max(this.view.height, this.depth)}px`;
        spacer.style.width = `${GUTTER + 8 + lanes * this.lane}px`;
      }
      this.overview = null;
      // A canvas of another size is empty: painted in the same frame, it does not flicker.
      this.paint();
    }

    redraw() {
      if (this.queued) return;
      this.queued = true;
      requestAnimationFrame(() => {
        this.queued = false;
        this.paint();
      });
    }

    x(node) {
      const lane = this.view.laneOf[node] ?? -1;
      return lane < 0 ? NaN : GUTTER + this.lane * (lane + 0.5) - this.scroller.scrollLeft;
    }

    kindColour(kind) {
      const k = this.trace.kindIx.get(kind);
      return k === undefined ? this.colours.soft : this.colours.kinds[k % this.colours.kinds.length];
    }

    /** Brings an event into the window; `middle` even if it is at the edge. */
    reveal(pos, middle) {
      if (pos < 0 || !this.view) return;
      const y = this.view.y(pos);
      const top = this.scroller.scrollTop;
      const margin = Math.min(60, this.depth / 4);
      if (middle && (y < top + margin || y > top + this.depth - margin)) this.scroller.scrollTop = y - this.depth / 2;
      else if (y < top + margin) this.scroller.scrollTop = y - margin;
      else if (y > top + this.depth - margin) this.scroller.scrollTop = y - this.depth + margin;
      const node = this.trace.events[pos].node;
      const x = node === null ? NaN : this.x(node);
      if (x < GUTTER) this.scroller.scrollLeft += x - GUTTER - this.lane;
      else if (x > this.width - 20) this.scroller.scrollLeft += x - this.width + this.lane;
      this.redraw();
    }

    /** The event at a point of the canvas, or -1. */
    hit(x, y) {
      if (!this.view) return -1;
      const message = this.hitMessage(x, y);
      if (message >= 0) return message;
      const lane = Math.floor((x + this.scroller.scrollLeft - GUTTER) / this.lane);
      return this.view.at(y + this.scroller.scrollTop, this.view.lanes[lane]);
    }

    /** The arrival (or, without one, the sending) of a message whose arrow is under the point and no event nearer. */
    hitMessage(x, y) {
      const { view, trace } = this;
      if (view.scale === 'order') return -1;
      const [first, last] = this.positions();
      let best = -1;
      let distance = 5;
      trace.crossing(first, last, (message) => {
        if (message.send < 0 || message.recv < 0) return;
        const [x0, y0] = [this.x(message.src), view.y(message.send) - this.scroller.scrollTop];
        const [x1, y1] = [this.x(message.dst), view.y(message.recv) - this.scroller.scrollTop];
        const length = Math.hypot(x1 - x0, y1 - y0);
        if (!(length > 0)) return;
        const along = ((x - x0) * (x1 - x0) + (y - y0) * (y1 - y0)) / length / length;
        if (along < 0.15 || along > 0.85) return;
        const off = Math.abs((x - x0) * (y1 - y0) - (y - y0) * (x1 - x0)) / length;
        if (off < distance) {
          distance = off;
          best = message.recv;
        }
      });
      return best;
    }

    /** What is shaded at a point, in words. */
    shadesAt(x, y) {
      if (!this.view) return [];
      const lane = Math.floor((x + this.scroller.scrollLeft - GUTTER) / this.lane);
      const node = this.view.lanes[lane];
      const at = y + this.scroller.scrollTop;
      return this.trace.shades
        .filter((shade) => this.view.yOfTime(shade.from_ns) <= at && at <= Math.max(this.view.yOfTime(shade.until_ns), this.view.yOfTime(shade.from_ns) + 3))
        .filter((shade) => (x < GUTTER ? !shade.nodes && !shade.links : this.touches(shade, node)))
        .map((shade) => this.shadeText(shade, node));
    }

    touches(shade, node) {
      if (shade.nodes) return shade.nodes.includes(node);
      if (shade.links) return shade.links.some(([a, b]) => a === node || b === node);
      return false;
    }

    shadeText(shade, node) {
      const name = (n) => this.trace.nodes[n];
      if (!shade.links || node === undefined) return shade.what;
      const to = shade.links.filter(([a]) => a === node).map(([, b]) => name(b));
      const from = shade.links.filter(([, b]) => b === node).map(([a]) => name(a));
      const both = to.filter((n) => from.includes(n));
      const parts = [];
      const list = (names) => (names.length > 4 ? `${names.slice(0, 3).join(', ')} and ${names.length - 3} more` : names.join(', '));
      if (both.length) parts.push(`${name(node)} ↮ ${list(both)}`);
      const out = to.filter((n) => !both.includes(n));
      const into = from.filter((n) => !both.includes(n));
      if (out.length) parts.push(`${name(node)} ↛ ${list(out)}`);
      if (into.length) parts.push(`${list(into)} ↛ ${name(node)}`);
      return `${shade.what}: ${parts.join('; ')}`;
    }

    /** The positions that the window touches. */
    positions() {
      const top = this.scroller.scrollTop;
      const [first, last] = this.view.range(top, top + this.depth);
      if (last < first) return [0, -1];
      const { rows } = this.view;
      const from = first > 0 ? rows[first - 1] + 1 : 0;
      const to = last + 1 < rows.length ? rows[last + 1] - 1 : this.trace.count - 1;
      return [from, Math.max(from, to)];
    }

    paint() {
      const cx = this.canvas.getContext('2d');
      cx.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
      cx.clearRect(0, 0, this.width, this.depth);
      if (!this.view) return;
      const top = this.scroller.scrollTop;
      const [first, last] = this.view.range(top, top + this.depth);
      this.paintRows(cx, top, first, last);
      this.paintShades(cx, top);
      this.paintLanes(cx, top);
      this.paintMessages(cx, top);
      this.paintEvents(cx, top, first, last);
      this.paintGutter(cx, top, first, last);
      this.placeHeader();
      this.paintOverview();
    }

    /** Backgrounds of the rows that stand out. */
    paintRows(cx, top) {
      const { view, trace, colours } = this;
      const { selected, cursor, hover } = this.look;
      const height = view.scale === 'order' ? Math.max(6, view.rowHeight) : 14;
      const band = (pos, colour) => {
        if (pos < 0 || !view.shown[pos]) return;
        const y = view.y(pos) - top;
        cx.fillStyle = colour;
        cx.fillRect(0, y - height / 2, this.width, height);
      };
      band(hover, colours.hover);
      if (trace.violationAt >= 0) {
        cx.globalAlpha = 0.16;
        band(trace.violationAt, colours.bad);
        cx.globalAlpha = 1;
      }
      band(selected, colours.select);
      if (cursor >= 0) {
        const y = view.y(cursor) - top + height / 2;
        cx.strokeStyle = colours.accent;
        cx.lineWidth = 1.5;
        cx.setLineDash([2, 3]);
        cx.beginPath();
        cx.moveTo(0, y);
        cx.lineTo(this.width, y);
        cx.stroke();
        cx.setLineDash([]);
      }
    }

    hatch(cx, name) {
      this.hatches ??= {};
      if (!this.hatches[name]) {
        const tile = document.createElement('canvas');
        tile.width = 8;
        tile.height = 8;
        const pen = tile.getContext('2d');
        pen.strokeStyle = this.colours[name];
        pen.lineWidth = 1.6;
        pen.beginPath();
        for (const at of [-8, 0, 8]) {
          pen.moveTo(at - 1, 9);
          pen.lineTo(at + 9, -1);
        }
        pen.stroke();
        this.hatches[name] = cx.createPattern(tile, 'repeat');
      }
      return this.hatches[name];
    }

    paintShades(cx, top) {
      const { view, trace, colours } = this;
      const half = Math.min(26, this.lane * 0.4);
      const strips = new Map(); // where a strip of a lane goes, so that several stand side by side
      for (const shade of trace.shades) {
        const y0 = view.yOfTime(shade.from_ns) - top;
        const y1 = Math.max(view.yOfTime(shade.until_ns) - top, y0 + 3);
        const [name, hatched] = SHADES[shade.what] ?? STRIP;
        const everywhere = !shade.nodes && !shade.links;
        for (const [node, weight] of everywhere ? [[-1, 1]] : this.weights(shade)) {
          const thin = everywhere || !SHADES[shade.what] || weight < 0.6;
          const place = `${node} ${shade.what}`;
          if (thin && !strips.has(place)) strips.set(place, [...strips.keys()].filter((key) => key.startsWith(`${node} `)).length % 4);
          if (y1 < 0 || y0 > this.depth) continue;
          const x = everywhere ? GUTTER - 4 : this.x(node);
          if (!(x > -half && x < this.width + half)) continue;
          if (thin) {
            cx.globalAlpha = SHADES[shade.what] ? 0.7 : 0.35;
            cx.fillStyle = colours[name];
            const at = strips.get(place) * 4;
            cx.fillRect(everywhere ? x - at : x - half + at, y0, 2, y1 - y0);
            cx.globalAlpha = 1;
            continue;
          }
          cx.globalAlpha = hatched ? 0.4 * weight : 0.2;
          cx.fillStyle = hatched ? this.hatch(cx, name) : colours[name];
          cx.fillRect(x - half, y0, half * 2, y1 - y0);
          cx.globalAlpha = 0.9;
          if (half > 16) this.shadeName(cx, shade.what, colours[name], x + half - 7, Math.max(y0 + 24, 0), y1);
          cx.globalAlpha = 1;
        }
      }
    }

    /** The name of a shade along its edge, where no event stands. */
    shadeName(cx, what, colour, x, y0, y1) {
      cx.fillStyle = colour;
      cx.font = '600 9.5px system-ui, sans-serif';
      cx.textBaseline = 'middle';
      cx.textAlign = 'right';
      cx.save();
      cx.translate(x, y0 + 4);
      cx.rotate(-Math.PI / 2);
      if (cx.measureText(what).width + 8 < y1 - y0) cx.fillText(what, 0, 0);
      cx.restore();
      cx.textAlign = 'left';
    }

    /** Which lanes a shade is about, and how much of each: the part of the node's links, or all of it. */
    weights(shade) {
      if (shade.nodes) return shade.nodes.map((node) => [node, 1]);
      if (shade.weights) return shade.weights;
      const count = new Map();
      for (const [a, b] of shade.links) {
        count.set(a, (count.get(a) ?? 0) + 1);
        count.set(b, (count.get(b) ?? 0) + 1);
      }
      const all = 2 * Math.max(1, this.trace.nodes.length - 1);
      shade.weights = [...count].map(([node, links]) => [node, Math.min(1, links / all)]);
      return shade.weights;
    }

    paintLanes(cx, top) {
      const bottom = Math.min(this.depth, this.view.height - top);
      cx.strokeStyle = this.colours.line;
      cx.lineWidth = 1.5;
      cx.beginPath();
      for (const node of this.view.lanes) {
        const x = this.x(node);
        if (x < GUTTER - 20 || x > this.width + 20) continue;
        cx.moveTo(x, Math.max(0, TOP - 4 - top));
        cx.lineTo(x, bottom);
      }
      cx.stroke();
    }

    paintMessages(cx, top) {
      const { view, trace } = this;
      const [first, last] = this.positions();
      if (last < first) return;
      const { selected, cursor } = this.look;
      const hidden = view.filter.kinds;
      const strokes = new Map();
      const heads = new Map();
      const marks = [];
      let drawn = 0;
      const line = (colour, alpha, wide, dash) => {
        const key = `${colour}|${alpha}|${wide}|${dash}`;
        let found = strokes.get(key);
        if (!found) strokes.set(key, found = { colour, alpha, wide, dash, path: new Path2D() });
        return found.path;
      };
      const head = (colour, alpha, x, y, angle) => {
        const key = `${colour}|${alpha}`;
        let found = heads.get(key);
        if (!found) heads.set(key, found = { colour, alpha, path: new Path2D() });
        const [c, s] = [Math.cos(angle), Math.sin(angle)];
        found.path.moveTo(x, y);
        found.path.lineTo(x - 8 * c + 3.4 * s, y - 8 * s - 3.4 * c);
        found.path.lineTo(x - 8 * c - 3.4 * s, y - 8 * s + 3.4 * c);
        found.path.closePath();
      };
      const dense = view.scale === 'order' ? view.rowHeight < 9 : last - first > 1500;
      const step = view.scale === 'order' ? view.rowHeight : 22;
      trace.crossing(first, last, (message) => {
        if (hidden.has(message.kind)) return;
        const from = message.send;
        const to = message.recv;
        const ends = (from >= 0 && view.shown[from] ? 1 : 0) + (to >= 0 && view.shown[to] ? 1 : 0);
        const x0 = this.x(message.src);
        const x1 = this.x(message.dst);
        if (!ends || Number.isNaN(x0) || Number.isNaN(x1)) return;
        drawn += 1;
        const chosen = selected >= 0 && (from === selected || to === selected);
        const ghost = cursor >= 0 && from > cursor;
        const under = cursor >= 0 && !ghost && (to > cursor || to < 0);
        const colour = this.kindColour(message.kind);
        let alpha = dense ? 0.35 : 0.75;
        if (selected >= 0 && !chosen) alpha *= 0.6;
        if ((from >= 0 && !view.shown[from]) || (to >= 0 && !view.shown[to])) alpha *= 0.5;
        if (ghost) alpha *= 0.25;
        if (chosen) alpha = 1;
        const wide = chosen ? 2.4 : 1.3;
        const y0 = (from >= 0 ? view.y(from) : view.y(to) - step * 0.8) - top;
        if (ends < 2 && to >= 0) {
          // The other end is hidden or not recorded: a stub tells that there is one.
          const [xa, xb] = from >= 0 && view.shown[from] ? [x0, x1] : [x1, x0];
          const ya = from >= 0 && view.shown[from] ? y0 : view.y(to) - top;
          const way = Math.sign(xb - xa) * Math.min(22, this.lane * 0.3);
          const down = (from >= 0 && view.shown[from] ? 1 : -1) * step * 0.3;
          const path = line(colour, alpha, wide, '');
          path.moveTo(xa, ya);
          path.lineTo(xa + way, ya + down);
          return;
        }
        if (to < 0) {
          // Lost, cut, held, or still under way when the trace ends: an arrow that stops on its way.
          const part = 0.42;
          const xe = x0 === x1 ? x0 - 16 : x0 + (x1 - x0) * part;
          const ye = y0 + step * 0.75;
          const path = line(colour, alpha, wide, message.fate === 'pending' || message.fate === 'held' ? '2,3' : '');
          path.moveTo(x0, y0);
          path.lineTo(xe, ye);
          marks.push([message.fate, xe, ye, alpha, colour, chosen]);
          return;
        }
        const y1 = view.y(to) - top;
        const dash = message.copy ? '5,3' : message.fate === 'dropped' ? '2,3' : '';
        if (x0 === x1) {
          const path = line(colour, alpha, wide, dash);
          path.moveTo(x0, y0);
          path.bezierCurveTo(x0 - 22, y0 + 4, x0 - 22, y1 - 4, x0 - 4, y1);
          return;
        }
        const angle = Math.atan2(y1 - y0, x1 - x0);
        const gap = 5;
        const [xe, ye] = [x1 - gap * Math.cos(angle), y1 - gap * Math.sin(angle)];
        if (under) {
          // Under way at the cursor: drawn as far as it has come.
          const now = view.y(cursor) - top;
          const part = Math.min(0.94, Math.max(0.06, (now - y0) / Math.max(1, y1 - y0)));
          const [xm, ym] = [x0 + (xe - x0) * part, y0 + (ye - y0) * part];
          const past = line(colour, alpha, wide, dash);
          past.moveTo(x0, y0);
          past.lineTo(xm, ym);
          const rest = line(colour, alpha * 0.25, 1, '2,3');
          rest.moveTo(xm, ym);
          rest.lineTo(xe, ye);
          marks.push(['flight', xm, ym, alpha, colour, chosen]);
          return;
        }
        const path = line(colour, alpha, wide, dash);
        path.moveTo(x0, y0);
        path.lineTo(xe, ye);
        if (message.fate === 'dropped') marks.push(['lost', xe, ye, alpha, colour, chosen]);
        else if (!dense) head(colour, alpha, xe, ye, angle);
      });
      for (const { colour, alpha, wide, dash, path } of strokes.values()) {
        cx.globalAlpha = alpha;
        cx.strokeStyle = colour;
        cx.lineWidth = wide;
        cx.setLineDash(dash ? dash.split(',').map(Number) : []);
        cx.stroke(path);
      }
      cx.setLineDash([]);
      for (const { colour, alpha, path } of heads.values()) {
        cx.globalAlpha = alpha;
        cx.fillStyle = colour;
        cx.fill(path);
      }
      if (!dense || drawn < 400) for (const mark of marks) this.paintMark(cx, ...mark);
      cx.globalAlpha = 1;
      this.drawnMessages = drawn;
    }

    /** The end of an arrow that does not arrive. */
    paintMark(cx, fate, x, y, alpha, colour, chosen) {
      cx.globalAlpha = Math.max(alpha, chosen ? 1 : 0.3);
      cx.lineWidth = chosen ? 2.2 : 1.6;
      const r = chosen ? 5 : 3.6;
      cx.beginPath();
      if (fate === 'flight') {
        cx.fillStyle = colour;
        cx.arc(x, y, 3.2, 0, 7);
        cx.fill();
        return;
      }
      if (fate === 'held') {
        cx.strokeStyle = this.colours.warn;
        cx.moveTo(x - 2, y - r);
        cx.lineTo(x - 2, y + r);
        cx.moveTo(x + 2, y - r);
        cx.lineTo(x + 2, y + r);
      } else if (fate === 'partition') {
        cx.strokeStyle = this.colours.bad;
        cx.moveTo(x, y - r - 1.5);
        cx.lineTo(x, y + r + 1.5);
      } else if (fate === 'pending') {
        return;
      } else {
        cx.strokeStyle = this.colours.bad;
        cx.moveTo(x - r, y - r);
        cx.lineTo(x + r, y + r);
        cx.moveTo(x + r, y - r);
        cx.lineTo(x - r, y + r);
      }
      cx.stroke();
    }

    paintEvents(cx, top, first, last) {
      const { view, trace, colours } = this;
      const { selected, cursor } = this.look;
      const rows = view.scale === 'order';
      const dense = rows ? view.rowHeight < 13 : last - first > 900;
      const size = dense ? 2.2 : 4.4;
      const lowest = new Map(); // in the time scale: where the last label of a lane ends
      const crowded = !rows && (last - first) * 11 > this.depth * view.lanes.length;
      const pills = [];
      cx.font = '12px system-ui, sans-serif';
      cx.textBaseline = 'middle';
      for (let row = first; row <= last; row += 1) {
        const pos = view.rows[row];
        const event = trace.events[pos];
        const y = view.y(pos) - top;
        cx.globalAlpha = cursor >= 0 && pos > cursor ? 0.22 : 1;
        if (event.node === null) {
          this.paintGlobal(cx, y);
          if (!dense) pills.push([caption(trace, event), y, cx.globalAlpha]);
          continue;
        }
        const x = this.x(event.node);
        if (Number.isNaN(x) || x < GUTTER - 10 || x > this.width + this.lane) continue;
        this.paintGlyph(cx, event, x, y, size, pos === selected);
        if ((dense || crowded) && pos !== selected && !(crowded && FAULTS.has(event.what))) continue;
        if (!rows && pos !== selected) {
          if (y < (lowest.get(event.node) ?? -Infinity)) continue;
          lowest.set(event.node, y + 14);
        }
        const text = caption(trace, event);
        // Beside the event, not under the arrow that comes in.
        const fromRight = event.from && this.x(event.from[0]) > x;
        const [before, after] = [x - GUTTER - 12, this.width - x - 14];
        const right = rows && before > 70 && (fromRight || after < 70);
        const room = rows ? Math.min(300, right ? before : after) : Math.min(this.lane - 22, after);
        if (room < 24) continue;
        cx.fillStyle = FAULTS.has(event.what) ? colours.bad : pos === selected ? colours.ink : colours.text ?? colours.ink;
        cx.textAlign = right ? 'right' : 'left';
        // What leaves to the right would run through the text.
        const leaves = !right && trace.outbound.get(pos)?.some((id) => this.x(trace.messages[id].dst) > x);
        this.outlined(cx, text, right ? x - 10 : x + 10, leaves && rows ? y - 4 : y, room, pos === selected);
        cx.textAlign = 'left';
      }
      let free = -Infinity;
      for (const [text, y, alpha] of pills) {
        if (!rows && y < free) continue;
        free = y + 15;
        cx.globalAlpha = alpha;
        this.paintPill(cx, text, y);
      }
      cx.globalAlpha = 1;
      if (trace.violationAt >= 0) this.paintViolation(cx, view.y(trace.violationAt) - top);
    }

    /** Text with a rim of the background, so that lines behind it do not disturb. */
    outlined(cx, text, x, y, room, bold) {
      let shown = text.length > 400 ? text.slice(0, 400) : text;
      const width = cx.measureText(shown).width;
      if (width > room) shown = `${shown.slice(0, Math.max(1, Math.floor((shown.length * room) / width) - 1))}…`;
      cx.lineWidth = 3.5;
      cx.lineJoin = 'round';
      cx.strokeStyle = bold ? this.colours.select : this.colours.paper;
      const { fillStyle } = cx;
      cx.strokeText(shown, x, y);
      cx.fillStyle = fillStyle;
      cx.fillText(shown, x, y);
    }

    /** A line across all lanes, for what strikes between nodes. */
    paintGlobal(cx, y) {
      cx.strokeStyle = this.colours.bad;
      cx.lineWidth = 1;
      cx.setLineDash([6, 4]);
      cx.beginPath();
      cx.moveTo(GUTTER, y);
      cx.lineTo(this.width, y);
      cx.stroke();
      cx.setLineDash([]);
    }

    paintPill(cx, text, y) {
      const width = cx.measureText(text).width;
      cx.fillStyle = this.colours.paper;
      cx.fillRect(GUTTER - 2, y - 8, width + 12, 16);
      cx.fillStyle = this.colours.bad;
      cx.fillText(text, GUTTER + 4, y);
    }

    paintViolation(cx, y) {
      if (y < -20 || y > this.depth + 20) return;
      const text = `✗ ${this.trace.violation.property}`;
      cx.font = '600 11px system-ui, sans-serif';
      const width = cx.measureText(text).width + 12;
      const x = this.width - width - 6;
      cx.fillStyle = this.colours.bad;
      cx.beginPath();
      cx.roundRect(x, y - 9, width, 18, 4);
      cx.fill();
      cx.fillStyle = this.colours.paper;
      cx.fillText(text, x + 6, y + 0.5);
    }

    /** One shape for each sort of event; the shape says it without the colour. */
    paintGlyph(cx, event, x, y, r, chosen) {
      const { colours } = this;
      const { what } = event;
      const colour = MESSAGES.has(what) ? this.kindColour(event.kind ?? event.label) : colours.soft;
      cx.lineWidth = 1.7;
      cx.fillStyle = colour;
      cx.strokeStyle = colour;
      cx.beginPath();
      if (what === 'deliver') {
        cx.arc(x, y, r, 0, 7);
        cx.fill();
      } else if (what === 'duplicate') {
        cx.fillStyle = colours.paper;
        cx.arc(x, y, r, 0, 7);
        cx.fill();
        cx.stroke();
      } else if (what === 'lost' || what === 'crash') {
        cx.strokeStyle = colours.bad;
        cx.lineWidth = what === 'crash' ? 2.6 : 1.7;
        cx.moveTo(x - r, y - r);
        cx.lineTo(x + r, y + r);
        cx.moveTo(x + r, y - r);
        cx.lineTo(x - r, y + r);
        cx.stroke();
      } else if (what === 'timer') {
        cx.fillStyle = colours.paper;
        cx.moveTo(x, y - r - 1);
        cx.lineTo(x + r + 1, y);
        cx.lineTo(x, y + r + 1);
        cx.lineTo(x - r - 1, y);
        cx.closePath();
        cx.fill();
        cx.stroke();
      } else if (CLIENTS.has(what)) {
        const way = what === 'answer' ? -1 : 1;
        cx.fillStyle = colours.accent;
        cx.moveTo(x - way * r, y - r - 0.5);
        cx.lineTo(x + way * (r + 1), y);
        cx.lineTo(x - way * r, y + r + 0.5);
        cx.closePath();
        cx.fill();
      } else if (what === 'pause') {
        cx.strokeStyle = colours.warn;
        cx.lineWidth = 2.4;
        cx.moveTo(x - r / 2, y - r);
        cx.lineTo(x - r / 2, y + r);
        cx.moveTo(x + r / 2, y - r);
        cx.lineTo(x + r / 2, y + r);
        cx.stroke();
      } else if (what === 'restart' || what === 'resume' || what === 'start') {
        cx.fillStyle = what === 'start' ? colours.soft : colours.good;
        cx.moveTo(x, y - r - 0.5);
        cx.lineTo(x + r, y + r - 0.5);
        cx.lineTo(x - r, y + r - 0.5);
        cx.closePath();
        cx.fill();
      } else {
        cx.fillRect(x - r + 1, y - r + 1, 2 * r - 2, 2 * r - 2);
      }
      if (chosen) {
        cx.strokeStyle = colours.ink;
        cx.lineWidth = 2;
        cx.beginPath();
        cx.arc(x, y, r + 3.2, 0, 7);
        cx.stroke();
      }
    }

    paintGutter(cx, top, first, last) {
      const { view, trace, colours } = this;
      cx.font = '11px ui-monospace, monospace';
      cx.fillStyle = colours.soft;
      cx.textAlign = 'right';
      if (view.scale === 'time') {
        const per = view.pixelsPerNs;
        const step = nice(70 / per);
        const from = Math.floor((top - TOP) / per / step) * step;
        for (let t = Math.max(0, from); t * per < top + this.depth; t += step) {
          if (t > trace.t1 - trace.t0) break;
          const y = TOP + 12 + t * per - top;
          cx.fillText(time(trace.t0 + t), GUTTER - 22, y);
          cx.fillRect(GUTTER - 20, y, 5, 1);
        }
      } else {
        const every = Math.max(1, Math.ceil(18 / view.rowHeight));
        for (let row = Math.ceil(first / every) * every; row <= last; row += every) {
          const pos = view.rows[row];
          cx.fillText(time(trace.at[pos]), GUTTER - 22, view.y(pos) - top);
        }
      }
      cx.textAlign = 'left';
    }

    placeHeader() {
      const shift = this.scroller.scrollLeft;
      for (const item of this.header.children) {
        const lane = this.view.laneOf[Number(item.dataset.node)];
        item.style.transform = `translateX(${GUTTER + this.lane * lane - shift}px)`;
        item.style.width = `${this.lane}px`;
      }
      this.header.classList.toggle('slim', this.lane < 64);
    }

    /** The whole trace at a glance, painted once; over it the window, selection and violation. */
    paintOverview() {
      const { minimap, ratio, view, trace, colours } = this;
      const width = minimap.clientWidth;
      const height = minimap.clientHeight;
      if (!width || !height) return;
      if (minimap.width !== Math.round(width * ratio) || minimap.height !== Math.round(height * ratio)) this.overview = null;
      const total = Math.max(view.height, this.depth);
      const y = (at) => (at / total) * height;
      if (!this.overview) {
        minimap.width = Math.round(width * ratio);
        minimap.height = Math.round(height * ratio);
        this.overview = document.createElement('canvas');
        this.overview.width = minimap.width;
        this.overview.height = minimap.height;
        const pen = this.overview.getContext('2d');
        pen.scale(ratio, ratio);
        const lanes = Math.max(1, view.lanes.length);
        const lane = (width - 8) / lanes;
        for (const shade of trace.shades) {
          if (!SHADES[shade.what] || (!shade.nodes && !shade.links)) continue;
          const [name] = SHADES[shade.what];
          pen.globalAlpha = 0.22;
          pen.fillStyle = colours[name];
          const y0 = y(view.yOfTime(shade.from_ns));
          const y1 = Math.max(y(view.yOfTime(shade.until_ns)), y0 + 1);
          for (const [node, weight] of this.weights(shade)) {
            if (weight < 0.6) continue;
            const at = view.laneOf[node];
            if (at >= 0) pen.fillRect(4 + at * lane, y0, lane, y1 - y0);
          }
        }
        pen.globalAlpha = view.rows.length > 4000 ? 0.35 : 0.8;
        const stripe = Math.max(1, Math.min(lane - 1, 6));
        for (const pos of view.rows) {
          const event = trace.events[pos];
          const at = view.laneOf[event.node];
          if (FAULTS.has(event.what) && event.what !== 'fault') pen.fillStyle = colours.bad;
          else if (MESSAGES.has(event.what)) pen.fillStyle = this.kindColour(event.kind ?? event.label);
          else pen.fillStyle = colours.soft;
          if (event.node === null) {
            pen.fillStyle = colours.bad;
            pen.fillRect(2, y(view.y(pos)), width - 4, 1);
          } else pen.fillRect(4 + (at + 0.5) * lane - stripe / 2, y(view.y(pos)), stripe, Math.max(1, (height / total) * 4));
        }
      }
      const cx = minimap.getContext('2d');
      cx.setTransform(1, 0, 0, 1, 0, 0);
      cx.clearRect(0, 0, minimap.width, minimap.height);
      cx.drawImage(this.overview, 0, 0);
      cx.setTransform(ratio, 0, 0, ratio, 0, 0);
      const mark = (pos, colour) => {
        if (pos < 0) return;
        cx.fillStyle = colour;
        cx.fillRect(0, y(view.y(pos)) - 1, width, 2.5);
      };
      mark(trace.violationAt, colours.bad);
      mark(this.look.cursor, colours.accent);
      mark(this.look.selected, colours.ink);
      cx.strokeStyle = colours.soft;
      cx.fillStyle = colours.hover;
      const at = y(this.scroller.scrollTop);
      const size = Math.max(8, y(this.depth));
      cx.globalAlpha = 0.6;
      cx.fillRect(0.5, at, width - 1, size);
      cx.globalAlpha = 1;
      cx.strokeRect(0.5, at + 0.5, width - 1, size - 1);
    }
  }

  /** The next of 1, 2, 5 times a power of ten. */
  function nice(value) {
    const power = 10 ** Math.floor(Math.log10(Math.max(1, value)));
    for (const step of [1, 2, 5, 10]) if (step * power >= value) return step * power;
    return 10 * power;
  }

  return { Diagram, GUTTER };
})();
