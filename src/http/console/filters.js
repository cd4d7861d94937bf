// Filters: values with their counts, ranges, places.

import { h, fresh, labelled } from './dom.js';
import { count, words } from './format.js';
import { range } from './ask.js';
import { indexed } from './schema.js';

/** Groups that are open from the start. */
const OPEN = 4;

/**
 * All filters of a collection. `facets` are the values of each field with their counts, `change` is called with a field and its new values.
 */
export function filterPanel(definition, filters, facets, change) {
  const fields = [...indexed(definition, ['bool', 'keyword']), ...indexed(definition, ['number', 'time', 'geo'])];
  const groups = fields.map(([name, { type }], at) => {
    const values = filters.get(name) ?? [];
    const set = (next) => change(name, next);
    return h('details', { class: 'filter', open: at < OPEN || values.length > 0 },
      h('summary', { id: `filter-${name}` }, words(name), values.length > 0 && h('span', { class: 'badge' }, count(values.length))),
      h('div', { role: 'group', 'aria-labelledby': `filter-${name}` }, control(type, name, values, facets[name] ?? [], set)));
  });
  return fields.length ? groups : h('p', { class: 'hint' }, 'This collection has no indexed fields to filter by.');
}

function control(type, name, values, counted, set) {
  switch (type) {
    case 'number': return between(name, 'number', values, set);
    case 'time': return between(name, 'date', values, set);
    case 'geo': return around(name, values, set);
    default: return choice(type, name, values, counted, set);
  }
}

/** A box for each value: those counted, and those chosen that are not among them. */
function choice(type, name, chosen, counted, set) {
  const known = new Map(counted.map(({ value, count: n }) => [String(value), n]));
  const all = [...known.keys(), ...chosen.filter((value) => !known.has(value))];
  const toggle = (value, on) => set(on ? [...chosen, value] : chosen.filter((other) => other !== value));
  const boxes = all.map((value) => {
    const id = `filter-${name}=${value}`;
    const shown = type === 'bool' ? { true: 'yes', false: 'no' }[value] ?? value : value;
    return h('li', {},
      h('input', { type: 'checkbox', id, checked: chosen.includes(value), onchange: (event) => toggle(value, event.target.checked) }),
      h('label', { for: id }, h('span', { class: 'value' }, shown),
        known.has(value) && h('span', { class: 'count' }, count(known.get(value)), h('span', { class: 'unseen' }, ' documents'))));
  });
  const other = h('input', {
    type: 'text', id: `filter-${name}+`, placeholder: 'Another value', 'aria-label': `Another value of ${words(name)}`, autocomplete: 'off',
    onchange: (event) => event.target.value.trim() && toggle(event.target.value.trim(), true),
  });
  return [
    all.length > 0 && h('ul', { class: 'choice' }, boxes),
    type === 'keyword' && other,
    type === 'bool' && all.length === 0 && h('p', { class: 'hint' }, 'No values'),
  ];
}

function between(name, type, values, set) {
  const [from, to] = range(values[0]);
  const input = (which, value) => h('input', { type, id: `filter-${name}-${which}`, value, step: type === 'number' && 'any' });
  const [low, high] = [input('from', from), input('to', to)];
  const changed = () => set(low.value || high.value ? [`${low.value}..${high.value}`] : []);
  return h('div', { class: 'pair', onchange: changed }, labelled('from', low), labelled('to', high));
}

function around(name, values, set) {
  const [lat = '', lon = '', km = '50'] = (values[0] ?? '').split(',').filter(Boolean);
  const input = (which, value, limits) => h('input', { type: 'number', id: `filter-${name}-${which}`, value, step: 'any', ...limits });
  const parts = [
    input('latitude', lat, { min: -90, max: 90 }),
    input('longitude', lon, { min: -180, max: 180 }),
    input('km', km, { min: 0 }),
  ];
  const changed = () => {
    const all = parts.every((part) => part.value !== '' && part.validity.valid);
    if (all || values.length) set(all ? [parts.map((part) => part.value).join(',')] : []);
  };
  const [latitude, longitude, radius] = parts;
  return h('div', { class: 'pair', onchange: changed },
    labelled('latitude', latitude), labelled('longitude', longitude), labelled('within km', radius));
}

/** What is filtered by now, each with a button that takes it away. */
export function chosenFilters(definition, filters, change) {
  const chips = [...filters].flatMap(([name, values]) => values.map((value) => {
    const shown = `${words(name)}: ${spoken(definition.fields[name]?.type, value)}`;
    const remove = () => change(name, values.filter((other) => other !== value));
    return h('li', {}, h('button', { type: 'button', class: 'chip', id: fresh('chip'), onclick: remove, 'aria-label': `Remove the filter ${shown}` }, shown, h('span', { 'aria-hidden': 'true' }, ' ×')));
  }));
  return chips.length > 0 && h('ul', { class: 'chips', 'aria-label': 'Filters' }, chips);
}

function spoken(type, value) {
  const [from, to] = range(value);
  if (type === 'bool') return value === 'true' ? 'yes' : 'no';
  if (type === 'geo') return value.replace(/^(.*),(.*),(.*)$/, 'within $3 km of $1, $2');
  if (type !== 'number' && type !== 'time') return value;
  if (from && to) return `${from} to ${to}`;
  return from ? `from ${from}` : `to ${to}`;
}
