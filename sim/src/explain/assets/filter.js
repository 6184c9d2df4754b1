// What is shown: lanes, kinds, words, time.

const FAMILIES = ['operations', 'requests', 'votes', 'appends', 'heartbeats', 'snapshots', 'log', 'nodes', 'disk', 'faults'];
const HIDDEN_AT_FIRST = new Set(['heartbeats']);

function makeFilter(data, changed) {
  const filter = { lanes: new Set(data.scene.lanes.keys()), families: new Set(FAMILIES.filter((family) => !HIDDEN_AT_FIRST.has(family))), words: [], from: 0, to: data.scene.end };
  const boxes = (id, names, has, set) => {
    const list = byId(id).querySelector('fieldset');
    return names.map((name, place) => {
      const label = document.createElement('label');
      const box = document.createElement('input');
      box.type = 'checkbox';
      box.checked = has(place, name);
      box.value = name;
      box.addEventListener('change', () => { set(place, name, box.checked); changed(); });
      label.append(box, ` ${name}`);
      list.append(label);
      return box;
    });
  };
  const put = (group, value, isIn) => (isIn ? group.add(value) : group.delete(value));
  boxes('lanes', data.scene.lanes, () => true, (place, name, isIn) => put(filter.lanes, place, isIn));
  const kinds = boxes('kinds', FAMILIES, (place, name) => filter.families.has(name), (place, name, isIn) => put(filter.families, name, isIn));
  filter.setFamilies = (names) => {
    filter.families = new Set(names);
    kinds.forEach((box) => { box.checked = filter.families.has(box.value); });
  };
  filter.setWords = (text) => {
    filter.words = text.toLowerCase().split(/\s+/).filter(Boolean);
    byId('search').value = text;
  };
  const time = (id, set, otherwise) => byId(id).addEventListener('change', () => {
    const value = parseFloat(byId(id).value);
    set(Number.isFinite(value) ? Math.round(value * 1e6) : otherwise);
    changed();
  });
  time('from', (value) => { filter.from = value; }, 0);
  time('to', (value) => { filter.to = value; }, data.scene.end);
  byId('search').addEventListener('input', () => { filter.setWords(byId('search').value); changed(); });

  const saysWords = (thing) => filter.words.every((word) => {
    // A word that ends in a digit is a whole name: k3 is not k30.
    const at = thing.words.indexOf(word);
    if (at < 0) return false;
    return !/\d$/.test(word) || new RegExp(`${word.replace(/[^\w]/g, '\\$&')}(?!\\d)`).test(thing.words);
  });
  filter.shows = (thing) => {
    if (thing.form === 'phase') return false;
    if (thing.end < filter.from || thing.begin > filter.to) return false;
    const isHere = thing.form === 'message' ? thing.lanes.every((lane) => filter.lanes.has(lane)) : thing.lanes.some((lane) => filter.lanes.has(lane));
    if (!isHere && thing.lanes.length) return false;
    if (thing.form === 'fault' || thing.form === 'down') return filter.families.has('faults');
    return filter.families.has(thing.family) && saysWords(thing);
  };
  return filter;
}
