// Draws what is visible: rows and operations are found by bisection, and what is narrower than a pixel is drawn once.

const GUTTER = 104;
const AXIS = 26;
const LANE = 24;
const ROW_MIN = 44;
const ROW_MAX = 68;
// Rows grow if there is room for it.
let rowHeight = ROW_MIN;
let boxHeight = ROW_MIN - 16;
const FONT = '12px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace';
const LABEL = '12px system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif';

function palette() {
  const style = getComputedStyle(document.documentElement);
  const names = ['panel', 'ink', 'soft', 'faint', 'grid', 'stripe', 'write', 'write-edge', 'read', 'read-edge', 'dim', 'dim-edge', 'bad', 'bad-ink',
    'before', 'before-edge', 'before-ink', 'with', 'with-edge', 'point', 'line', 'match', 'lane', 'lane-edge', 'past', 'focus'];
  return Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
}

function prepare(canvas) {
  const ratio = window.devicePixelRatio || 1;
  const width = canvas.clientWidth;
  const height = canvas.clientHeight;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const context = canvas.getContext('2d');
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  context.textBaseline = 'middle';
  return { context, width, height };
}

// A text that fits, or nothing.
function fitted(context, text, width) {
  if (width < 14) return '';
  const letters = Math.floor(width / 7.25);
  if (text.length <= letters) return text;
  return letters < 2 ? '' : `${text.slice(0, letters - 1)}…`;
}

// Request and answer; an arrow inside a string is not the one between them.
function halves(text) {
  let quoted = false;
  for (let i = 0; i < text.length; i += 1) {
    if (text[i] === '\\' && quoted) i += 1;
    else if (text[i] === '"') quoted = !quoted;
    else if (!quoted && text.startsWith(' -> ', i)) return [text.slice(0, i), text.slice(i + 4)];
  }
  return [text, ''];
}

