// Paints the diagram: time from left to right, a lane for each node and client.

const GUTTER = 74;
const HEAD = 26;
const NODE_LANE = 92;
const CLIENT_LANE = 40;
const OPERATION_ROW = 13;
const BAND = 15;

function makePainter(data, canvas) {
  const { scene } = data;
  const context = canvas.getContext('2d');
  const painter = { selected: null, hover: null, hits: [], visible: 0, bands: 0 };
  let colours = {};
  painter.readColours = () => {
    const style = getComputedStyle(document.documentElement);
    const names = ['ink', 'soft', 'faint', 'grid', 'stripe', 'panel', 'leader', 'candidate', 'follower', 'band-ink', 'down', 'fault', 'fault-edge', 'write', 'vote', 'append', 'beat', 'client', 'snapshot', 'lost', 'ok', 'ok-edge', 'bad', 'bad-ink', 'open', 'open-edge', 'focus'];
    colours = Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
  };
  painter.readColours();
  painter.colour = (name) => colours[name];

  painter.layout = (filter, things) => {
    const rows = new Map();
    things.filter((thing) => thing.form === 'operation').forEach((thing) => rows.set(thing.lane, Math.max(rows.get(thing.lane) ?? 1, thing.row + 1)));
    let top = HEAD;
    painter.lanes = [...scene.lanes.keys()].filter((lane) => filter.lanes.has(lane)).map((lane) => {
      const isNode = data.isNode[lane];
      const height = isNode ? NODE_LANE : Math.max(CLIENT_LANE, 18 + OPERATION_ROW * (rows.get(lane) ?? 1));
      const place = { lane, isNode, top, height, name: scene.lanes[lane] };
      top += height;
      return place;
    });
    painter.height = top;
    painter.byLane = new Map(painter.lanes.map((place) => [place.lane, place]));
  };

  // Where messages leave and arrive: the line in the middle of a node's lane, the top of a client's.
  const lineOf = (place, view) => place.top - view.top + (place.isNode ? 46 : 12);

  painter.draw = (things, filter, view, evidence) => {
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    context.font = '12px system-ui, "DejaVu Sans", sans-serif';
    context.textBaseline = 'middle';
    painter.hits = [];
    painter.visible = 0;
    painter.bands = 0;
    const x = (at) => GUTTER + ((at - view.left) / (view.right - view.left)) * (width - GUTTER - 10);
    painter.x = x;
    const inView = (thing) => thing.end >= view.left && thing.begin <= view.right;
    drawLanes(width, height, view, x);
    const shown = things.filter((thing) => inView(thing) && filter.shows(thing));
    const labels = new Map();
    for (const thing of shown) if (thing.form === 'fault' || thing.form === 'down') drawFault(thing, view, x, labels);
    const downs = things.filter((thing) => thing.form === 'down');
    for (const place of painter.lanes) if (place.isNode) drawBand(place, view, x, width, downs);
    for (const thing of shown) if (thing.form === 'write') drawWrite(thing, view, x);
    for (const thing of shown) if (thing.form === 'operation') drawOperation(thing, view, x);
    for (const thing of shown) if (thing.form === 'message') drawMessage(thing, view, x);
    for (const thing of shown) if (thing.form === 'event') drawEvent(thing, view, x);
    const marks = new Map();
    const numbers = new Map(evidence.map((number, place) => [number, place + 1]));
    for (const thing of shown) if (thing.form === 'event' && numbers.has(thing.number)) drawNumber(thing, numbers.get(thing.number), view, x, marks);
    for (const thing of things) if (thing.kind === 'violation' && inView(thing)) drawEnd(thing, height, x);
    drawSelected(view, x);
    drawAxis(width, height, view, x);
    drawNames(height, view);
  };

  function drawLanes(width, height, view, x) {
    painter.lanes.forEach((place, number) => {
      context.fillStyle = number % 2 ? colours.stripe : colours.panel;
      context.fillRect(0, place.top - view.top, width, place.height);
      context.strokeStyle = colours.faint;
      context.lineWidth = 1;
      context.beginPath();
      const y = lineOf(place, view) + 0.5;
      context.moveTo(GUTTER, y);
      context.lineTo(width, y);
      context.stroke();
    });
  }

  function drawNames(height, view) {
    context.fillStyle = colours.panel;
    context.fillRect(0, HEAD, GUTTER - 6, height - HEAD);
    context.textAlign = 'right';
    context.font = '600 13px system-ui, "DejaVu Sans", sans-serif';
    context.fillStyle = colours.ink;
    for (const place of painter.lanes) {
      const y = place.top - view.top + (place.isNode ? 46 : 14);
      if (y > HEAD) context.fillText(place.name, GUTTER - 14, y);
    }
    context.textAlign = 'left';
    context.font = '12px system-ui, "DejaVu Sans", sans-serif';
  }

  function drawAxis(width, height, view, x) {
    context.fillStyle = colours.panel;
    context.fillRect(0, 0, width, HEAD);
    const span = view.right - view.left;
    const about = span / Math.max(2, (width - GUTTER) / 110);
    const power = 10 ** Math.floor(Math.log10(about));
    const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= about);
    const digits = Math.min(6, Math.max(0, 6 - Math.floor(Math.log10(step))));
    context.strokeStyle = colours.grid;
    context.fillStyle = colours.soft;
    context.textAlign = 'center';
    for (let at = Math.ceil(view.left / step) * step; at <= view.right; at += step) {
      context.beginPath();
      context.moveTo(x(at), HEAD - 4);
      context.lineTo(x(at), HEAD);
      context.stroke();
      context.fillText(`${(at / 1e6).toFixed(digits)} s`, x(at), 12);
    }
    context.textAlign = 'left';
    if (scene.whole_from > Math.max(0, view.left)) {
      context.fillStyle = colours.soft;
      context.fillText('← messages and events from before are left out', Math.max(GUTTER, Math.min(x(scene.whole_from) - 290, width - 300)), HEAD + 8);
    }
  }

  function drawBand(place, view, x, width, downs) {
    const samples = scene.states[place.lane] ?? [];
    const top = lineOf(place, view) - BAND / 2;
    samples.forEach(([at, state], number) => {
      const next = samples.find((sample, other) => other > number && (sample[1][0] !== state[0] || sample[1][2] !== state[2]));
      const before = samples[number - 1];
      if (before && before[1][0] === state[0] && before[1][2] === state[2]) return;
      const until = next ? next[0] : scene.end;
      if (until < view.left || at > view.right) return;
      const left = Math.max(GUTTER, x(at));
      const right = Math.min(width, x(until));
      context.fillStyle = [colours.follower, colours.candidate, colours.candidate, colours.leader][state[2]];
      context.fillRect(left, top, Math.max(1, right - left), BAND);
      painter.bands += 1;
      if (right - left > 18) {
        context.fillStyle = state[2] ? colours['band-ink'] : colours.ink;
        context.fillText(String(state[0]), left + 7, top + BAND / 2 + 0.5);
      }
    });
    // A node that is down has no role.
    for (const down of downs) {
      if (!down.lanes.includes(place.lane) || down.end < view.left || down.begin > view.right) continue;
      const left = Math.max(GUTTER, x(down.begin));
      const right = Math.min(width, x(down.end));
      context.fillStyle = colours.panel;
      context.fillRect(left, top, Math.max(1, right - left), BAND);
      context.strokeStyle = colours.down;
      context.strokeRect(left, top + 0.5, Math.max(1, right - left), BAND - 1);
    }
  }

  function box(thing, place, view, x, top, height) {
    const left = Math.max(GUTTER, x(thing.begin));
    const right = Math.max(left + 2, x(thing.end));
    return [left, place.top - view.top + top, right - left, height];
  }

  // The first row of labels or numbers in `rows` that has room from `left` to `right`.
  function rowFor(rows, lane, left, right, count) {
    const taken = rows.get(lane) ?? [];
    rows.set(lane, taken);
    for (let row = 0; row < count; row += 1) {
      if ((taken[row] ?? -Infinity) <= left) {
        taken[row] = right;
        return row;
      }
    }
    return count - 1;
  }

  function drawFault(thing, view, x, rows) {
    let isCounted = false;
    for (const lane of thing.lanes) {
      const place = painter.byLane.get(lane);
      if (!place) continue;
      const area = box(thing, place, view, x, 2, place.height - 4);
      if (thing.form === 'down') {
        context.save();
        context.beginPath();
        context.rect(...area);
        context.clip();
        context.strokeStyle = colours.down;
        context.lineWidth = 1;
        context.globalAlpha = 0.55;
        context.beginPath();
        for (let at = area[0] - place.height; at < area[0] + area[2]; at += 8) {
          context.moveTo(at, area[1] + area[3]);
          context.lineTo(at + place.height, area[1]);
        }
        context.stroke();
        context.restore();
      } else {
        context.fillStyle = colours.fault;
        context.fillRect(...area);
        context.strokeStyle = colours['fault-edge'];
        context.strokeRect(...area);
      }
      if (area[2] > 40) {
        context.fillStyle = colours.soft;
        context.save();
        context.beginPath();
        context.rect(...area);
        context.clip();
        const width = Math.min(area[2], context.measureText(thing.kind).width + 12);
        const row = thing.form === 'down' ? 0 : rowFor(rows, lane, area[0], area[0] + width, 3);
        context.fillText(thing.form === 'down' ? thing.text : thing.kind, area[0] + 5, area[1] + (thing.form === 'down' ? area[3] - 9 : 9 + 13 * row));
        context.restore();
      }
      painter.hits.push({ thing, weight: 40, area });
      isCounted = true;
    }
    painter.visible += isCounted;
  }

  function drawWrite(thing, view, x) {
    const place = painter.byLane.get(thing.lanes[0]);
    if (!place) return;
    const area = box(thing, place, view, x, 66, 4);
    context.fillStyle = colours.write;
    context.fillRect(...area);
    painter.hits.push({ thing, weight: 8, area: [area[0], area[1] - 4, area[2], 12] });
    painter.visible += 1;
  }

  function drawOperation(thing, view, x) {
    const place = painter.byLane.get(thing.lane);
    if (!place) return;
    const area = box(thing, place, view, x, 18 + thing.row * OPERATION_ROW, OPERATION_ROW - 2);
    const isBad = thing.role === 'unplaceable' || thing.role === 'conflict';
    const isPlaced = thing.place !== null;
    context.fillStyle = isBad ? colours.bad : isPlaced ? colours.ok : colours.open;
    context.strokeStyle = isBad ? colours.bad : isPlaced ? colours['ok-edge'] : colours['open-edge'];
    context.setLineDash(thing.isOpen ? [3, 3] : []);
    context.fillRect(...area);
    context.strokeRect(...area);
    context.setLineDash([]);
    if (area[2] > 46) {
      context.save();
      context.beginPath();
      context.rect(...area);
      context.clip();
      context.fillStyle = isBad ? colours['bad-ink'] : colours.ink;
      context.font = '10px system-ui, "DejaVu Sans", sans-serif';
      context.fillText(thing.text, area[0] + 3, area[1] + area[3] / 2 + 0.5);
      context.restore();
    }
    painter.hits.push({ thing, weight: 6, area });
    painter.visible += 1;
  }

  const colourOf = (thing) => {
    if (thing.fate !== 'delivered') return colours.lost;
    return { votes: colours.vote, appends: colours.append, heartbeats: colours.beat, snapshots: colours.snapshot, requests: colours.client }[thing.family] ?? colours.soft;
  };

  function drawMessage(thing, view, x) {
    const from = painter.byLane.get(thing.from);
    const to = painter.byLane.get(thing.to);
    if (!from || !to) return;
    const isDown = to.top > from.top;
    const edge = (place, leaves) => lineOf(place, view) + (place.isNode ? (leaves === isDown ? 1 : -1) * BAND / 2 : 0);
    const line = [x(thing.begin), edge(from, true), x(thing.end), edge(to, false)];
    const isLost = thing.fate !== 'delivered';
    // What did not arrive ends on the way.
    if (isLost) [line[2], line[3]] = [Math.max(line[2], line[0] + 6), line[1] + (line[3] - line[1]) * 0.55];
    context.strokeStyle = colourOf(thing);
    context.fillStyle = context.strokeStyle;
    context.lineWidth = thing.family === 'heartbeats' ? 0.8 : 1.3;
    context.setLineDash(isLost ? [4, 3] : []);
    context.beginPath();
    context.moveTo(line[0], line[1]);
    context.lineTo(line[2], line[3]);
    context.stroke();
    context.setLineDash([]);
    if (thing.twice) {
      context.beginPath();
      context.moveTo(line[0] + 3, line[1]);
      context.lineTo(line[2] + 3, line[3]);
      context.stroke();
    }
    if (isLost) {
      context.beginPath();
      context.moveTo(line[2] - 4, line[3] - 4);
      context.lineTo(line[2] + 4, line[3] + 4);
      context.moveTo(line[2] + 4, line[3] - 4);
      context.lineTo(line[2] - 4, line[3] + 4);
      context.stroke();
    } else {
      const turn = Math.atan2(line[3] - line[1], line[2] - line[0]);
      context.beginPath();
      context.moveTo(line[2], line[3]);
      for (const side of [-0.35, 0.35]) context.lineTo(line[2] - 8 * Math.cos(turn + side), line[3] - 8 * Math.sin(turn + side));
      context.fill();
    }
    painter.hits.push({ thing, weight: 5, line });
    painter.visible += 1;
  }

  function drawEvent(thing, view, x) {
    const place = painter.byLane.get(thing.lane);
    if (!place) return;
    const y = thing.family === 'disk' ? place.top - view.top + 74 : place.top - view.top + (place.isNode ? 46 : 12);
    context.fillStyle = { log: colours.append, disk: colours.write, snapshots: colours.snapshot }[thing.family] ?? colours.ink;
    if (thing.kind === 'violation') context.fillStyle = colours.bad;
    context.strokeStyle = colours.panel;
    context.lineWidth = 1;
    context.beginPath();
    context.arc(x(thing.begin), y, thing.kind === 'violation' ? 7 : 3.4, 0, 7);
    context.fill();
    context.stroke();
    painter.hits.push({ thing, weight: 3, point: [x(thing.begin), y] });
    painter.visible += 1;
  }

  function drawNumber(thing, number, view, x, rows) {
    const place = painter.byLane.get(thing.lane);
    if (!place) return;
    const left = x(thing.begin);
    const y = place.top - view.top + [28, 11][rowFor(rows, thing.lane, left - 8, left + 8, 2)];
    context.fillStyle = thing.kind === 'violation' ? colours.bad : colours.focus;
    context.beginPath();
    context.arc(left, y, 8, 0, 7);
    context.fill();
    context.fillStyle = colours.panel;
    context.textAlign = 'center';
    context.font = '600 10px system-ui, "DejaVu Sans", sans-serif';
    context.fillText(String(number), left, y + 0.5);
    context.textAlign = 'left';
    context.font = '12px system-ui, "DejaVu Sans", sans-serif';
  }

  function drawEnd(thing, height, x) {
    context.strokeStyle = colours.bad;
    context.lineWidth = 2;
    context.setLineDash([6, 4]);
    context.beginPath();
    context.moveTo(x(thing.begin), HEAD);
    context.lineTo(x(thing.begin), height);
    context.stroke();
    context.setLineDash([]);
    context.lineWidth = 1;
  }

  function drawSelected(view, x) {
    for (const thing of [painter.hover, painter.selected]) {
      if (!thing) continue;
      const hit = painter.hits.find((one) => one.thing === thing);
      if (!hit) continue;
      context.strokeStyle = colours.focus;
      context.lineWidth = 3;
      context.beginPath();
      if (hit.line) {
        context.moveTo(hit.line[0], hit.line[1]);
        context.lineTo(hit.line[2], hit.line[3]);
      } else if (hit.point) context.arc(hit.point[0], hit.point[1], 7, 0, 7);
      else context.rect(...hit.area);
      context.stroke();
    }
  }

  // What is at a place of the canvas: the lightest of what is near.
  painter.at = (left, top) => {
    let best = null;
    for (const hit of painter.hits) {
      const far = distance(hit, left, top);
      if (far <= 6 && (best === null || hit.weight + far < best.score)) best = { score: hit.weight + far, thing: hit.thing };
    }
    return best?.thing ?? null;
  };

  function distance({ line, point, area }, left, top) {
    if (point) return Math.hypot(left - point[0], top - point[1]) - 2;
    if (area) return left >= area[0] - 2 && left <= area[0] + area[2] + 2 && top >= area[1] && top <= area[1] + area[3] ? 0 : 99;
    const [dx, dy] = [line[2] - line[0], line[3] - line[1]];
    const along = Math.min(1, Math.max(0, ((left - line[0]) * dx + (top - line[1]) * dy) / (dx * dx + dy * dy || 1)));
    return Math.hypot(left - line[0] - along * dx, top - line[1] - along * dy);
  }
  return painter;
}
