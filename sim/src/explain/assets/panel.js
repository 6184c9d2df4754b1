// What is beside the diagram: the story, the evidence, and what is selected.

function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function fillPanels(data, things, select) {
  byId('story').replaceChildren(...data.story.map((sentence) => element('li', sentence)));
  byId('again').replaceChildren(...data.again.map((command) => element('li', command)));
  const link = (thing, text, className) => {
    const item = element('li');
    const button = element('button', text, className);
    button.type = 'button';
    button.addEventListener('click', () => select(thing, true));
    item.append(button);
    return item;
  };
  const events = new Map(things.filter((thing) => thing.form === 'event').map((thing) => [thing.number, thing]));
  const proof = data.evidence.map((number, place) => {
    const thing = events.get(number);
    return thing && link(thing, `${place + 1}. ${seconds(thing.begin)} ${data.scene.lanes[thing.lane]}: ${thing.text}`, thing.kind);
  });
  byId('evidence').replaceChildren(...proof.filter(Boolean));
  byId('proof').hidden = proof.length === 0;
  const conflict = things.filter((thing) => thing.form === 'operation' && thing.role);
  byId('conflict').replaceChildren(...conflict.map((thing) => link(thing, `${thing.role}: ${data.scene.lanes[thing.lane]} ${thing.text}`, thing.role)));
  byId('order').hidden = conflict.length === 0;
  const placed = data.operations.filter((operation) => operation.place !== null).length;
  byId('prefix').textContent = `The longest linearizable prefix holds ${placed} of ${data.operations.length} operations.`;
  byId('counts').textContent = `${data.isNode.filter(Boolean).length} nodes, ${data.operations.length} operations, ${data.scene.flights.length} messages, ${seconds(data.scene.end)}`;
}

// The state of a node as rows; what another moment has otherwise is marked.
function stateTable(data, columns) {
  const table = element('table');
  const head = element('tr');
  head.append(element('th', ''), ...columns.map(({ title }) => element('th', title)));
  table.append(head);
  data.stateNames.forEach((name, number) => {
    const row = element('tr');
    row.append(element('th', name));
    for (const { lane, at, since } of columns) {
      const state = stateAt(data.scene, lane, at);
      const before = since === undefined ? null : stateAt(data.scene, lane, since);
      const value = state && (name === 'role' ? data.roleNames[state[number]] : (name === 'vote' || name === 'leader') ? (state[number] ? data.names[state[number]] ?? state[number] : 'none') : String(state[number]));
      row.append(element('td', value ?? '–', state && before && state[number] !== before[number] ? 'changed' : undefined));
    }
    table.append(row);
  });
  return table;
}

function describe(data, thing) {
  const lane = (number) => data.scene.lanes[number];
  const isNode = (number) => data.isNode[number];
  const parts = [];
  if (thing.form === 'message') {
    parts.push(element('p', `${lane(thing.from)} → ${lane(thing.to)}: ${thing.text}`));
    const end = { delivered: 'arrived', lost: 'was lost', cut: 'met a cut', broken: 'died with its stream' }[thing.fate] ?? thing.fate;
    parts.push(element('p', `sent ${seconds(thing.begin)}, ${end} ${seconds(thing.end)}${thing.twice ? '; a second copy was made' : ''}`, 'soft'));
    const columns = [{ title: `${lane(thing.from)} when sent`, lane: thing.from, at: thing.begin }];
    if (thing.fate === 'delivered') {
      columns.push({ title: `${lane(thing.to)} before`, lane: thing.to, at: thing.end - 1 });
      columns.push({ title: `${lane(thing.to)} after`, lane: thing.to, at: thing.end, since: thing.end - 1 });
    } else columns.push({ title: `${lane(thing.to)} then`, lane: thing.to, at: thing.end });
    const nodes = columns.filter((column) => isNode(column.lane));
    if (nodes.length) parts.push(stateTable(data, nodes));
    return parts;
  }
  const where = thing.lanes.map(lane).join(', ');
  parts.push(element('p', `${where ? `${where}: ` : ''}${thing.text}`));
  const until = thing.end > thing.begin ? ` to ${thing.isOpen ? 'the end, without an answer' : seconds(thing.end)}` : '';
  parts.push(element('p', `${thing.kind}, ${seconds(thing.begin)}${until}`, 'soft'));
  if (thing.form === 'operation') {
    const place = thing.place === null ? 'not in the longest linearizable prefix' : `number ${thing.place + 1} of its key in the order that explains the answers`;
    parts.push(element('p', thing.role ? `${place}; ${thing.role}` : place));
    if (thing.state !== null) parts.push(element('code', `state after it: ${thing.state}`));
  }
  const columns = thing.lanes.filter(isNode).slice(0, 3).flatMap((number) => [
    { title: `${lane(number)} before`, lane: number, at: thing.begin - 1 },
    { title: `${lane(number)} after`, lane: number, at: thing.begin, since: thing.begin - 1 },
  ]);
  if (columns.length) parts.push(stateTable(data, columns));
  return parts;
}
