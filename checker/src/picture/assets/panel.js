// Words about operations: the tooltip, the panel, the list of the core. All text becomes text nodes.

const ROLES = {
  unplaceable: 'no state explains this answer',
  conflict: 'leaves no order, together with the others',
  before: 'made the state before',
  concurrent: 'open at the same time',
};

function element(name, className, ...children) {
  const made = document.createElement(name);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

function describe(history, i) {
  const role = history.role.get(i);
  const pairs = [['process', history.processes[history.process[i]]]];
  const returned = history.end[i] !== Infinity;
  if (history.startLine[i] > 0) pairs.push(['lines', `${history.startLine[i].toLocaleString('en')} – ${returned ? history.endLine[i].toLocaleString('en') : 'never returned'}`]);
  if (history.timed) {
    // As the reason tells it.
    const instant = (time) => `${(time / 1e6).toFixed(3)} ms`;
    const from = instant(history.startTime[i]);
    pairs.push(['time', returned ? `${from} – ${instant(history.endTime[i])} (took ${duration(history.endTime[i] - history.startTime[i])})` : `${from} – never returned`]);
  }
  if (history.rank[i] >= 0) {
    pairs.push(['state before', history.before[i]], ['state after', history.after[i]]);
    pairs.push(['place', `${(history.rank[i] + 1).toLocaleString('en')}. in the order of ${history.keys[history.key[i]]}`]);
  } else if (role === 'unplaceable') {
    pairs.push(['state before', `${history.states.join(' or ')}, which does not explain it`]);
  } else {
    pairs.push(['place', outside(history, i, returned)]);
  }
  const list = element('dl');
  pairs.forEach(([name, value]) => list.append(element('dt', '', name), element('dd', '', value)));
  const words = role ? [element('p', `flag ${role}`, ROLES[role] ?? role)] : [];
  return [element('p', 'code', history.text[i]), ...words, list];
}

// Why an operation has no point.
function outside(history, i, returned) {
  const cut = history.cuts[history.key[i]];
  if (cut >= 0 && history.end[i] >= cut) return 'not ordered: the order ends at the first answer that nothing explains';
  if (history.orders[history.key[i]].length === 0) return 'not ordered: the search gave up';
  return returned ? 'not ordered' : 'not needed: nothing shows that it happened';
}

function describeNote(note) {
  return [element('p', 'code', note.text), element('small', '', `${note.lane}${note.line > 0 ? `, line ${note.line.toLocaleString('en')}` : ''}`)];
}

function fillPanel(history, select) {
  const counts = [`${history.operations.toLocaleString('en')} operations`, `${history.processes.length.toLocaleString('en')} processes`, `${history.keys.length.toLocaleString('en')} ${history.keys.length === 1 ? 'key' : 'keys'}`];
  if (history.unknown) counts.push(`${history.unknown.toLocaleString('en')} of unknown outcome`);
  if (history.failed) counts.push(`${history.failed.toLocaleString('en')} failed`);
  document.getElementById('counts').textContent = counts.join(' · ');
  if (!history.core.length) return;
  document.getElementById('guilty').hidden = false;
  const list = document.getElementById('list');
  history.core.forEach(({ operation, role, text }) => {
    const button = element('button', role);
    button.type = 'button';
    if (operation < 0) {
      button.append(element('span', 'code', text));
      button.disabled = true;
    } else {
      const place = history.startLine[operation] > 0 ? `, line ${history.startLine[operation].toLocaleString('en')}` : '';
      button.append(element('span', 'code', history.text[operation]), element('small', '', `process ${history.processes[history.process[operation]]}${place} · ${ROLES[role] ?? role}`));
      button.addEventListener('click', () => select(operation, true));
    }
    list.append(element('li', '', button));
  });
  if (history.states.length) {
    const states = document.getElementById('states');
    states.append(element('small', '', history.states.length === 1 ? 'The state before it: ' : 'The state before it, one of: '));
    history.states.forEach((state) => states.append(element('span', 'code', state)));
  }
  fillWhen(history, select);
}

// When the state was last what the answer says, which is what makes a stale read plain.
function fillWhen(history, select) {
  const guilty = [...history.role.keys()].find((i) => history.role.get(i) === 'unplaceable');
  if (guilty === undefined || history.changes[guilty]) return;
  const [, answer] = halves(history.text[guilty]);
  const order = history.orders[history.key[guilty]];
  const made = order.findLastIndex((i) => history.after[i] === answer && history.before[i] !== answer);
  if (made < 0) return;
  const left = order.find((i, rank) => rank > made && history.after[i] !== answer);
  const words = element('p', 'when', 'In the order that was found, it was ', element('span', 'code', answer), ' from ', link(history, order[made], select));
  if (left !== undefined) words.append(' until ', link(history, left, select));
  document.getElementById('states').append(words);
}

function link(history, operation, select) {
  const [request] = halves(history.text[operation]);
  const place = history.startLine[operation] > 0 ? `, line ${history.startLine[operation].toLocaleString('en')}` : '';
  const button = element('button', 'link', element('span', 'code', request), ` (process ${history.processes[history.process[operation]]}${place})`);
  button.type = 'button';
  button.addEventListener('click', () => select(operation, true));
  return button;
}
