// What a document's indexed fields say, in one line and some chips.

import { h } from './dom.js';
import { number, time, words } from './format.js';
import { valuesAt, withRole } from './schema.js';

const MAX_CHIPS = 12;

/** Keywords, numbers, times and truths of a document; parts of one object (`location.city`, `salary.min`) stand together. */
export function details(definition, fields) {
  const ends = withRole(definition, 'expires_at');
  const groups = new Map();
  const lists = [];
  for (const name of inOrder(Object.keys(definition.fields), fields)) {
    const { type } = definition.fields[name];
    const values = valuesAt(fields, name).filter((value) => typeof value !== 'object');
    if (values.length === 0 || type === 'text' || type === 'geo' || name === ends) continue;
    if (type === 'keyword' && values.length > 1) lists.push(...values);
    else if (type !== 'bool' || values.includes(true)) {
      const group = name.split('.')[0];
      groups.set(group, [...(groups.get(group) ?? []), { name, type, values }]);
    }
  }
  const line = [...groups.values()].map(spoken);
  return [
    line.length > 0 && h('p', { class: 'details' }, line.map((text) => h('span', {}, text))),
    lists.length > 0 && h('ul', { class: 'tags' }, lists.slice(0, MAX_CHIPS).map((value) => h('li', {}, String(value)))),
  ];
}

/** Names of fields in the order in which the document has them. */
function inOrder(names, document) {
  const at = (name) => {
    const [first, second] = name.split('.');
    const below = document[first];
    return [Object.keys(document).indexOf(first), second && below && typeof below === 'object' ? Object.keys([below].flat()[0] ?? {}).indexOf(second) : 0];
  };
  return names.map((name) => ({ name, at: at(name) })).sort((a, b) => a.at[0] - b.at[0] || a.at[1] - b.at[1]).map(({ name }) => name);
}

function spoken(group) {
  const numbers = group.filter(({ type }) => type === 'number').flatMap(({ values }) => values).filter(Number.isFinite).sort((a, b) => a - b);
  const others = group.filter(({ type }) => type !== 'number').map(({ name, type, values }) => {
    if (type === 'bool') return words(name);
    return type === 'time' ? `${words(name).replace(/ at$/, '')} ${time(values[0])}` : String(values[0]);
  });
  if (numbers.length === 0) return others.join(', ');
  const alone = group.length === 1 ? `${words(group[0].name)} ` : '';
  const amount = numbers.length > 1 && numbers[0] !== numbers.at(-1) ? `${number(numbers[0])}–${number(numbers.at(-1))}` : number(numbers[0]);
  return [alone + amount, ...others].join(' ');
}
