// Puts it together: the view, the mouse, the keyboard, and the address, which may say what is shown.

const SPAN_MIN = 200;
const FIRST_SPAN = 2.5e6;

async function start() {
  const data = await unpack();
  const { scene } = data;
  scene.end = Math.max(scene.end, 1);
  const things = makeThings(data);
  const canvas = byId('canvas');
  const painter = makePainter(data, canvas);
  const view = { left: 0, right: scene.end, top: 0 };
  let waiting = false;
  let piece = -1;
  const filter = makeFilter(data, () => { painter.layout(filter, things); redraw(); });
  painter.layout(filter, things);

  function redraw() {
    if (waiting) return;
    waiting = true;
    const now = () => { if (waiting) paint(); };
    requestAnimationFrame(now);
    // A window that nobody sees has no frames.
    setTimeout(now, 100);
  }

  function paint() {
    waiting = false;
    view.top = Math.min(Math.max(view.top, 0), Math.max(0, painter.height + 10 - canvas.clientHeight));
    painter.draw(things, filter, view, data.evidence);
    const found = filter.words.length ? things.filter(filter.shows).length : null;
    byId('matches').textContent = found === null ? '' : `${found.toLocaleString('en')} found`;
    say('visible', painter.visible);
    say('view', `${Math.round(view.left)} ${Math.round(view.right)}`);
    say('lanes', painter.lanes.length);
    say('bands', painter.bands);
    say('ink', painter.colour('ink'));
    say('proofs', byId('evidence').children.length);
    say('conflicts', byId('conflict').children.length);
    say('ready', 'yes');
  }

  // Never more than everything with a margin, never less than can be told apart.
  function show(left, right) {
    const margin = scene.end * 0.02;
    const whole = scene.end + 2 * margin;
    const span = Math.min(Math.max(right - left, Math.min(SPAN_MIN, whole)), whole);
    view.left = Math.min(Math.max((left + right) / 2 - span / 2, -margin), scene.end + margin - span);
    view.right = view.left + span;
    redraw();
  }

  function zoom(factor, around = (view.left + view.right) / 2) {
    show(around - (around - view.left) * factor, around + (view.right - around) * factor);
  }

  function move(by) {
    const span = view.right - view.left;
    show(view.left + by * span, view.right + by * span);
  }

  function select(thing, isMoved) {
    painter.selected = thing;
    byId('selected').replaceChildren(...describe(data, thing));
    if (isMoved && (thing.begin < view.left || thing.begin > view.right)) {
      const half = (view.right - view.left) / 2;
      show(thing.begin - half, thing.begin + half);
    }
    say('selected', thing.form);
    redraw();
  }

  function step(by) {
    const list = things.filter((thing) => filter.shows(thing) && thing.form !== 'fault' && thing.form !== 'down');
    if (!list.length) return;
    const at = list.indexOf(painter.selected);
    const first = list.findIndex((thing) => thing.begin >= view.left);
    const next = at < 0 ? Math.max(0, first) : Math.min(Math.max(at + by, 0), list.length - 1);
    select(list[next], true);
  }

  function nextPiece() {
    const buttons = [...byId('evidence').querySelectorAll('button'), ...byId('conflict').querySelectorAll('button')];
    if (!buttons.length) return;
    piece = (piece + 1) % buttons.length;
    buttons[piece].click();
  }

  function violation() {
    const end = things.find((thing) => thing.kind === 'violation')?.begin ?? scene.end;
    const span = Math.min(FIRST_SPAN, scene.end);
    show(end - span * 0.9, end + span * 0.1);
  }

  function theme() {
    const root = document.documentElement;
    const isDark = root.dataset.theme ? root.dataset.theme === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;
    root.dataset.theme = isDark ? 'light' : 'dark';
    painter.readColours();
    redraw();
  }

  // The middle of what is drawn, where nothing lighter lies over it.
  function clickOn(form) {
    const middle = ({ line, point, area }) => point ?? (line ? [(line[0] + line[2]) / 2, (line[1] + line[3]) / 2] : [area[0] + area[2] / 2, area[1] + area[3] / 2]);
    const isBetweenNodes = ({ thing }) => thing.lanes.every((lane) => data.isNode[lane]);
    const hits = painter.hits.filter((hit) => hit.thing.form === form && isBetweenNodes(hit) && painter.at(...middle(hit)) === hit.thing);
    if (!hits.length) return;
    const [left, top] = middle(hits[0]);
    const corner = canvas.getBoundingClientRect();
    for (const kind of ['pointerdown', 'pointerup']) canvas.dispatchEvent(new PointerEvent(kind, { clientX: corner.left + left, clientY: corner.top + top, bubbles: true }));
  }

  fillPanels(data, things, select);
  byId('in').addEventListener('click', () => zoom(0.5));
  byId('out').addEventListener('click', () => zoom(2));
  byId('fit').addEventListener('click', () => show(0, scene.end));
  byId('end').addEventListener('click', violation);
  byId('theme').addEventListener('click', theme);
  new ResizeObserver(redraw).observe(canvas);
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => { painter.readColours(); redraw(); });

  const timeAt = (left) => view.left + ((left - GUTTER) / Math.max(1, canvas.clientWidth - GUTTER - 10)) * (view.right - view.left);
  canvas.addEventListener('wheel', (event) => {
    event.preventDefault();
    if (event.shiftKey) { view.top += event.deltaY; redraw(); return; }
    if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) { move(event.deltaX / canvas.clientWidth); return; }
    zoom(Math.exp(event.deltaY * 0.002), timeAt(event.offsetX));
  }, { passive: false });
  let drag = null;
  canvas.addEventListener('pointerdown', (event) => {
    drag = { x: event.offsetX, y: event.offsetY, left: view.left, right: view.right, top: view.top, isMoved: false };
    if (event.isTrusted) canvas.setPointerCapture(event.pointerId);
    canvas.classList.add('dragging');
  });
  canvas.addEventListener('pointermove', (event) => {
    if (drag) {
      const by = ((event.offsetX - drag.x) / Math.max(1, canvas.clientWidth - GUTTER)) * (drag.right - drag.left);
      drag.isMoved ||= Math.abs(event.offsetX - drag.x) + Math.abs(event.offsetY - drag.y) > 4;
      view.top = drag.top - (event.offsetY - drag.y);
      show(drag.left - by, drag.right - by);
      return;
    }
    const thing = painter.at(event.offsetX, event.offsetY);
    const tip = byId('tip');
    tip.hidden = !thing;
    if (thing) {
      tip.textContent = thing.text;
      tip.style.left = `${Math.min(event.offsetX + 14, Math.max(0, canvas.clientWidth - 300))}px`;
      tip.style.top = `${event.offsetY + 16}px`;
    }
    if (thing !== painter.hover) { painter.hover = thing; redraw(); }
  });
  canvas.addEventListener('pointerup', (event) => {
    canvas.classList.remove('dragging');
    const isClick = drag && !drag.isMoved;
    drag = null;
    const thing = isClick && painter.at(event.offsetX, event.offsetY);
    if (thing) select(thing, false);
  });
  canvas.addEventListener('pointerleave', () => { byId('tip').hidden = true; painter.hover = null; redraw(); });

  const keys = {
    '+': () => zoom(0.6), '=': () => zoom(0.6), '-': () => zoom(1.6), 0: () => show(0, scene.end), v: violation, t: theme, e: nextPiece,
    n: () => step(1), p: () => step(-1), ArrowLeft: () => move(-0.15), ArrowRight: () => move(0.15),
    ArrowUp: () => { view.top -= 40; redraw(); }, ArrowDown: () => { view.top += 40; redraw(); },
    '/': () => byId('search').focus(), Escape: () => canvas.focus(),
  };
  document.addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const isTyping = event.target instanceof HTMLInputElement && event.key !== 'Escape';
    const act = isTyping ? null : keys[event.key];
    if (act) { event.preventDefault(); act(); }
  });

  const address = new URLSearchParams(location.hash.slice(1));
  if (address.has('kinds')) filter.setFamilies(address.get('kinds').split(','));
  if (address.has('search')) filter.setWords(address.get('search'));
  painter.layout(filter, things);
  if (address.has('left')) show(Number(address.get('left')), Number(address.get('right')));
  else if (scene.end > 2 * FIRST_SPAN) violation();
  else show(0, scene.end);
  // Presses the mouse where the first thing of this form is drawn, so that a test clicks as people do.
  const clicked = address.get('click');
  if (clicked) setTimeout(() => clickOn(clicked), 300);
  if (address.has('press')) setTimeout(() => [...address.get('press')].forEach((key) => keys[key]?.()), 50);
}

start().catch((error) => {
  console.error(error);
  byId('canvas').replaceWith(element('p', `The picture cannot be drawn: ${error}`, 'broken'));
});
