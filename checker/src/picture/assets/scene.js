// What is shown: which operations, in which rows, and where they are along the axis.

// The last place in sorted `numbers` that is not above `number`, or -1.
function lastAt(numbers, number) {
  let low = 0;
  let high = numbers.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (numbers[middle] <= number) low = middle + 1; else high = middle;
  }
  return low - 1;
}

// `choice`: key (-1 for all), core (only the core), axis ('order' or 'time').
function makeScene(history, choice) {
  const operations = [];
  for (let i = 0; i < history.count; i += 1) {
    if ((choice.key < 0 || history.key[i] === choice.key) && (!choice.core || history.role.has(i))) operations.push(i);
  }
  const scene = { ...choice, operations, axisOf: axis(history, choice, operations) };
  const rows = new Map();
  const x0 = new Float64Array(history.count);
  const x1 = new Float64Array(history.count);
  let last = 0;
  for (const i of operations) {
    x0[i] = scene.axisOf.at(history.start[i]);
    x1[i] = history.end[i] === Infinity ? Infinity : scene.axisOf.at(history.end[i]);
    last = Math.max(last, x0[i], x1[i] === Infinity ? 0 : x1[i]);
    const process = history.process[i];
    if (!rows.has(process)) rows.set(process, []);
    rows.get(process).push(i);
  }
  // The processes of the core come first, so that the first view can show all of it.
  const guilty = new Map();
  for (const [i, role] of history.role) {
    const weight = role === 'unplaceable' ? 0 : role === 'concurrent' ? 2 : 1;
    if (rows.has(history.process[i])) guilty.set(history.process[i], Math.min(weight, guilty.get(history.process[i]) ?? 3));
  }
  const weight = (process) => guilty.get(process) ?? 3;
  scene.guiltyRows = guilty.size;
  scene.rows = [...rows].sort((a, b) => weight(a[0]) - weight(b[0]) || a[0] - b[0]).map(([process, members]) => ({ process, members, starts: members.map((i) => x0[i]), open: members.filter((i) => x1[i] === Infinity) }));
  scene.allRows = scene.rows;
  scene.rowOf = new Map(scene.rows.map((row, number) => [row.process, number]));
  const room = scene.axis === 'time' ? Math.max(1, last) * 0.02 : 1;
  scene.first = (operations.length ? x0[operations[0]] : 0) - room;
  scene.last = last + room * 1.5;
  scene.x0 = x0;
  scene.x1 = x1;
  scene.lanes = lanes(history, scene);
  // The linearization is drawn as one line only if there is one: that of a single key.
  const keys = new Set(operations.length && history.keys.length > 1 && choice.key < 0 ? operations.map((i) => history.key[i]) : []);
  const only = choice.key >= 0 ? choice.key : history.keys.length === 1 ? 0 : keys.size === 1 ? [...keys][0] : -1;
  scene.cut = only >= 0 && history.cuts[only] >= 0 ? scene.axisOf.at(history.cuts[only]) : NaN;
  scene.path = only >= 0 ? history.orders[only].filter((i) => !choice.core || history.role.has(i)) : [];
  scene.pathX = Float64Array.from(scene.path, (i) => scene.axisOf.at(history.point[i]));
  return scene;
}

// Maps events to places: by time; or by order, in which only what is shown takes room.
function axis(history, choice, operations) {
  const events = [];
  const lines = [];
  const times = [];
  const add = (event, line, time) => { events.push(event); lines.push(line); times.push(time); };
  const seen = choice.axis === 'time' ? history.start.keys() : operations;
  for (const i of seen) {
    add(history.start[i], history.startLine[i], history.startTime[i]);
    if (history.end[i] !== Infinity) add(history.end[i], history.endLine[i], history.endTime[i]);
  }
  const sorted = Uint32Array.from(events.keys()).sort((a, b) => events[a] - events[b]);
  const ticks = Float64Array.from(sorted, (i) => events[i]);
  const places = choice.axis === 'time' ? Float64Array.from(sorted, (i) => times[i]) : Float64Array.from(ticks.keys());
  if (choice.axis === 'time') for (let i = 1; i < places.length; i += 1) places[i] = Math.max(places[i], places[i - 1]);
  const at = (event) => {
    const i = lastAt(ticks, event);
    if (i < 0) return (places[0] ?? 0) - (choice.axis === 'time' ? 0 : 0.5);
    if (ticks[i] === event) return places[i];
    if (i + 1 === ticks.length) return places[i] + (choice.axis === 'time' ? 0 : 0.5);
    // Where events are left out, an instant right after the first must not stick to it.
    const over = event - ticks[i];
    const gap = ticks[i + 1] - ticks[i];
    const part = over < 1 ? (gap > 1 ? over / 2 : over) : 0.5 + (over - 1) / (2 * gap);
    return places[i] + part * (places[i + 1] - places[i]);
  };
  // Where events are left out, for the marks of the core view.
  const gaps = [];
  if (choice.core && choice.axis === 'order') {
    for (let i = 0; i + 1 < ticks.length; i += 1) {
      const missing = ticks[i + 1] - ticks[i] - 1;
      if (missing > 0) gaps.push({ x: i + 0.5, missing });
    }
  }
  return { at, ticks, lines: Float64Array.from(sorted, (i) => lines[i]), places, gaps };
}

// Notes, in lanes by name, each with the part of the axis that it covers.
function lanes(history, scene) {
  const byName = new Map();
  for (const note of history.notes) {
    if (!byName.has(note.lane)) byName.set(note.lane, []);
    byName.get(note.lane).push({ ...note, x0: scene.axisOf.at(note.event - 0.5), x1: NaN });
  }
  for (const notes of byName.values()) {
    notes.forEach((note, i) => { if (note.lasts) note.x1 = i + 1 < notes.length ? notes[i + 1].x0 : Infinity; });
  }
  return [...byName].map(([name, notes]) => ({ name, notes, starts: notes.map((note) => note.x0) }));
}