function makePainter(history, canvas, overview) {
  const painter = { colours: palette(), visible: 0, hits: [] };
  const headHeight = (scene) => AXIS + scene.lanes.length * LANE;
  painter.headHeight = headHeight;

  function look(scene, i) {
    const c = painter.colours;
    const role = history.role.get(i);
    if (role === 'unplaceable') return { fill: c.bad, edge: c.bad, ink: c['bad-ink'] };
    if (role === 'before' || role === 'conflict') return { fill: c.before, edge: c['before-edge'], ink: c['before-ink'] };
    if (role) return { fill: c.with, edge: c['with-edge'], ink: c.ink };
    if (scene.matches && !scene.matches.has(i)) return { fill: c.dim, edge: c['dim-edge'], ink: c.soft };
    const reads = !history.changes[i];
    return { fill: reads ? c.read : c.write, edge: reads ? c['read-edge'] : c['write-edge'], ink: c.ink };
  }

  // `before` and `after` are the ends of the room that the row has for it.
  function box(context, scene, i, left, right, top, edges, before, after) {
    const { fill, edge, ink } = look(scene, i);
    const open = scene.x1[i] === Infinity;
    const width = Math.max(right - left, 2);
    painter.hits.push({ i, left, right: left + width, top, bottom: top + boxHeight });
    painter.visible += 1;
    if (width < 5) {
      context.fillStyle = edge;
      context.fillRect(left, top, width, boxHeight);
      return;
    }
    context.beginPath();
    if (open) {
      const fade = context.createLinearGradient(left, 0, right, 0);
      fade.addColorStop(0, fill);
      fade.addColorStop(1, `${painter.colours.panel}00`);
      context.fillStyle = fade;
      context.roundRect(left, top, width, boxHeight, [5, 0, 0, 5]);
      context.fill();
      context.setLineDash([4, 3]);
      context.beginPath();
      context.moveTo(right, top);
      context.lineTo(left + 5, top);
      context.arcTo(left, top, left, top + 5, 5);
      context.lineTo(left, top + boxHeight - 5);
      context.arcTo(left, top + boxHeight, left + 5, top + boxHeight, 5);
      context.lineTo(right, top + boxHeight);
    } else {
      context.fillStyle = fill;
      context.roundRect(left, top, width, boxHeight, 5);
      context.fill();
    }
    context.strokeStyle = edge;
    context.lineWidth = scene.matches && scene.matches.has(i) ? 2.5 : 1.25;
    if (scene.matches && scene.matches.has(i)) context.strokeStyle = painter.colours.match;
    context.stroke();
    context.setLineDash([]);
    if (painter.selected === i) {
      context.strokeStyle = painter.colours.focus;
      context.lineWidth = 2.5;
      context.beginPath();
      context.roundRect(left - 3, top - 3, width + 6, boxHeight + 6, 7);
      context.stroke();
    }
    const from = Math.max(left, edges.left) + 7;
    const room = Math.min(right, edges.right) - from - 5;
    const [request, answer] = halves(history.text[i]);
    context.fillStyle = ink;
    const short = shorten(request, i);
    const texts = [`${request} → ${answer}`, `${short} → ${answer}`];
    if (answer === 'ok' || answer === 'unknown' || !answer) texts.splice(0, 2, request, short);
    else texts.push(...(history.changes[i] ? [request, short] : [`→ ${answer}`]));
    const best = texts.find((text) => text.length * 7.25 <= room);
    if (best === undefined && history.role.has(i) && beside(context, i, left, right, top, edges, before, after)) return;
    context.fillText(fitted(context, best ?? texts.at(-1), room), from, top + boxHeight / 2 + 0.5);
  }

  // What an operation of the core says must be seen, if need be next to its box.
  function beside(context, i, left, right, top, edges, before, after) {
    const [request, answer] = halves(history.text[i]);
    const said = answer === 'ok' || answer === 'unknown' || !answer ? '' : ` → ${answer}`;
    const roomAfter = Math.min(after, edges.right) - right;
    const roomBefore = left - Math.max(before, edges.left);
    const length = (text) => text.length * 7.25 + 8;
    const texts = [`${request}${said}`, `${shorten(request, i)}${said}`, said.trim()];
    const text = texts.find((words) => words && length(words) < Math.max(roomAfter, roomBefore));
    if (text === undefined) return false;
    const start = length(text) < roomAfter ? right + 7 : left - length(text);
    context.fillStyle = painter.colours.ink;
    context.fillText(text, start, top + boxHeight / 2 + 0.5);
    return true;
  }

  // Without the key.
  function shorten(request, i) {
    return request.replace(` ${history.keys[history.key[i]]}`, '');
  }

  function row(context, scene, view, number, top, edges) {
    const { members, starts, open } = scene.rows[number];
    const y = top + (rowHeight - boxHeight) / 2;
    const before = (x) => lastAt(starts, x);
    // What never returned goes on under everything that its process does later.
    for (const i of open) {
      const from = view.x(scene.x0[i]);
      if (from > edges.right) break;
      const { edge } = look(scene, i);
      context.strokeStyle = edge;
      context.lineWidth = history.role.has(i) ? 2 : 1;
      context.setLineDash([5, 4]);
      context.beginPath();
      context.moveTo(Math.max(from, edges.left), y + boxHeight + 4);
      context.lineTo(edges.right - 6, y + boxHeight + 4);
      context.stroke();
      context.setLineDash([]);
      context.fillStyle = edge;
      context.beginPath();
      context.moveTo(edges.right - 1, y + boxHeight + 4);
      context.lineTo(edges.right - 8, y + boxHeight);
      context.lineTo(edges.right - 8, y + boxHeight + 8);
      context.fill();
    }
    let at = Math.max(before(view.left), 0);
    while (at < members.length && scene.x0[members[at]] <= view.right) {
      const i = members[at];
      const next = at + 1 < members.length ? view.x(scene.x0[members[at + 1]]) : Infinity;
      const left = view.x(scene.x0[i]);
      const right = scene.x1[i] === Infinity ? Math.min(next - 3, edges.right) : view.x(scene.x1[i]);
      const previous = at > 0 ? members[at - 1] : -1;
      const ended = previous < 0 ? -Infinity : view.x(scene.x1[previous] === Infinity ? scene.x0[previous] : scene.x1[previous]);
      if (right >= edges.left) box(context, scene, i, left, right, y, edges, ended, next);
      // The next one that begins on a later pixel, unless one of the core is hidden before it.
      const later = right - left < 1.5 ? Math.max(before(view.from(left + 1.5)) + 1, at + 1) : at + 1;
      at = later;
    }
    for (const i of history.role.keys()) {
      if (history.process[i] === scene.rows[number].process && right1(scene, view, i) - view.x(scene.x0[i]) < 3 && scene.operationSet.has(i)) {
        box(context, scene, i, view.x(scene.x0[i]), view.x(scene.x0[i]) + 4, y, edges, Infinity, -Infinity);
      }
    }
  }
  const right1 = (scene, view, i) => (scene.x1[i] === Infinity ? Infinity : view.x(scene.x1[i]));

  function axisLabels(context, scene, view, width, height) {
    const c = painter.colours;
    const { ticks, lines, places } = scene.axisOf;
    context.font = LABEL;
    context.fillStyle = c.soft;
    context.strokeStyle = c.grid;
    context.lineWidth = 1;
    const mark = (x, text, state) => {
      const at = Math.round(view.x(x)) + 0.5;
      context.beginPath();
      context.moveTo(at, AXIS);
      context.lineTo(at, height);
      context.stroke();
      if (at > state.free && at < width - 40) {
        context.fillText(text, at + 4, AXIS / 2 + 1);
        state.free = at + context.measureText(text).width + 24;
      }
    };
    const state = { free: GUTTER - 1 };
    const span = view.right - view.left;
    const wanted = Math.max(2, Math.floor((width - GUTTER) / 110));
    if (scene.axis === 'time') {
      const step = niceStep(span / wanted);
      for (let t = Math.max(0, Math.ceil(view.left / step) * step); t <= view.right; t += step) mark(t, duration(t), state);
      return;
    }
    const step = Math.max(1, niceStep(span / wanted));
    const first = Math.max(0, Math.ceil(view.left / step) * step);
    for (let i = first; i < places.length && i <= view.right; i += step) {
      mark(i, lines[i] > 0 ? `line ${lines[i].toLocaleString('en')}` : `event ${ticks[i].toLocaleString('en')}`, state);
    }
  }

  painter.draw = (scene, view) => {
    painter.scene = scene;
    painter.hits = [];
    painter.visible = 0;
    const { context, width, height } = prepare(canvas);
    const c = painter.colours;
    const head = headHeight(scene);
    rowHeight = Math.min(ROW_MAX, Math.max(ROW_MIN, Math.floor((height - head - 40) / Math.max(1, scene.rows.length))));
    boxHeight = rowHeight - 16;
    const edges = { left: GUTTER, right: width };
    const firstRow = Math.max(0, Math.floor(view.top / rowHeight));
    const lastRow = Math.min(scene.rows.length, Math.ceil((view.top + height - head) / rowHeight));
    context.save();
    context.beginPath();
    context.rect(0, head, width, height - head);
    context.clip();
    for (let number = firstRow; number < lastRow; number += 1) {
      if (number % 2) {
        context.fillStyle = c.stripe;
        context.fillRect(0, head + number * rowHeight - view.top, width, rowHeight);
      }
    }
    context.restore();
    axisLabels(context, scene, view, width, height);
    context.save();
    context.beginPath();
    context.rect(GUTTER, head, width - GUTTER, height - head);
    context.clip();
    for (const { x, missing } of scene.axisOf.gaps) gap(context, view.x(x), head, height, missing);
    if (!Number.isNaN(scene.cut)) {
      const at = view.x(scene.cut);
      context.fillStyle = c.past;
      context.fillRect(at, head, Math.max(0, width - at), height - head);
    }
    context.font = FONT;
    for (let number = firstRow; number < lastRow; number += 1) row(context, scene, view, number, head + number * rowHeight - view.top, edges);
    points(context, scene, view, head, edges);
    if (!Number.isNaN(scene.cut)) cutLine(context, view.x(scene.cut), head, height, width);
    context.restore();
    laneRows(context, scene, view, edges);
    gutter(context, scene, view, head, height, firstRow, lastRow);
    painter.drawOverview(scene, view);
  };

  function gap(context, x, top, bottom, missing) {
    if (x < GUTTER - 20) return;
    context.strokeStyle = painter.colours.faint;
    context.setLineDash([2, 4]);
    context.beginPath();
    context.moveTo(x, top);
    context.lineTo(x, bottom);
    context.stroke();
    context.setLineDash([]);
    context.font = LABEL;
    context.fillStyle = painter.colours.soft;
    context.save();
    context.translate(x + 1, bottom - 40);
    context.rotate(-Math.PI / 2);
    context.fillText(`${missing.toLocaleString('en')} ${missing === 1 ? 'event' : 'events'} left out`, 0, 0);
    context.restore();
  }

  function cutLine(context, x, top, bottom, width) {
    if (x < GUTTER || x > width) return;
    const c = painter.colours;
    context.strokeStyle = c.bad;
    context.lineWidth = 2;
    context.beginPath();
    context.moveTo(x, top);
    context.lineTo(x, bottom);
    context.stroke();
    context.font = LABEL;
    const text = 'from here on, no order explains the answers';
    const length = context.measureText(text).width + 14;
    const left = x + length + 4 > width ? x - length - 4 : x + 4;
    context.fillStyle = c.bad;
    context.beginPath();
    context.roundRect(left, bottom - 27, length, 21, 5);
    context.fill();
    context.fillStyle = c['bad-ink'];
    context.fillText(text, left + 7, bottom - 16);
  }

  // Where the operations took effect, joined in their order.
  function points(context, scene, view, head, edges) {
    const c = painter.colours;
    const centre = (i) => head + scene.rowOf.get(history.process[i]) * rowHeight - view.top + rowHeight / 2 + boxHeight / 2;
    const first = Math.max(0, lastAt(scene.pathX, view.left) - 1);
    const last = Math.min(scene.path.length - 1, lastAt(scene.pathX, view.right) + 1);
    if (scene.path.length && last - first < (edges.right - edges.left) / 6) {
      context.strokeStyle = c.line;
      context.lineWidth = 1.5;
      context.beginPath();
      for (let n = first; n <= last; n += 1) context.lineTo(view.x(scene.pathX[n]), centre(scene.path[n]));
      context.stroke();
    }
    for (const { i, left, right } of painter.hits) {
      if (history.rank[i] < 0 || right - left < 7) continue;
      const x = view.x(scene.axisOf.at(history.point[i]));
      const y = centre(i);
      context.fillStyle = c.point;
      context.strokeStyle = c.panel;
      context.lineWidth = 1.5;
      context.beginPath();
      context.moveTo(x, y - 6);
      context.lineTo(x + 5, y);
      context.lineTo(x, y + 6);
      context.lineTo(x - 5, y);
      context.closePath();
      context.fill();
      context.stroke();
    }
  }

  function laneRows(context, scene, view, edges) {
    const c = painter.colours;
    context.font = LABEL;
    scene.lanes.forEach(({ notes, starts }, number) => {
      const top = AXIS + number * LANE;
      context.save();
      context.beginPath();
      context.rect(edges.left, top, edges.right - edges.left, LANE);
      context.clip();
      let at = Math.max(0, lastAt(starts, view.left));
      for (; at < notes.length && notes[at].x0 <= view.right; at += 1) {
        const note = notes[at];
        const left = view.x(note.x0);
        const next = at + 1 < notes.length ? view.x(notes[at + 1].x0) : Infinity;
        const from = Math.max(left, edges.left);
        if (note.lasts && note.text) {
          const right = Math.min(Number.isFinite(note.x1) ? view.x(note.x1) : Infinity, edges.right + 8);
          context.fillStyle = c.lane;
          context.strokeStyle = c['lane-edge'];
          context.lineWidth = 1;
          context.beginPath();
          context.roundRect(left, top + 3.5, Math.max(right - left, 2), LANE - 7, 4);
          context.fill();
          context.stroke();
        } else if (note.text) {
          context.fillStyle = c['lane-edge'];
          context.beginPath();
          context.arc(left, top + LANE / 2, 4, 0, 7);
          context.fill();
        }
        const room = Math.min(next, edges.right) - from - 12;
        context.fillStyle = c.ink;
        if (note.text && next > edges.left) context.fillText(fitted(context, note.text, room), from + 8, top + LANE / 2 + 0.5);
        painter.hits.push({ note, left: left - 5, right: Math.max(left + 5, Math.min(next, edges.right)), top, bottom: top + LANE });
        if (next - left < 1) at = Math.max(at, lastAt(starts, view.from(left + 1)) - 1);
      }
      context.restore();
    });
  }

  function gutter(context, scene, view, head, height, firstRow, lastRow) {
    const c = painter.colours;
    context.font = LABEL;
    context.strokeStyle = c.faint;
    context.lineWidth = 1;
    context.beginPath();
    context.moveTo(GUTTER - 0.5, 0);
    context.lineTo(GUTTER - 0.5, height);
    context.moveTo(0, head - 0.5);
    context.lineTo(canvas.clientWidth, head - 0.5);
    context.stroke();
    context.fillStyle = c.soft;
    scene.lanes.forEach(({ name }, number) => context.fillText(fitted(context, name, GUTTER - 16), 12, AXIS + number * LANE + LANE / 2 + 0.5));
    context.save();
    context.beginPath();
    context.rect(0, head, GUTTER, height - head);
    context.clip();
    for (let number = firstRow; number < lastRow; number += 1) {
      const { process } = scene.rows[number];
      const guilty = [...history.role].some(([i, role]) => role === 'unplaceable' && history.process[i] === process);
      context.fillStyle = guilty ? c.bad : c.ink;
      if (number === scene.guiltyRows - 1 && number + 1 < scene.rows.length) {
        const y = Math.round(head + (number + 1) * rowHeight - view.top) - 0.5;
        context.strokeStyle = c['read-edge'];
        context.beginPath();
        context.moveTo(0, y);
        context.lineTo(GUTTER, y);
        context.stroke();
      }
      context.fillText(fitted(context, `process ${history.processes[process]}`, GUTTER - 14), 12, head + number * rowHeight - view.top + rowHeight / 2);
    }
    context.restore();
  }

  painter.drawOverview = (scene, view) => {
    const { context, width, height } = prepare(overview);
    const c = painter.colours;
    const span = scene.last - scene.first;
    const x = (place) => ((place - scene.first) / span) * width;
    if (!scene.density || scene.density.length !== Math.ceil(width / 2)) scene.density = density(scene, Math.ceil(width / 2));
    const most = Math.max(1, ...scene.density);
    context.fillStyle = c['write-edge'];
    scene.density.forEach((count, at) => {
      const tall = count ? 3 + (count / most) * (height - 20) : 0;
      context.fillRect(at * 2, height - 5 - tall, scene.operations.length > width ? 2 : 1.5, tall);
    });
    context.fillStyle = c['lane-edge'];
    scene.lanes.forEach(({ notes }) => notes.forEach((note) => context.fillRect(x(note.x0), 2, 1.5, 4)));
    for (const [i, role] of history.role) {
      if (!scene.operationSet.has(i)) continue;
      context.fillStyle = role === 'unplaceable' ? c.bad : role === 'concurrent' ? c['with-edge'] : c['before-edge'];
      context.fillRect(x(scene.x0[i]) - 1, 6, 3, height - 10);
    }
    const middle = (x(view.left) + x(view.right)) / 2;
    const half = Math.max(4, (x(view.right) - x(view.left)) / 2);
    const left = Math.max(0, middle - half);
    const right = Math.min(width, middle + half);
    context.fillStyle = `${c.focus}22`;
    context.strokeStyle = c.focus;
    context.lineWidth = 1.5;
    context.beginPath();
    context.roundRect(left + 1, 2, Math.max(right - left - 2, 3), height - 4, 4);
    context.fill();
    context.stroke();
  };

  function density(scene, columns) {
    const counts = new Array(columns).fill(0);
    const span = scene.last - scene.first;
    for (const i of scene.operations) counts[Math.min(columns - 1, Math.floor(((scene.x0[i] - scene.first) / span) * columns))] += 1;
    return counts;
  }

  return painter;
}

function niceStep(rough) {
  const power = 10 ** Math.floor(Math.log10(rough));
  const part = rough / power;
  return power * (part <= 1 ? 1 : part <= 2 ? 2 : part <= 5 ? 5 : 10);
}

function duration(nanoseconds) {
  const [unit, size] = nanoseconds >= 1e9 ? ['s', 1e9] : nanoseconds >= 1e6 ? ['ms', 1e6] : nanoseconds >= 1e3 ? ['µs', 1e3] : ['ns', 1];
  return `${Number((nanoseconds / size).toFixed(3))} ${unit}`;
}
