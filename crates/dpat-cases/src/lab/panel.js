// What stands beside the diagram: the event, the nodes, the run.
'use strict';

lab.panel = (() => {
  const { FAULTS, MESSAGES, pretty, changed, time, span, caption, groupOf } = lab.model;

  /** Makes an element; text is always text, never markup. */
  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
      else if (name === 'style') element.style.cssText = value;
      else if (value === true) element.setAttribute(name, '');
      else if (value !== false && value != null) element.setAttribute(name, value);
    }
    element.append(...children.filter((child) => child != null));
    return element;
  }

  /** A colour of the theme for a message kind, for styles. */
  function kindStyle(trace, kind) {
    const k = trace.kindIx.get(kind);
    return k === undefined ? '' : `--c: var(--k${k % 8})`;
  }

  /** What an event is, in the words of the trace. */
  function title(trace, it) {
    const text = caption(trace, it);
    return text.startsWith(it.what) || FAULTS.has(it.what) ? text : `${it.what} ${text}`;
  }

  function eventLink(trace, pos, go, text) {
    if (pos === undefined || pos < 0) return document.createTextNode(text ?? 'not recorded');
    return make('button', { class: 'link', 'data-pos': pos, onclick: () => go(pos) }, text ?? `#${trace.events[pos].i}`);
  }

  /** The state as lines; those that differ from the state before are marked. */
  function stateBlock(trace, pos) {
    const event = trace.events[pos];
    const now = pretty(trace.states[event.state] ?? '');
    const lane = trace.perNode[event.node];
    const earlier = trace.stateEvent(event.node, pos - 1);
    const before = earlier >= 0 && lane.length ? pretty(trace.states[trace.events[earlier].state] ?? '') : null;
    const same = earlier >= 0 && trace.events[earlier].state === event.state;
    const marks = before && !same ? changed(before, now) : [];
    const block = make('pre', { tabindex: 0 });
    now.forEach((line, k) => block.append(make('span', { class: marks[k] ? 'new' : null }, line)));
    return { block, same, first: before === null };
  }

  function heading(text, note) {
    return make('h3', {}, text, note ? make('span', { style: 'font-weight:400' }, ` ${note}`) : null);
  }

  /** Shows one event. `acts`: go(pos), cone(pos), inject(what, event), live. */
  function event(pane, trace, pos, acts) {
    pane.replaceChildren();
    if (pos < 0) {
      pane.append(make('p', { class: 'soft' }, trace.count
        ? 'Choose an event in the diagram, or step through the run.'
        : 'The trace has no events.'));
      return;
    }
    const it = trace.events[pos];
    const name = (node) => trace.nodes[node] ?? `node ${node}`;
    const message = MESSAGES.has(it.what);
    const kind = message ? it.kind ?? it.label : null;
    pane.append(make('p', { class: 'title' },
      make('i', { style: kind ? kindStyle(trace, kind) : FAULTS.has(it.what) ? '--c: var(--bad)' : '' }),
      make('b', {}, title(trace, it)),
      make('span', { class: 'number' }, `#${it.i}`)));
    const facts = make('dl', { class: 'dl' });
    const fact = (term, ...what) => facts.append(make('dt', {}, term), make('dd', {}, ...what));
    fact('at', time(it.at_ns));
    if (it.node !== null) fact('node', `${name(it.node)}, ${trace.statusAt(it.node, pos)}`);
    if (it.key != null) fact('key', make('button', { class: 'link', onclick: () => acts.key(it.key), title: 'Show only this key' }, it.key));
    if (it.from) {
      const sent = trace.byIndex.get(it.from[1]);
      fact('from', `${name(it.from[0])} `, eventLink(trace, sent, acts.go));
      const carried = trace.messages[trace.inbound[pos]];
      if (sent !== undefined) fact('under way', time(it.at_ns - trace.events[sent].at_ns) + (carried?.copy ? ', a second copy' : ''));
    }
    const causes = trace.causes(pos);
    if (causes.length) {
      const links = causes.flatMap((cause, k) => [k ? ', ' : '', eventLink(trace, cause, acts.go)]);
      fact('because of', ...links);
    }
    pane.append(facts);
    if (pos === trace.violationAt) {
      pane.append(make('p', { class: 'fate-bad', style: 'margin-top:8px' }, `✗ ${trace.violation.property}: ${trace.violation.message}`));
    }
    const actions = make('div', { class: 'actions' },
      make('button', { id: 'event-cone', onclick: () => acts.cone(pos), title: 'Show only what may have led here (o)' }, 'Cone'));
    if (acts.live && it.node !== null && it.node < trace.faulty) {
      for (const what of ['crash', 'isolate', 'pause']) {
        actions.append(make('button', {
          'data-inject': what, onclick: () => acts.inject(what, it),
          title: `Add a fault to the script: ${what} ${name(it.node)} just before this event, for 50 ms; then run again`,
        }, `${what} ${name(it.node)} here`));
      }
    }
    pane.append(actions);
    if (it.detail && it.detail !== it.label) {
      pane.append(heading(message ? 'Message' : 'Detail'), make('pre', { tabindex: 0 }, pretty(it.detail).join('\n')));
    }
    const out = trace.outbound.get(pos) ?? [];
    if (out.length) pane.append(heading('Sends'), sends(trace, out, acts, name));
    if (it.node !== null) {
      if (it.state != null) {
        const { block, same, first } = stateBlock(trace, pos);
        pane.append(heading(`State of ${name(it.node)} afterwards`, same ? 'unchanged' : first ? '' : 'changes marked'), block);
      } else {
        const earlier = trace.stateEvent(it.node, pos);
        if (earlier >= 0) {
          pane.append(make('h3', {}, `State of ${name(it.node)} since `, eventLink(trace, earlier, acts.go)), stateBlock(trace, earlier).block);
        }
      }
    }
  }

  function sends(trace, out, acts, name) {
    const table = make('table', {});
    for (const id of out) {
      const { dst, kind, fate, recv, copy } = trace.messages[id];
      const words = { lost: 'lost', partition: 'cut by a partition', held: 'held', no_session: 'no session', pending: 'still under way at the end', dropped: 'dropped on arrival' };
      const end = make('td', { class: ['lost', 'partition', 'dropped', 'no_session'].includes(fate) ? 'fate-bad' : null });
      if (recv >= 0) end.append(fate === 'dropped' ? 'dropped ' : copy ? 'copy ' : 'arrives ', eventLink(trace, recv, acts.go));
      else end.append(words[fate] ?? String(fate));
      table.append(make('tr', {},
        make('td', {}, make('span', { style: `color: ${kindStyle(trace, kind).replace('--c: ', '') || 'inherit'}` }, kind ?? 'message')),
        make('td', {}, `→ ${name(dst)}`), end));
    }
    return table;
  }

  /** Shows every node as it is after `pos`. */
  function nodes(pane, trace, pos, acts) {
    const open = new Set([...pane.querySelectorAll('details[open]')].map((element) => element.dataset.node));
    const fresh = !pane.querySelector('details');
    pane.replaceChildren();
    if (!trace.count) {
      event(pane, trace, -1, acts);
      return;
    }
    const at = pos < 0 ? trace.count - 1 : pos;
    pane.append(make('p', { class: 'soft' }, pos < 0 ? 'At the end of the run.' : `After event #${trace.events[at].i}.`));
    trace.nodes.forEach((name, node) => {
      const known = trace.stateEvent(node, at);
      const status = trace.statusAt(node, at);
      const mine = pos >= 0 && trace.events[pos].node === node;
      const details = make('details', { 'data-node': node, open: fresh ? trace.nodes.length <= 6 || mine : open.has(String(node)) },
        make('summary', {}, make('b', {}, name), make('span', { class: status === 'up' ? 'soft' : 'fate-bad' }, ` ${status}`)));
      if (known >= 0) {
        details.append(make('p', { class: 'soft', style: 'margin:2px 0' }, 'since ', eventLink(trace, known, acts.go)));
        if (mine && known === pos) details.append(stateBlock(trace, known).block);
        else details.append(make('pre', { tabindex: 0 }, pretty(trace.states[trace.events[known].state] ?? '').join('\n')));
      } else details.append(make('p', { class: 'soft' }, 'No state recorded so far.'));
      pane.append(details);
    });
  }

  /** Shows the run as a whole: what it was, what struck, what was reached. */
  function run(pane, trace, outcome, info, acts) {
    pane.replaceChildren();
    const facts = make('dl', { class: 'dl' });
    const fact = (term, ...what) => facts.append(make('dt', {}, term), make('dd', {}, ...what));
    fact('protocol', trace.mutant ? `${trace.protocol}, mutant ${trace.mutant}` : trace.protocol);
    if (info?.about) fact('', info.about);
    const mutant = info?.mutants.find((one) => one.name === trace.mutant);
    if (mutant) fact('breaks', mutant.rule);
    fact('seed', trace.seed);
    fact('nodes', String(trace.nodes.length));
    fact('trace hash', trace.raw.trace_hash ?? '');
    fact('simulated', span(trace.t1 - trace.t0));
    fact('events', `${(outcome?.events ?? trace.count).toLocaleString('en')}${trace.raw.truncated ? `, of which ${trace.count.toLocaleString('en')} recorded` : ''}`);
    if (outcome) fact('delivered', outcome.delivered.toLocaleString('en'));
    if (info?.properties.length) fact('properties', info.properties.join(', '));
    pane.append(facts);
    if (!trace.count) return;
    const counts = [...trace.tally()].sort((a, b) => b[1] - a[1]);
    const table = make('table', {}, make('tr', {}, make('th', {}, 'event'), make('th', { class: 'n' }, 'times')));
    for (const [kind, count] of counts) {
      table.append(make('tr', {}, make('td', {}, kind.replace(/^\((.*)\)$/, '$1')), make('td', { class: 'n' }, count.toLocaleString('en'))));
    }
    const fates = new Map();
    for (const message of trace.messages) {
      const fate = message.copy ? 'second copies' : { delivered: 'delivered', lost: 'lost', partition: 'cut', held: 'held', no_session: 'without a session', dropped: 'dropped on arrival', pending: 'under way at the end' }[message.fate] ?? message.fate;
      fates.set(fate, (fates.get(fate) ?? 0) + 1);
    }
    const ends = make('table', {}, make('tr', {}, make('th', {}, 'messages'), make('th', { class: 'n' }, 'count')));
    for (const [fate, count] of fates) ends.append(make('tr', {}, make('td', {}, fate), make('td', { class: 'n' }, count.toLocaleString('en'))));
    const struck = [];
    for (let pos = 0; pos < trace.count && struck.length < 200; pos += 1) if (FAULTS.has(trace.events[pos].what)) struck.push(pos);
    pane.append(heading('Faults that struck'));
    if (!struck.length) pane.append(make('p', { class: 'soft' }, 'None.'));
    else {
      const list = make('table', {});
      for (const pos of struck) {
        const it = trace.events[pos];
        const node = it.node === null ? '' : `${trace.nodes[it.node]} `;
        list.append(make('tr', {}, make('td', { class: 'n' }, time(it.at_ns)),
          make('td', { style: 'padding-left:10px' }, eventLink(trace, pos, acts.go, `${node}${caption(trace, it)}`))));
      }
      pane.append(list);
    }
    pane.append(heading('Messages'), ends, heading('Events'), table);
    if (outcome?.coverage?.length) pane.append(heading('Coverage'), coverage(outcome.coverage));
  }

  /** Rows `[name, count]` of what a run has reached. */
  function coverage(rows) {
    const table = make('table', {});
    for (const [name, count] of rows) table.append(make('tr', {}, make('td', {}, name), make('td', { class: 'n' }, count.toLocaleString('en'))));
    return table;
  }

  return { make, event, nodes, run, kindStyle, groupOf };
})();
