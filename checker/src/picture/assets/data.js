// Reads the columns: an object of arrays, one element for each operation, in the order of their invocations.

async function inflate(text) {
  const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('deflate-raw'));
  return new Response(stream).json();
}

function sums(differences) {
  const numbers = new Float64Array(differences.length);
  let last = 0;
  differences.forEach((difference, i) => { numbers[i] = last += difference; });
  return numbers;
}

// Puts a text together: its shape has a ? for each argument.
function compose(shape, next) {
  return shape.split(' ').map((word) => (word === '?' ? next() : word)).join(' ');
}

async function load() {
  const head = JSON.parse(document.getElementById('history').textContent);
  const columns = await inflate(head.columns);
  const start = sums(columns.invoked);
  const count = start.length;
  const end = start.map((event, i) => (columns.returned[i] ? event + columns.returned[i] : Infinity));
  const ahead = sums(columns.invoked_line);
  const history = {
    ...head, start, end, count,
    notes: columns.notes, keys: columns.keys, key: columns.key, processes: columns.processes, process: columns.process, cuts: columns.cuts,
    startLine: start.map((event, i) => event + ahead[i]),
    endLine: end.map((event, i) => event + ahead[i] + columns.returned_line[i]),
    timed: columns.times.length > 0,
    role: new Map(),
  };
  history.core.forEach((member) => {
    if (member.operation >= 0 && !history.role.has(member.operation)) history.role.set(member.operation, member.role);
  });
  readTimes(history, columns);
  const words = readTexts(history, columns);
  place(history, columns, words);
  return history;
}

function readTimes(history, columns) {
  const { start, end, count } = history;
  history.startTime = new Float64Array(count);
  history.endTime = new Float64Array(count).fill(Infinity);
  if (!history.timed) return;
  const events = [];
  for (let i = 0; i < count; i += 1) {
    events.push(start[i]);
    if (end[i] !== Infinity) events.push(end[i]);
  }
  const sorted = Float64Array.from(events).sort();
  const times = new Map();
  sums(columns.times).forEach((time, i) => times.set(sorted[i], time * columns.time_unit));
  for (let i = 0; i < count; i += 1) {
    history.startTime[i] = times.get(start[i]);
    if (end[i] !== Infinity) history.endTime[i] = times.get(end[i]);
  }
}

// The texts of the operations; the words of each are needed for the states.
function readTexts(history, { texts, keys, key }) {
  const { words, shapes } = texts;
  let at = 0;
  let known = 0;
  const own = [];
  history.text = [];
  history.changes = [];
  texts.shape.forEach((shape, i) => {
    const mine = [];
    history.text.push(compose(shapes[shape >> 1], () => {
      const code = texts.argument[at];
      at += 1;
      let word;
      if (code === 0) word = keys[key[i]];
      else word = words[code % 2 ? known - (code - 1) / 2 : code / 2 - 1];
      if (word === words[known]) known += 1;
      mine.push(word);
      return word;
    }));
    history.changes.push(shape % 2 === 1);
    own.push(mine);
  });
  return own;
}

// Where each operation took effect. An instant is a place between two events: after the invocations of all that is
// ordered before it, and before the next event, so it is inside the intervals of all that are placed there.
function place(history, columns, own) {
  const { count, start, keys, key } = history;
  const { texts } = columns;
  history.point = new Float64Array(count).fill(NaN);
  history.rank = new Int32Array(count).fill(-1);
  history.before = new Array(count).fill('');
  history.after = new Array(count).fill('');
  history.orders = [];
  const members = keys.map(() => []);
  key.forEach((partition, i) => members[partition].push(i));
  let from = 0;
  let at = 0;
  columns.order_length.forEach((length, partition) => {
    const order = sums(columns.order.slice(from, from + length));
    const operations = Array.from(order, (local) => members[partition][local]);
    history.orders.push(operations);
    let state = columns.initial;
    let event = -1;
    let first = 0;
    const spread = (end) => {
      for (let i = first; i < end; i += 1) history.point[operations[i]] = event + (i - first + 1) / (end - first + 1);
      first = end;
    };
    operations.forEach((operation, i) => {
      if (start[operation] > event) {
        spread(i);
        event = start[operation];
      }
      history.rank[operation] = i;
      history.before[operation] = state;
      const shape = texts.state[from + i];
      if (shape > 0) {
        state = compose(texts.shapes[shape - 1], () => {
          const code = texts.state_argument[at];
          at += 1;
          return code < 8 ? own[operation][code] : texts.words[code - 8];
        });
      }
      history.after[operation] = state;
    });
    spread(length);
    from += length;
  });
}
