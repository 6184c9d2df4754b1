// The data of the page: unpacked, and turned into things that can be drawn, found and described.

const byId = (id) => document.getElementById(id);
const say = (name, value) => { document.documentElement.dataset[name] = value; };
const seconds = (micros) => `${(micros / 1e6).toFixed(6)} s`;

async function unpack() {
  const packed = JSON.parse(byId('data').textContent);
  const bytes = Uint8Array.from(atob(packed), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('deflate-raw'));
  return JSON.parse(await new Response(stream).text());
}

// The family of a kind decides its colour and its box among the filters.
function familyOf(kind) {
  if (kind === 'vote' || kind === 'pre-vote') return 'votes';
  if (kind === 'append') return 'appends';
  if (kind === 'heartbeat' || kind === 'hello' || kind === 'part') return 'heartbeats';
  if (kind === 'snapshot') return 'snapshots';
  if (kind === 'request' || kind === 'reply' || kind === 'client') return 'requests';
  if (kind === 'write' || kind === 'flushed' || kind === 'compacted') return 'disk';
  if (kind === 'applied' || kind === 'commit' || kind === 'proposed' || kind === 'read' || kind === 'log') return 'log';
  if (kind === 'operation') return 'operations';
  return 'nodes';
}

// Everything that can be selected, by time: messages, events, spans and operations, as things of one form.
function makeThings(data) {
  const { scene } = data;
  const word = (place) => scene.kinds[place];
  const text = (place) => scene.texts[place];
  const things = [];
  const copies = new Set();
  for (const flight of scene.flights) {
    if (word(flight.fate) === 'duplicated') copies.add(`${flight.from} ${flight.to} ${flight.sent} ${flight.text}`);
  }
  for (const flight of scene.flights) {
    const fate = word(flight.fate);
    if (fate === 'duplicated') continue;
    const twice = copies.has(`${flight.from} ${flight.to} ${flight.sent} ${flight.text}`);
    things.push({ form: 'message', begin: flight.sent, end: flight.ended, from: flight.from, to: flight.to, kind: word(flight.kind), fate, twice, text: text(flight.text), lanes: [flight.from, flight.to] });
  }
  scene.happenings.forEach((event, number) => {
    things.push({ form: 'event', begin: event.at, end: event.at, lane: event.lane, kind: word(event.kind), text: text(event.text), lanes: [event.lane], number });
  });
  for (const span of scene.spans) {
    const kind = word(span.kind);
    if (kind === 'operation') continue;
    const form = kind === 'write' ? 'write' : kind === 'down' ? 'down' : kind === 'phase' ? 'phase' : 'fault';
    things.push({ form, begin: span.begin, end: span.end ?? scene.end, kind, text: text(span.text), lanes: span.lanes });
  }
  placeOperations(data, things);
  for (const thing of things) {
    thing.family = thing.form === 'fault' || thing.form === 'down' ? 'faults' : familyOf(thing.kind);
    thing.words = `${thing.kind} ${thing.text}`.toLowerCase();
  }
  things.sort((left, right) => left.begin - right.begin || left.end - right.end);
  return things;
}

// An operation is shown in the lane of the client that asked it; what the checker knows comes from the history.
function placeOperations(data, things) {
  const { scene } = data;
  const spans = scene.spans.filter((span) => scene.kinds[span.kind] === 'operation');
  const known = data.operations.map((operation) => ({ operation, taken: false }));
  const rows = new Map();
  for (const span of spans) {
    const asked = scene.texts[span.text];
    const [name, key] = asked.split(/[ :]/);
    const end = span.end ?? null;
    let best = null;
    for (const one of known) {
      if (one.taken || !one.operation.text.startsWith(name) || !one.operation.text.includes(key)) continue;
      const far = Math.abs(one.operation.begin - span.begin);
      if (far < 3e6 && (best === null || far < best.far)) best = { one, far };
    }
    if (best) best.one.taken = true;
    const operation = best?.one.operation;
    const lane = span.lanes[0];
    const free = rows.get(lane) ?? [];
    let row = free.findIndex((busy) => busy <= span.begin);
    if (row < 0) row = free.length;
    free[row] = end ?? Infinity;
    rows.set(lane, free);
    things.push({ form: 'operation', begin: span.begin, end: end ?? scene.end, isOpen: end === null, lane, row, kind: 'operation', text: operation ? `${asked} — ${operation.text}` : asked, lanes: [lane], place: operation?.place ?? null, role: operation?.role ?? null, state: operation?.state ?? null });
  }
}

// The state of a lane at a moment, by bisection; null before the first.
function stateAt(scene, lane, at) {
  const samples = scene.states[lane];
  if (!samples) return null;
  let low = 0;
  let high = samples.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (samples[middle][0] <= at) low = middle + 1;
    else high = middle;
  }
  return low ? samples[low - 1][1] : null;
}
