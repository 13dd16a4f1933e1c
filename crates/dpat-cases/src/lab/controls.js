// What the user does: run, step, filter, share. The state of the page is the fragment of its address.
'use strict';

(() => {
  const { View, GROUPS, parse, sentence, span } = lab.model;
  const { make, kindStyle } = lab.panel;
  const $ = (id) => document.getElementById(id);
  const served = document.documentElement.dataset.served === 'yes';

  /** What is shown and chosen. `selected` and `cursor` are positions, -1 for none. */
  const look = { selected: -1, cursor: -1, hover: -1 };
  let trace = null;
  let view = null;
  let outcome = null;
  let protocols = [];
  let tab = 'event';
  let edited = false; // the script is the user's, not drawn from the seed
  let drawn = ''; // the script that the last run drew
  let fromRun = false; // the trace was run here, so that a link repeats it
  let timer = 0;
  let busy = null;

  const diagram = new lab.draw.Diagram({
    scroller: $('diagram'), canvas: $('canvas'), spacer: $('spacer'), header: $('lanes'), minimap: $('minimap'),
  }, look);

  // What the server is asked.

  class Problem extends Error {
    constructor(body, status) {
      super(body.detail ?? body.title ?? `status ${status}`);
      this.body = body;
    }
  }

  async function ask(path, body, signal) {
    const options = body === undefined ? {} : {
      method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body), signal,
    };
    const response = await fetch(path, options);
    if (!response.ok) throw new Problem(await response.json().catch(() => ({})), response.status);
    return response.text();
  }

  function wanted() {
    return {
      protocol: $('protocol').value,
      mutant: $('mutant').value || null,
      seed: $('seed').value.trim(),
      nodes: $('nodes').value ? Number($('nodes').value) : null,
      script: edited ? $('script').value : null,
    };
  }

  const infoOf = (name) => protocols.find((info) => info.name === name);

  async function run(then = {}) {
    if (!served || !$('run-form').reportValidity()) return;
    busy?.abort();
    const mine = busy = new AbortController();
    halt();
    $('run').setAttribute('aria-busy', 'true');
    $('run').textContent = 'Running…';
    showErrors([]);
    try {
      const text = await ask('api/run', wanted(), mine.signal);
      const answer = JSON.parse(text);
      if (mine !== busy) return;
      const digits = /"seed"\s*:\s*(\d+)/.exec(text);
      drawn = answer.script;
      if (!edited) $('script').value = drawn;
      fromRun = true;
      show(new lab.model.Trace(answer.trace), answer.outcome, then);
      if (digits) trace.seed = $('seed').value.trim();
    } catch (error) {
      if (error.name === 'AbortError') return;
      refuse(error);
    } finally {
      if (mine === busy) {
        $('run').removeAttribute('aria-busy');
        $('run').textContent = 'Run';
      }
    }
  }

  /** Says why nothing was run: beside the script if it is the script's fault. */
  function refuse(error) {
    const errors = error.body?.errors;
    if (errors?.length) {
      showErrors(errors);
      choose('script');
    } else {
      $('verdict').replaceChildren(make('span', { class: 'chip bad' }, 'not run'), make('span', { class: 'message' }, error.message));
    }
  }

  async function shrink() {
    const button = $('shrink');
    button.disabled = true;
    button.textContent = 'Shrinking…';
    try {
      const answer = JSON.parse(await ask('api/shrink', wanted()));
      $('script').value = answer.script;
      setEdited(true);
      await run();
      toast(`${answer.units_before} faults and calls, now ${answer.units}${answer.minimal ? ': none can be taken away' : ''}; ${answer.tried} runs`);
      choose('script');
    } catch (error) {
      button.disabled = false;
      button.textContent = 'Shrink';
      refuse(error);
    }
  }

  // A trace arrives.

  function show(next, summary, then = {}) {
    trace = next;
    outcome = summary ?? null;
    view = new View(trace);
    Object.assign(look, { selected: -1, cursor: -1, hover: -1 });
    $('tools').hidden = false;
    $('save').disabled = false;
    lanes();
    fillKeys();
    fillBreaks();
    const { violationAt } = trace;
    $('cone-violation').disabled = violationAt < 0;
    view.scale = then.scale === 'time' ? 'time' : 'order';
    view.zoom = Math.min(16, Math.max(0.125, Number(then.zoom) || 1));
    const { filter } = view;
    for (const kind of split(then.without)) filter.kinds.add(kind);
    for (const name of split(then.hidden)) if (trace.nodes.includes(name)) filter.nodes.add(trace.nodes.indexOf(name));
    filter.key = then.key ?? '';
    filter.text = then.text ?? '';
    // A violation is first seen with its causes alone.
    if (then.cone === undefined) filter.cone = violationAt;
    else if (then.cone !== 'off') filter.cone = trace.nearest(Number(then.cone));
    $('key').value = filter.key;
    $('text').value = filter.text;
    if (then.break) $('break').value = then.break;
    if (then.at) $('break-event').value = then.at;
    if ($('break').selectedIndex < 0) $('break').selectedIndex = 0;
    breakField();
    view.refresh();
    chips();
    diagram.show(trace, view);
    verdict();
    const event = then.event === undefined ? violationAt : trace.nearest(Number(then.event));
    if (then.cursor !== undefined && trace.count) look.cursor = trace.nearest(Number(then.cursor));
    $('empty').textContent = trace.count ? '' : 'This run has no events.';
    if (event < 0 && tab === 'event') choose('run');
    select(event, true);
    if (event < 0) $('diagram').scrollTop = 0;
    document.title = `${trace.protocol}${trace.mutant ? `@${trace.mutant}` : ''} · seed ${trace.seed} · dpat lab`;
    recorded();
  }

  const split = (text) => (text ? text.split(',') : []);

  function recorded() {
    const line = $('recorded');
    line.hidden = served && fromRun;
    $('run-form').hidden = !served;
    if (!trace || fromRun) return;
    line.textContent = served ? 'showing a recorded trace' : `${trace.protocol}${trace.mutant ? `@${trace.mutant}` : ''} · seed ${trace.seed} · recorded trace`;
  }

  function verdict() {
    const bar = $('verdict');
    bar.replaceChildren();
    const { violation } = trace;
    bar.append(make('span', { class: violation ? 'chip bad' : 'chip' }, violation ? `✗ ${violation.property}` : 'holds'));
    if (violation) {
      bar.append(make('span', { class: 'message' }, violation.message));
      if (trace.count) bar.append(make('button', { class: 'link', id: 'to-violation', title: 'Go there (v)', onclick: () => select(trace.violationAt, true) }, `at #${violation.at_event}`));
      if (served && fromRun) bar.append(make('button', { id: 'shrink', title: 'Take away every fault and call that the violation does not need', onclick: shrink }, 'Shrink'));
    }
    bar.append(make('span', { class: 'grow' }));
    const events = (outcome?.events ?? trace.count).toLocaleString('en');
    const facts = [`${events} events`, `${span(trace.t1 - trace.t0)} simulated`];
    if (outcome) facts.splice(1, 0, `${outcome.delivered.toLocaleString('en')} delivered`);
    if (trace.raw.truncated) facts.push(`only the first ${trace.count.toLocaleString('en')} recorded`);
    bar.append(make('span', { class: 'facts' }, facts.join(' · ')));
    const command = document.documentElement.dataset.command || `dpat replay ${trace.protocol}${trace.mutant ? `@${trace.mutant}` : ''} ${trace.seed}${$('nodes').value && fromRun ? ` --nodes ${$('nodes').value}` : ''}${edited ? ' --script FILE' : ''}`;
    bar.append(make('code', { title: 'Copy the command', tabindex: 0, role: 'button', onclick: () => copy(command, 'Command copied'), onkeydown: (event) => { if (event.key === 'Enter') copy(command, 'Command copied'); } }, command));
  }

  function lanes() {
    $('lanes').replaceChildren(...trace.nodes.map((name, node) => make('button', {
      'data-node': node, onclick: () => laneClicked(node), title: `${name}: its state`,
    }, make('b', {}, name), make('small', {}, 'up'))));
  }

  function laneClicked(node) {
    choose('nodes');
    const details = $('pane').querySelector(`details[data-node="${node}"]`);
    if (details) {
      details.open = true;
      details.scrollIntoView({ block: 'nearest' });
    }
  }

  function fillKeys() {
    $('keys').replaceChildren(...trace.keys.slice(0, 2000).map((key) => make('option', { value: key })));
    $('key').disabled = !trace.keys.length;
  }

  /** Buttons that hide and show kinds of events and nodes. */
  function chips() {
    const counts = trace.tally();
    const { filter } = view;
    const list = [];
    const chip = (name, label, set, value, style, count) => make('button', {
      'aria-pressed': String(!set.has(value)), 'data-chip': name, title: `Hide or show ${label}; with Alt: only this`, style: null,
      onclick: (event) => toggle(set, value, event.altKey ? chipsOf(set) : null),
    }, make('i', { style }), label, count === undefined ? null : make('span', { class: 'count' }, count.toLocaleString('en')));
    for (const kind of trace.kinds) list.push(chip(kind, kind, filter.kinds, kind, kindStyle(trace, kind), counts.get(kind) ?? 0));
    for (const group of GROUPS) {
      const count = counts.get(`(${group})`);
      if (count) list.push(chip(group, group, filter.kinds, `(${group})`, group === 'faults' ? '--c: var(--bad)' : '', count));
    }
    if (trace.nodes.length > 1 && trace.nodes.length <= 64) {
      if (list.length) list.push(make('span', { class: 'rule' }));
      trace.nodes.forEach((name, node) => list.push(chip(name, name, filter.nodes, node, 'display:none')));
    }
    $('chips').replaceChildren(...list);
    tally();
  }

  function chipsOf(set) {
    if (set === view.filter.nodes) return trace.nodes.map((_, node) => node);
    return [...trace.kinds, ...GROUPS.map((group) => `(${group})`)];
  }

  function toggle(set, value, all) {
    if (all) {
      const alone = all.every((other) => set.has(other) === (other !== value));
      set.clear();
      if (!alone) for (const other of all) if (other !== value) set.add(other);
    } else if (set.has(value)) set.delete(value);
    else set.add(value);
    const focused = document.activeElement?.dataset?.chip;
    refilter();
    if (focused) $('chips').querySelector(`[data-chip="${CSS.escape(focused)}"]`)?.focus();
  }

  function tally() {
    const all = view.rows.length === trace.count;
    $('shown').textContent = all ? `${trace.count.toLocaleString('en')} events` : `${view.rows.length.toLocaleString('en')} of ${trace.count.toLocaleString('en')} events`;
    const { cone } = view.filter;
    $('cone-off').setAttribute('aria-pressed', String(cone < 0));
    $('cone-violation').setAttribute('aria-pressed', String(cone >= 0 && cone === trace.violationAt));
    $('cone-selected').setAttribute('aria-pressed', String(cone >= 0 && cone !== trace.violationAt));
    $('scale-order').setAttribute('aria-pressed', String(view.scale === 'order'));
    $('scale-time').setAttribute('aria-pressed', String(view.scale === 'time'));
    $('empty').textContent = trace.count && !view.rows.length ? 'Nothing passes the filter.' : trace.count ? '' : 'This run has no events.';
  }

  /** Applies a changed filter and keeps in sight what was. */
  function refilter() {
    const anchor = look.selected >= 0 ? look.selected : view.at($('diagram').scrollTop + diagram.depth / 2);
    const off = anchor >= 0 ? view.y(anchor) - $('diagram').scrollTop : 0;
    view.refresh();
    chips();
    diagram.layout();
    if (anchor >= 0) $('diagram').scrollTop = view.y(anchor) - Math.min(Math.max(off, 40), diagram.depth - 40);
    remember();
  }

  function setCone(pos) {
    if (!trace || (pos >= 0 && pos >= trace.count)) return;
    view.filter.cone = pos;
    refilter();
    if (pos >= 0) diagram.reveal(pos, true);
  }

  function setScale(scale) {
    view.scale = scale;
    rescale();
  }

  function setZoom(factor) {
    view.zoom = Math.min(16, Math.max(0.125, view.zoom * factor));
    rescale();
  }

  function rescale() {
    const anchor = look.selected >= 0 ? look.selected : view.at($('diagram').scrollTop + diagram.depth / 2);
    diagram.layout();
    if (anchor >= 0) $('diagram').scrollTop = view.y(anchor) - diagram.depth / 2;
    tally();
    remember();
  }

  // Selecting and stepping.

  function select(pos, middle) {
    look.selected = pos;
    diagram.reveal(pos, middle);
    diagram.redraw();
    details();
    statusLine();
    remember();
  }

  /** Where the nodes are looked at: the cursor while stepping, else the selected event, else the end. */
  const moment = () => (look.cursor >= 0 ? look.cursor : look.selected);

  const acts = {
    live: served,
    go: (pos) => {
      if (!view.shown[pos]) clearFilter();
      select(pos, true);
    },
    cone: setCone,
    key: (key) => {
      $('key').value = key;
      view.filter.key = key;
      refilter();
    },
    inject,
  };

  function details() {
    if (!trace) return;
    const at = moment();
    for (const item of $('lanes').children) {
      const status = trace.statusAt(Number(item.dataset.node), at < 0 ? trace.count : at);
      item.dataset.status = status;
      item.lastChild.textContent = status;
    }
    const pane = $('pane');
    if (tab === 'event') lab.panel.event(pane, trace, look.selected, acts);
    else if (tab === 'nodes') lab.panel.nodes(pane, trace, at, acts);
    else if (tab === 'run') lab.panel.run(pane, trace, outcome, infoOf(trace.protocol), acts);
  }

  function choose(name) {
    tab = name;
    for (const button of document.querySelectorAll('[role="tab"]')) {
      const mine = button.id === `tab-${name}`;
      button.setAttribute('aria-selected', String(mine));
      button.tabIndex = mine ? 0 : -1;
    }
    $('pane').hidden = name === 'script';
    $('script-pane').hidden = name !== 'script';
    $('pane').setAttribute('aria-labelledby', `tab-${name}`);
    $('pane').scrollTop = 0;
    details();
  }

  function statusLine() {
    if (!trace) return;
    const pos = look.hover >= 0 ? look.hover : look.selected;
    const parts = pos >= 0 ? [sentence(trace, pos)] : [];
    if (look.shades?.length) parts.push(look.shades.join(' · '));
    if (pos < 0 && !parts.length) parts.push(trace.count ? 'Arrow keys or a click choose an event; ? shows all keys.' : '');
    $('status').textContent = parts.join('   —   ');
  }

  /** One step of the run among what is shown; false at the end. */
  function step(by) {
    if (!trace?.count) return false;
    const from = look.cursor >= 0 ? look.cursor : by > 0 ? -1 : trace.count - 1;
    const next = look.cursor < 0 && by > 0 ? view.rows[0] ?? -1 : view.step(from, by);
    if (next < 0 || (next === look.cursor && look.cursor >= 0)) return false;
    look.cursor = next;
    select(next);
    return true;
  }

  function breaksAt(pos) {
    const event = trace.events[pos];
    const what = $('break').value;
    if (what === 'violation') return pos === trace.violationAt;
    if (what === 'fault') return lab.model.FAULTS.has(event.what);
    if (what === 'event') return $('break-event').value !== '' && event.i >= Number($('break-event').value) && (pos === 0 || trace.events[pos - 1].i < Number($('break-event').value));
    if (what.startsWith('kind:')) return event.kind === what.slice(5) && lab.model.MESSAGES.has(event.what);
    return false;
  }

  /** Goes on until a break, or to the end. */
  function resume() {
    if (!trace?.count) return;
    halt();
    const from = look.cursor >= 0 ? view.before[look.cursor] + (view.shown[look.cursor] ? 1 : 0) : 0;
    for (let row = from; row < view.rows.length; row += 1) {
      if (breaksAt(view.rows[row])) {
        look.cursor = view.rows[row];
        select(look.cursor, true);
        return;
      }
    }
    look.cursor = -1;
    select(view.rows[view.rows.length - 1] ?? -1, true);
  }

  function rewind() {
    halt();
    look.cursor = -1;
    step(1);
  }

  const PLAY = 'M4 3v10l9-5z';
  const PAUSE = 'M4 3h3v10H4zM9 3h3v10H9z';

  function sign(path, label) {
    $('play').querySelector('path').setAttribute('d', path);
    $('play').setAttribute('aria-label', label);
  }

  function play() {
    if (timer) {
      halt();
      return;
    }
    if (!trace?.count) return;
    sign(PAUSE, 'Pause');
    let owed = 0;
    let last = performance.now();
    const tick = (now) => {
      owed += (Math.min(now - last, 250) / 1000) * Number($('speed').value);
      last = now;
      while (owed >= 1) {
        owed -= 1;
        if (!step(1)) {
          halt();
          look.cursor = -1;
          diagram.redraw();
          return;
        }
        if (breaksAt(look.cursor)) {
          halt();
          return;
        }
      }
      timer = requestAnimationFrame(tick);
    };
    timer = requestAnimationFrame(tick);
  }

  function halt() {
    if (timer) cancelAnimationFrame(timer);
    timer = 0;
    sign(PLAY, 'Play');
  }

  function fillBreaks() {
    const before = $('break').value;
    const options = [['violation', 'violation'], ['fault', 'next fault'], ['event', 'event number'], ['none', 'nothing']];
    for (const kind of trace.kinds) options.push([`kind:${kind}`, `next ${kind}`]);
    $('break').replaceChildren(...options.map(([value, text]) => make('option', { value }, text)));
    if (options.some(([value]) => value === before)) $('break').value = before;
  }

  function breakField() {
    $('break-event').hidden = $('break').value !== 'event';
  }

  // Faults.

  function setEdited(yes) {
    edited = yes;
    $('script-badge').hidden = !yes;
    $('script-drawn').disabled = !yes;
    $('script-about').textContent = yes
      ? 'This script replaces every fault that the seed would draw.'
      : 'Drawn from the seed. Edit it to run other faults.';
  }

  function showErrors(errors) {
    const text = $('script').value;
    $('script').setAttribute('aria-invalid', String(errors.length > 0));
    $('script-errors').replaceChildren(...errors.map((error) => make('button', {
      type: 'button', title: 'Go there',
      onclick: () => {
        const start = text.split('\n').slice(0, error.line - 1).reduce((sum, line) => sum + line.length + 1, 0);
        const at = Math.min(text.length, start + charactersOf(text.slice(start), error.column - 1));
        $('script').focus();
        $('script').setSelectionRange(at, Math.min(text.length, at + 1));
      },
    }, `${error.line}:${error.column} ${error.field ? `${error.field}: ` : ''}${error.reason}`)));
  }

  /** Columns count bytes, text areas count UTF-16 units. */
  function charactersOf(text, bytes) {
    let units = 0;
    let left = bytes;
    for (const letter of text) {
      if (left <= 0) break;
      left -= new TextEncoder().encode(letter).length;
      units += letter.length;
    }
    return units;
  }

  let checking = 0;
  function scriptChanged() {
    setEdited(true);
    remember();
    clearTimeout(checking);
    checking = setTimeout(async () => {
      try {
        await ask('api/check', wanted());
        showErrors([]);
      } catch (error) {
        showErrors(error.body?.errors ?? [{ line: 1, column: 1, field: '', reason: error.message }]);
      }
    }, 300);
  }

  /** Adds a fault just before an event to the script of this run, and runs it. */
  function inject(what, event) {
    let script;
    try {
      script = JSON.parse($('script').value);
    } catch {
      choose('script');
      return;
    }
    script.ops.push({ on_event: event.i, do: what, node: event.node, for_us: 50_000 });
    $('script').value = writeScript(script);
    setEdited(true);
    toast(`${what} of ${trace.nodes[event.node]} before #${event.i}: added to the script`);
    run({ ...viewState(), event: String(event.i), cone: 'off' });
  }

  /** One operation a line, as the command prints scripts. */
  function writeScript(script) {
    const { ops, ...head } = script;
    const lines = Object.entries(head).map(([name, value]) => `  ${JSON.stringify(name)}: ${JSON.stringify(value)}`);
    const spaced = (value) => JSON.stringify(value, null, 1).replace(/\n\s*/g, ' ').replace(/([{[]) /g, '$1').replace(/ ([}\]])/g, '$1');
    lines.push(`  "ops": [${ops.map((op) => `\n    ${spaced(op)}`).join(',')}${ops.length ? '\n  ' : ''}]`);
    return `{\n${lines.join(',\n')}\n}\n`;
  }

  // The address.

  function viewState() {
    const state = {};
    if (!view) return state;
    const { filter } = view;
    if (look.selected >= 0) state.event = String(trace.events[look.selected].i);
    if (look.cursor >= 0) state.cursor = String(trace.events[look.cursor].i);
    if (filter.cone !== trace.violationAt) state.cone = filter.cone < 0 ? 'off' : String(trace.events[filter.cone].i);
    if (filter.kinds.size) state.without = [...filter.kinds].join(',');
    if (filter.nodes.size) state.hidden = [...filter.nodes].map((node) => trace.nodes[node]).join(',');
    if (filter.key) state.key = filter.key;
    if (filter.text) state.text = filter.text;
    if (view.scale !== 'order') state.scale = view.scale;
    if (view.zoom !== 1) state.zoom = String(view.zoom);
    if ($('break').value !== 'violation') state.break = $('break').value;
    if ($('break').value === 'event' && $('break-event').value) state.at = $('break-event').value;
    if (tab !== 'event') state.tab = tab;
    return state;
  }

  let remembering = 0;
  /** Writes the state into the address, once a burst of changes is over. */
  function remember() {
    clearTimeout(remembering);
    remembering = setTimeout(writeAddress, 150);
  }

  async function writeAddress() {
    clearTimeout(remembering);
    const state = new URLSearchParams();
    if (served && (fromRun || !trace)) {
      const asked = wanted();
      if (asked.protocol) state.set('protocol', asked.protocol);
      if (asked.mutant) state.set('mutant', asked.mutant);
      state.set('seed', asked.seed);
      if (asked.nodes) state.set('nodes', String(asked.nodes));
      if (asked.script !== null) state.set('script', await pack(asked.script));
    }
    for (const [name, value] of Object.entries(viewState())) state.set(name, value);
    // A page in a frame of a report has no address of its own.
    if (location.protocol !== 'about:') history.replaceState(null, '', `#${state}`);
  }

  async function through(bytes, stream) {
    const piped = new Blob([bytes]).stream().pipeThrough(stream);
    return new Uint8Array(await new Response(piped).arrayBuffer());
  }

  async function pack(text) {
    const bytes = await through(new TextEncoder().encode(text), new CompressionStream('deflate-raw'));
    let binary = '';
    for (const byte of bytes) binary += String.fromCharCode(byte);
    return btoa(binary).replace(/\+/g, '-').replace(/\//g, '_').replace(/=+$/, '');
  }

  async function unpack(packed) {
    const binary = atob(packed.replace(/-/g, '+').replace(/_/g, '/'));
    const bytes = Uint8Array.from(binary, (letter) => letter.charCodeAt(0));
    return new TextDecoder().decode(await through(bytes, new DecompressionStream('deflate-raw')));
  }

  async function copy(text, said) {
    try {
      await navigator.clipboard.writeText(text);
      toast(said);
    } catch {
      toast(text);
    }
  }

  let toasting = 0;
  function toast(text) {
    $('toast').textContent = text;
    $('toast').hidden = false;
    clearTimeout(toasting);
    toasting = setTimeout(() => {
      $('toast').hidden = true;
    }, 4000);
  }

  // Files.

  async function openFile(file) {
    if (!file) return;
    try {
      if (file.size > 512 << 20) throw new Error('larger than 512 MiB');
      openTrace(parse(await file.text()));
    } catch (error) {
      $('verdict').replaceChildren(make('span', { class: 'chip bad' }, 'not opened'), make('span', { class: 'message' }, `${file.name}: ${error.message}`));
    }
  }

  function openTrace(opened, then) {
    busy?.abort();
    halt();
    fromRun = false;
    if (opened.raw.script) {
      $('script').value = writeScript(opened.raw.script);
      setEdited(true);
    }
    if (infoOf(opened.protocol)) {
      $('protocol').value = opened.protocol;
      fillMutants();
      $('mutant').value = opened.mutant ?? '';
      $('seed').value = opened.seed;
      $('nodes').value = opened.nodes.length;
    }
    show(opened, null, then);
  }

  function save() {
    const name = `${trace.protocol}${trace.mutant ? `@${trace.mutant}` : ''}-${trace.seed}.trace.json`;
    const link = make('a', { href: URL.createObjectURL(new Blob([JSON.stringify(trace.raw)], { type: 'application/json' })), download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  }

  // Controls.

  function fillMutants() {
    const info = infoOf($('protocol').value);
    const mutants = info?.mutants ?? [];
    $('mutant').replaceChildren(make('option', { value: '' }, 'none'), ...mutants.map((one) => make('option', { value: one.name, title: one.rule }, one.name)));
    $('mutant').disabled = !mutants.length;
    $('nodes').placeholder = info ? String(info.nodes_default) : 'auto';
    $('nodes').min = info?.nodes_min ?? 1;
    $('protocol').title = info?.about ?? '';
  }

  function setTheme(name) {
    document.documentElement.dataset.theme = name;
    diagram.recolour();
  }

  function moveSeed(by) {
    const seed = BigInt($('seed').value.trim() || '0') + BigInt(by);
    $('seed').value = String(seed < 0n ? 0n : seed);
    forget();
    run(kept());
  }

  /** Another seed draws other faults; an edited script stays. */
  function forget() {
    if (!edited) $('script').value = '';
  }

  /** Of the view, what has a meaning in another run. */
  function kept() {
    const { without, scale, zoom, break: at } = viewState();
    return { without, scale, zoom, break: at };
  }

  function clearFilter() {
    const { filter } = view;
    filter.kinds.clear();
    filter.nodes.clear();
    Object.assign(filter, { key: '', text: '', cone: -1 });
    $('key').value = '';
    $('text').value = '';
    refilter();
  }

  const KEYS = [
    [['↓', '↑'], 'next and previous event', { ArrowDown: () => pick(view.step(look.selected, 1)), ArrowUp: () => pick(view.step(look.selected, -1)) }],
    [['→', '←'], 'next and previous event of the same node', { ArrowRight: () => pick(view.along(look.selected, 1)), ArrowLeft: () => pick(view.along(look.selected, -1)) }],
    [['PgDn', 'PgUp'], 'a window further', { PageDown: () => page(1), PageUp: () => page(-1) }],
    [['Home', 'End'], 'first and last event', { Home: () => pick(view.rows[0] ?? -1), End: () => pick(view.rows[view.rows.length - 1] ?? -1) }],
    [['c'], 'to its cause (where the message was sent)', { c: () => pick(cause()) }],
    [['e'], 'to its first effect (where a message arrives)', { e: () => pick(firstEffect()) }],
    [['v'], 'to the violation', { v: () => pick(trace.violationAt) }],
    [['o'], 'cone of the selected event, and back', { o: () => setCone(view.filter.cone === look.selected ? -1 : look.selected) }],
    [['s', 'Shift+S'], 'step, step back', { s: () => step(1), S: () => step(-1) }],
    [['space'], 'play and pause', { ' ': play }],
    [['f'], 'go on to the next break, or to the end', { f: resume }],
    [['/'], 'find text', { '/': () => $('text').focus() }],
    [['+', '-'], 'larger, smaller', { '+': () => setZoom(1.25), '-': () => setZoom(0.8) }],
    [['r'], 'run', { r: () => run(kept()) }],
    [['Esc'], 'end stepping, then choose nothing', { Escape: escape }],
    [['?'], 'this help', { '?': () => $('help-dialog').showModal() }],
  ];

  function pick(pos) {
    if (pos === undefined || pos < 0) return;
    if (!view.shown[pos]) clearFilter();
    if (look.cursor >= 0) look.cursor = pos;
    select(pos);
  }

  function page(by) {
    const rows = view.scale === 'order' ? Math.max(1, Math.floor(diagram.depth / view.rowHeight) - 1) : 10;
    pick(view.step(look.selected, by * rows));
  }

  function cause() {
    if (look.selected < 0) return -1;
    const sent = trace.messages[trace.inbound[look.selected]]?.send ?? -1;
    return sent >= 0 ? sent : trace.causes(look.selected).at(-1) ?? -1;
  }

  function firstEffect() {
    const arrivals = (trace.outbound.get(look.selected) ?? []).map((id) => trace.messages[id].recv).filter((pos) => pos >= 0);
    return arrivals.length ? Math.min(...arrivals) : -1;
  }

  function escape() {
    halt();
    if (look.cursor >= 0) look.cursor = -1;
    else look.selected = -1;
    select(look.selected);
  }

  function help() {
    $('keys-help').append(...KEYS.flatMap(([keys, about]) => [make('dt', {}, ...keys.flatMap((key) => [make('kbd', {}, key), ' '])), make('dd', {}, about)]));
    const signs = [
      ['●', 'a message arrives (colour: its kind)'], ['○', 'a second copy of it arrives, on a dashed arrow'], ['⨯', 'on an arrow: lost, or dropped on arrival'],
      ['|', 'on an arrow: cut by a partition'], ['‖', 'on an arrow: held'], ['▶ ◀', 'a client asks, is answered'], ['◇', 'a timer'],
      ['■', 'the log, or work, of the node'], ['✗', 'crash'], ['▲', 'start, restart, end of a pause'], ['┄', 'a fault between nodes strikes or ends'],
      ['▒', 'shaded: down, paused, cut off (hatched); strips beside the times: faults of every link'],
    ];
    $('signs-help').append(...signs.flatMap(([sign, about]) => [make('dt', {}, sign), make('dd', {}, about)]));
  }

  function wire() {
    $('run-form').addEventListener('submit', (event) => {
      event.preventDefault();
      run(kept());
    });
    $('protocol').addEventListener('change', () => {
      fillMutants();
      $('nodes').value = '';
      setEdited(false);
      $('script').value = '';
      run();
    });
    $('mutant').addEventListener('change', () => run());
    $('seed').addEventListener('change', forget);
    $('nodes').addEventListener('change', forget);
    $('seed-down').addEventListener('click', () => moveSeed(-1));
    $('seed-up').addEventListener('click', () => moveSeed(1));
    $('script').addEventListener('input', scriptChanged);
    $('script-run').addEventListener('click', () => {
      setEdited(true);
      run(kept());
    });
    $('script-drawn').addEventListener('click', () => {
      setEdited(false);
      $('script').value = '';
      run(kept());
    });
    $('rewind').addEventListener('click', rewind);
    $('back').addEventListener('click', () => { halt(); step(-1); });
    $('step').addEventListener('click', () => { halt(); step(1); });
    $('play').addEventListener('click', play);
    $('resume').addEventListener('click', resume);
    $('break').addEventListener('change', () => { breakField(); remember(); });
    $('break-event').addEventListener('input', remember);
    $('cone-off').addEventListener('click', () => setCone(-1));
    $('cone-violation').addEventListener('click', () => setCone(trace.violationAt));
    $('cone-selected').addEventListener('click', () => setCone(look.selected));
    $('scale-order').addEventListener('click', () => setScale('order'));
    $('scale-time').addEventListener('click', () => setScale('time'));
    $('zoom-in').addEventListener('click', () => setZoom(1.25));
    $('zoom-out').addEventListener('click', () => setZoom(0.8));
    $('key').addEventListener('input', () => { view.filter.key = $('key').value.trim(); refilter(); });
    $('text').addEventListener('input', () => { view.filter.text = $('text').value; refilter(); });
    $('clear').addEventListener('click', clearFilter);
    $('open').addEventListener('click', () => $('file').click());
    $('file').addEventListener('change', () => { openFile($('file').files[0]); $('file').value = ''; });
    $('save').addEventListener('click', save);
    $('share').addEventListener('click', async () => {
      await writeAddress();
      copy(location.href, 'Link copied');
    });
    $('theme').addEventListener('click', () => setTheme(document.documentElement.dataset.theme === 'dark' ? 'light' : 'dark'));
    $('help').addEventListener('click', () => $('help-dialog').showModal());
    for (const name of ['event', 'nodes', 'run', 'script']) {
      const button = $(`tab-${name}`);
      button.addEventListener('click', () => { choose(name); remember(); });
      button.addEventListener('keydown', (event) => {
        const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
        if (!by) return;
        const names = ['event', 'nodes', 'run', 'script'];
        const next = names[(names.indexOf(name) + by + names.length) % names.length];
        choose(next);
        $(`tab-${next}`).focus();
      });
    }
    pointer();
    document.addEventListener('keydown', (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || $('help-dialog').open) return;
      const field = event.target.closest?.('input, textarea, select');
      if (field) {
        if (event.key === 'Escape') $('diagram').focus();
        return;
      }
      // A focused button keeps its own keys, and lists scroll; letters work everywhere.
      const inDiagram = event.target === $('diagram') || event.target === document.body;
      if (!inDiagram && (event.key.length > 1 || event.key === ' ') && event.key !== 'Escape') return;
      const act = KEYS.find(([, , keys]) => keys[event.key])?.[2][event.key];
      if (!act || (!trace && !['?', 'r'].includes(event.key))) return;
      event.preventDefault();
      act();
    });
    addEventListener('dragover', (event) => { event.preventDefault(); $('drop').hidden = false; });
    addEventListener('dragleave', (event) => { if (!event.relatedTarget) $('drop').hidden = true; });
    addEventListener('drop', (event) => { event.preventDefault(); $('drop').hidden = true; openFile(event.dataTransfer.files[0]); });
    addEventListener('hashchange', fromAddress);
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', (event) => setTheme(event.matches ? 'dark' : 'light'));
  }

  function pointer() {
    const canvas = $('canvas');
    const place = (event) => {
      const box = canvas.getBoundingClientRect();
      return [event.clientX - box.left, event.clientY - box.top];
    };
    canvas.addEventListener('click', (event) => {
      const pos = diagram.hit(...place(event));
      if (look.cursor >= 0 && pos >= 0) look.cursor = pos;
      if (pos >= 0) select(pos);
      if (pos >= 0 && tab !== 'nodes') choose('event');
    });
    canvas.addEventListener('pointermove', (event) => {
      const [x, y] = place(event);
      const pos = diagram.hit(x, y);
      const shades = diagram.shadesAt(x, y);
      if (pos === look.hover && String(shades) === String(look.shades)) return;
      look.hover = pos;
      look.shades = shades;
      statusLine();
      diagram.redraw();
    });
    canvas.addEventListener('pointerleave', () => {
      look.hover = -1;
      look.shades = [];
      statusLine();
      diagram.redraw();
    });
    $('diagram').addEventListener('wheel', (event) => {
      if (!event.ctrlKey || !view) return;
      event.preventDefault();
      setZoom(event.deltaY < 0 ? 1.15 : 1 / 1.15);
    }, { passive: false });
    const map = $('minimap');
    const jump = (event) => {
      if (!view) return;
      const part = (event.clientY - map.getBoundingClientRect().top) / map.clientHeight;
      $('diagram').scrollTop = part * Math.max(view.height, diagram.depth) - diagram.depth / 2;
    };
    map.addEventListener('pointerdown', (event) => {
      map.setPointerCapture(event.pointerId);
      jump(event);
    });
    map.addEventListener('pointermove', (event) => { if (event.buttons) jump(event); });
  }

  /** Takes up what the address says; what it does not say is left as it is. */
  async function fromAddress() {
    const state = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
    if (state.tab && document.getElementById(`tab-${state.tab}`)) choose(state.tab);
    const embedded = $('trace').textContent.trim();
    if (served && state.protocol && infoOf(state.protocol)) {
      $('protocol').value = state.protocol;
      fillMutants();
      $('mutant').value = state.mutant ?? '';
      if ($('mutant').selectedIndex < 0) $('mutant').value = '';
      $('seed').value = state.seed ?? '0';
      $('nodes').value = state.nodes ?? '';
      if (state.script) $('script').value = await unpack(state.script).catch(() => '');
      setEdited(Boolean(state.script));
      await run(state);
    } else if (embedded) {
      openTrace(parse(embedded), state);
    } else if (served && protocols.length) {
      await run();
    } else {
      $('empty').textContent = 'Drop a recorded trace here, or open one.';
      recorded();
    }
  }

  async function start() {
    setTheme(matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light');
    help();
    wire();
    setEdited(false);
    if (!served) $('tab-script').hidden = true;
    try {
      if (served) {
        protocols = JSON.parse(await ask('api/protocols'));
        $('protocol').replaceChildren(...protocols.map((info) => make('option', { value: info.name, title: info.about }, info.name)));
        fillMutants();
      }
      await fromAddress();
    } catch (error) {
      $('verdict').replaceChildren(make('span', { class: 'chip bad' }, 'error'), make('span', { class: 'message' }, error.message));
    }
    recorded();
    document.documentElement.dataset.ready = 'yes';
  }

  // For tests and the console.
  lab.page = { look, diagram, select, step, get trace() { return trace; }, get view() { return view; } };
  start();
})();
