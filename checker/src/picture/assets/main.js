// Puts it together: the view, the mouse, the keyboard, and the address, which says what is shown.

const SPAN_MIN = 3;
const CORE_SPAN_MAX = 70;
const FIRST_SPAN = 60;
const byId = (id) => document.getElementById(id);
const say = (name, value) => { document.documentElement.dataset[name] = value; };

async function start() {
  const history = await load();
  const canvas = byId('timeline');
  const overview = byId('overview');
  const painter = makePainter(history, canvas, overview);
  const view = { left: 0, right: 1, top: 0 };
  let scene;
  let width = 1;
  view.x = (place) => GUTTER + ((place - view.left) / (view.right - view.left)) * width;
  view.from = (x) => view.left + ((x - GUTTER) / width) * (view.right - view.left);
  const choice = { key: -1, core: false, axis: 'order', query: '' };
  let waiting = false;

  function redraw() {
    if (waiting) return;
    waiting = true;
    const now = () => { if (waiting) paint(); };
    requestAnimationFrame(now);
    // A window that nobody sees has no frames, but an address.
    setTimeout(now, 100);
  }

  // If not all rows fit, only those of the core and those with something in view are shown.
  function pickRows() {
    const room = canvas.clientHeight - painter.headHeight(scene) - 34;
    if (scene.allRows.length * ROW_MIN <= room) return;
    const inView = ({ members, starts }) => {
      const i = members[lastAt(starts, view.right)];
      return i !== undefined && (scene.x1[i] === Infinity ? scene.x0[i] : scene.x1[i]) >= view.left;
    };
    scene.rows = scene.allRows.filter((row, number) => number < scene.guiltyRows || inView(row));
    scene.rowOf = new Map(scene.rows.map((row, number) => [row.process, number]));
  }

  function paint() {
    waiting = false;
    width = Math.max(1, canvas.clientWidth - GUTTER);
    clamp();
    pickRows();
    clamp();
    painter.draw(scene, view);
    say('visible', painter.visible);
    say('rows', scene.rows.length);
    say('shown', scene.operations.length);
    say('view', `${view.left.toFixed(2)} ${view.right.toFixed(2)}`);
    remember();
  }

  function clamp() {
    const whole = scene.last - scene.first;
    const least = scene.axis === 'time' ? Math.min(whole, 100) : Math.min(SPAN_MIN, whole);
    const span = Math.min(Math.max(view.right - view.left, least), whole);
    const middle = (view.left + view.right) / 2;
    view.left = Math.min(Math.max(middle - span / 2, scene.first), scene.last - span);
    view.right = view.left + span;
    const tall = scene.rows.length * rowHeight + painter.headHeight(scene) + 34;
    view.top = Math.min(Math.max(view.top, 0), Math.max(0, tall - canvas.clientHeight));
  }

  function rebuild() {
    scene = makeScene(history, choice);
    scene.operationSet = new Set(scene.operations);
    search();
    byId('core').setAttribute('aria-pressed', choice.core);
    byId('core').disabled = history.role.size === 0;
    byId('key').value = choice.key;
    byId('axis').value = choice.axis;
    byId('axis').disabled = !history.timed;
    say('scope', choice.core ? 'core' : choice.key < 0 ? 'all' : 'key');
  }

  function search() {
    const words = choice.query.toLowerCase().split(/\s+/).filter(Boolean);
    const output = byId('matches');
    scene.matches = null;
    scene.found = [];
    if (words.length) {
      const fits = (i) => {
        const text = `${history.text[i]} process ${history.processes[history.process[i]]} line ${history.startLine[i]}`.toLowerCase();
        return words.every((word) => text.includes(word));
      };
      scene.found = scene.operations.filter(fits);
      scene.matches = new Set(scene.found);
    }
    output.textContent = words.length ? `${scene.found.length.toLocaleString('en')} found` : '';
    say('matches', scene.found.length);
  }

  // Changes what is shown, and stays at the same operations where that is possible.
  function choose(change, stay = true) {
    const middle = scene ? scene.operations.find((i) => scene.x0[i] >= (view.left + view.right) / 2) : undefined;
    const anchor = painter.selected ?? (history.role.size ? [...history.role.keys()][0] : middle);
    Object.assign(choice, change);
    rebuild();
    if (!stay) return;
    const cover = choice.axis === 'time' ? (scene.last - scene.first) / 20 : FIRST_SPAN;
    [view.left, view.right] = choice.core ? [scene.first, scene.last] : [0, cover];
    if (!choice.core && anchor !== undefined && scene.operationSet.has(anchor)) centre(anchor, cover);
    redraw();
  }

  function centre(i, span = view.right - view.left) {
    const end = scene.x1[i] === Infinity ? scene.x0[i] : scene.x1[i];
    const middle = (scene.x0[i] + end) / 2;
    view.left = middle - span / 2;
    view.right = middle + span / 2;
    reveal(i);
  }

  function reveal(i) {
    pickRows();
    const y = (scene.rowOf.get(history.process[i]) ?? 0) * rowHeight;
    const room = canvas.clientHeight - painter.headHeight(scene) - 34;
    if (y < view.top || y + rowHeight > view.top + room) view.top = y - room / 2;
  }

  function select(i, move) {
    if (!scene.operationSet.has(i)) choose({ core: false, key: history.key[i] }, false);
    painter.selected = i;
    const outsideOf = scene.x0[i] > view.right || (scene.x1[i] !== Infinity && scene.x1[i] < view.left) || scene.x0[i] < view.left;
    if (move && outsideOf) centre(i);
    if (move) reveal(i);
    byId('selected').replaceChildren(...describe(history, i));
    redraw();
  }

  function step(by) {
    const list = scene.found.length ? scene.found : scene.operations;
    if (!list.length) return;
    const at = painter.selected === undefined ? lastAt(list.map((i) => scene.x0[i]), view.left) : lastAt(list, painter.selected - (by < 0 ? 1 : 0)) + (by < 0 ? 1 : 0);
    select(list[Math.min(Math.max(at + by, 0), list.length - 1)], true);
  }

  function zoom(factor, at = (view.left + view.right) / 2) {
    view.left = at - (at - view.left) * factor;
    view.right = at + (view.right - at) * factor;
    redraw();
  }

  function pan(part) {
    const by = part * (view.right - view.left);
    view.left += by;
    view.right += by;
    redraw();
  }

  function fit() {
    [view.left, view.right, view.top] = [scene.first, scene.last, 0];
    redraw();
  }

  // The first view: the core, if it is close together; else only the core; or the beginning.
  function home() {
    painter.selected = undefined;
    const members = [...history.role.keys()];
    choose({ key: history.partition ?? (history.keys.length === 1 ? 0 : -1), core: false, axis: 'order' }, false);
    view.top = 0;
    if (!members.length) {
      [view.left, view.right] = [scene.first, Math.min(scene.last, scene.first + FIRST_SPAN)];
      redraw();
      return;
    }
    const closed = members.map((i) => (scene.x1[i] === Infinity ? scene.x0[i] : scene.x1[i]));
    let from = Math.min(...members.map((i) => scene.x0[i]));
    let to = Math.max(...closed);
    if (to - from > CORE_SPAN_MAX) {
      choose({ core: true }, false);
      [view.left, view.right] = [scene.first, scene.last];
    } else {
      const room = Math.max(2, (16 - (to - from)) / 2, (to - from) * 0.08);
      [view.left, view.right] = [from - room, to + room];
    }
    const guilty = members.find((i) => history.role.get(i) === 'unplaceable') ?? members[0];
    reveal(guilty);
    byId('selected').replaceChildren(...describe(history, guilty));
    painter.selected = guilty;
    redraw();
  }

  function remember() {
    const parts = new URLSearchParams();
    if (choice.core) parts.set('core', '1');
    if (choice.key >= 0) parts.set('key', choice.key);
    if (choice.axis === 'time') parts.set('axis', 'time');
    if (choice.query) parts.set('q', choice.query);
    if (painter.selected !== undefined) parts.set('op', painter.selected);
    parts.set('view', `${Number(view.left.toFixed(3))},${Number(view.right.toFixed(3))}`);
    if (document.documentElement.dataset.theme) parts.set('theme', document.documentElement.dataset.theme);
    clearTimeout(remember.timer);
    remember.timer = setTimeout(() => { try { window.history.replaceState(null, '', `#${parts}`); } catch { /* An address is a convenience. */ } }, 300);
  }

  // The address may be wrong in any way; what does not fit is left out.
  function recall() {
    const parts = new URLSearchParams(location.hash.slice(1));
    const number = (name) => (parts.has(name) && /^\d+$/.test(parts.get(name)) ? Number(parts.get(name)) : NaN);
    const theme = parts.get('theme');
    if (theme === 'light' || theme === 'dark') say('theme', theme);
    painter.colours = palette();
    home();
    if (!location.hash) return;
    const change = { query: parts.get('q') ?? '', core: history.role.size > 0 && parts.has('core') };
    if (parts.has('key') || parts.has('all')) change.key = number('key') < history.keys.length ? number('key') : -1;
    if (parts.has('core') || parts.has('key') || parts.has('all') || parts.has('axis') || parts.has('q')) {
      if (!parts.has('core') && !parts.has('key') && !parts.has('all')) delete change.core;
      choose({ ...change, axis: parts.get('axis') === 'time' && history.timed ? 'time' : 'order' });
      byId('search').value = choice.query;
    }
    const ends = (parts.get('view') ?? '').split(',').map(Number);
    if (ends.length === 2 && ends.every(Number.isFinite) && ends[0] < ends[1]) [view.left, view.right] = ends;
    if (parts.get('view') === 'fit') fit();
    if (number('op') < history.count) select(number('op'), !parts.has('view'));
    redraw();
  }

  controls({ history, canvas, overview, painter, view, choice, scene: () => scene, choose, select, step, zoom, pan, fit, home, redraw, search });
  fillPanel(history, select);
  const keys = byId('key');
  if (history.keys.length !== 1) keys.append(new Option(`all ${history.keys.length.toLocaleString('en')} keys`, -1));
  const sizes = new Uint32Array(history.keys.length);
  history.key.forEach((key) => { sizes[key] += 1; });
  history.keys.forEach((name, key) => keys.append(new Option(`${name} (${sizes[key].toLocaleString('en')})`, key)));
  recall();
  window.addEventListener('hashchange', recall);
  // At once, or the old picture would be shown stretched.
  new ResizeObserver(paint).observe(canvas);
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => { painter.colours = palette(); redraw(); });
  paint();
  say('ready', 'yes');
}

function controls(app) {
  const { history, canvas, overview, painter, view, choice } = app;
  byId('core').addEventListener('click', () => app.choose({ core: !choice.core }));
  byId('key').addEventListener('change', (event) => app.choose({ key: Number(event.target.value), core: false }));
  byId('axis').addEventListener('change', (event) => app.choose({ axis: event.target.value }));
  byId('in').addEventListener('click', () => app.zoom(1 / 1.6));
  byId('out').addEventListener('click', () => app.zoom(1.6));
  byId('fit').addEventListener('click', app.fit);
  byId('home').addEventListener('click', app.home);
  const theme = () => {
    const dark = document.documentElement.dataset.theme ?? (matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light');
    say('theme', dark === 'dark' ? 'light' : 'dark');
    painter.colours = palette();
    app.redraw();
  };
  byId('theme').addEventListener('click', theme);
  const field = byId('search');
  field.addEventListener('input', () => { choice.query = field.value; app.search(); app.redraw(); });
  field.addEventListener('keydown', (event) => {
    if (event.key === 'Enter') app.step(event.shiftKey ? -1 : 1);
    if (event.key === 'Escape') canvas.focus();
  });

  const keys = {
    ArrowLeft: () => app.pan(-0.15), ArrowRight: () => app.pan(0.15), PageUp: () => app.pan(-0.9), PageDown: () => app.pan(0.9),
    ArrowUp: () => { view.top -= rowHeight; app.redraw(); }, ArrowDown: () => { view.top += rowHeight; app.redraw(); },
    '+': () => app.zoom(1 / 1.6), '=': () => app.zoom(1 / 1.6), '-': () => app.zoom(1.6), 0: app.fit, h: app.home, t: theme,
    n: () => app.step(1), p: () => app.step(-1), '/': () => field.focus(), Escape: hide,
    c: () => { if (history.role.size) app.choose({ core: !choice.core }); },
  };
  document.addEventListener('keydown', (event) => {
    const typing = event.target instanceof HTMLInputElement || event.target instanceof HTMLSelectElement;
    if (typing || event.ctrlKey || event.metaKey || event.altKey || !Object.hasOwn(keys, event.key)) return;
    event.preventDefault();
    keys[event.key]();
  });

  function hit(event) {
    const { left, top } = canvas.getBoundingClientRect();
    const [x, y] = [event.clientX - left, event.clientY - top];
    const found = painter.hits.filter((area) => x >= area.left && x <= area.right && y >= area.top && y <= area.bottom);
    return x < GUTTER ? undefined : found.at(-1);
  }
  function hide() { byId('tip').hidden = true; }
  function show(event, area) {
    const tip = byId('tip');
    tip.replaceChildren(...(area.note ? describeNote(area.note) : describe(history, area.i)));
    tip.hidden = false;
    const stage = canvas.parentElement.getBoundingClientRect();
    const x = event.clientX - stage.left + 14;
    const y = event.clientY - stage.top + 16;
    tip.style.left = `${Math.max(4, Math.min(x, stage.width - tip.offsetWidth - 8))}px`;
    tip.style.top = `${y + tip.offsetHeight > stage.height - 8 ? Math.max(4, y - tip.offsetHeight - 28) : y}px`;
  }

  let drag = null;
  canvas.addEventListener('pointerdown', (event) => {
    drag = { x: event.clientX, y: event.clientY, left: view.left, right: view.right, top: view.top, moved: false };
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener('pointermove', (event) => {
    if (!drag) {
      const area = hit(event);
      canvas.style.cursor = area ? 'pointer' : '';
      if (area) show(event, area); else hide();
      return;
    }
    const [dx, dy] = [event.clientX - drag.x, event.clientY - drag.y];
    drag.moved ||= Math.abs(dx) + Math.abs(dy) > 4;
    if (!drag.moved) return;
    hide();
    canvas.classList.add('dragging');
    const by = (dx / (canvas.clientWidth - GUTTER)) * (drag.right - drag.left);
    [view.left, view.right, view.top] = [drag.left - by, drag.right - by, drag.top - dy];
    app.redraw();
  });
  const release = (event) => {
    const area = drag && !drag.moved ? hit(event) : undefined;
    if (area && area.i !== undefined) app.select(area.i, false);
    drag = null;
    canvas.classList.remove('dragging');
  };
  canvas.addEventListener('pointerup', release);
  canvas.addEventListener('pointercancel', () => { drag = null; canvas.classList.remove('dragging'); });
  canvas.addEventListener('pointerleave', hide);
  canvas.addEventListener('wheel', (event) => {
    event.preventDefault();
    hide();
    const across = event.shiftKey ? event.deltaY : event.deltaX;
    if (Math.abs(across) > Math.abs(event.shiftKey ? 0 : event.deltaY)) app.pan(across / 1500);
    else app.zoom(Math.exp(Math.max(-200, Math.min(200, event.deltaY)) / 400), view.from(event.clientX - canvas.getBoundingClientRect().left));
  }, { passive: false });

  const jump = (event) => {
    const { left, width } = overview.getBoundingClientRect();
    const scene = app.scene();
    const middle = scene.first + ((event.clientX - left) / width) * (scene.last - scene.first);
    const half = (view.right - view.left) / 2;
    [view.left, view.right] = [middle - half, middle + half];
    app.redraw();
  };
  overview.addEventListener('pointerdown', (event) => { overview.setPointerCapture(event.pointerId); jump(event); });
  overview.addEventListener('pointermove', (event) => { if (event.buttons) jump(event); });
}

start().catch((error) => {
  say('failed', String(error));
  const words = element('p', 'broken', `The picture cannot be drawn: ${error}. It needs a browser with DecompressionStream (2023 or later).`);
  document.querySelector('header').after(words);
});
