// The search form: what is looked for, by what, and how.

import { h, labelled, select } from './dom.js';
import { get, collectionPath } from './api.js';
import { DEFAULT_LIMIT } from './ask.js';
import { words } from './format.js';
import { picker } from './picker.js';
import { indexed } from './schema.js';

/**
 * The form of a question. `go` is called with the question as it then stands: when it is asked, and when its direction changes.
 */
export function searchForm(ask, collections, hasCrossEncoder, go, signal) {
  const { definition } = collections.find(({ name }) => name === ask.to);
  const to = select(collections.map(({ name }) => [name, name]), ask.to, { id: 'to', 'aria-label': 'Find' });
  const directions = [['', 'by text'], ...collections.map(({ name }) => [name, name === ask.to ? `like one of the ${name}` : `for one of the ${name}`])];
  const from = select(directions, ask.from, { id: 'from', 'aria-label': 'By' });
  const text = h('input', {
    type: 'search', id: 'query', value: ask.from ? ask.id : ask.text, autocomplete: 'off', spellcheck: 'false', enterkeyhint: 'search',
    'aria-label': ask.from ? `Id of one of the ${ask.from}` : 'What to look for',
    placeholder: ask.from ? `The id of one of the ${ask.from}` : 'In your own words',
    'aria-keyshortcuts': '/',
  });
  text.addEventListener('keydown', (event) => {
    const first = event.key === 'ArrowDown' && document.querySelector('.hits > li');
    if (!first) return;
    event.preventDefault();
    first.focus();
  });
  const how = options(ask, definition, hasCrossEncoder);
  const now = () => ({ ...ask, ...how.read(), [ask.from ? 'id' : 'text']: text.value });
  const turn = (change) => go({ ...now(), text: ask.from ? '' : text.value, id: '', ...change });
  to.addEventListener('change', () => turn({ to: to.value, from: ask.from && to.value !== ask.to ? '' : ask.from, filters: new Map(), group: '', profile: '' }));
  from.addEventListener('change', () => turn({ from: from.value, profile: '' }));
  const submit = (event) => {
    event.preventDefault();
    go(now());
  };
  how.element.addEventListener('change', () => go(now()));
  fillProfiles(how.profile, ask, signal);
  const pick = ask.from && picker(collections.find(({ name }) => name === ask.from), (id) => go({ ...now(), id }), signal);
  return h('form', { class: 'ask', role: 'search', onsubmit: submit },
    h('div', { class: 'direction' }, h('span', {}, 'Find'), to, from),
    h('div', { class: 'box' }, text, h('button', { type: 'submit', class: 'primary', id: 'search' }, 'Search')),
    pick,
    h('details', { class: 'options' }, h('summary', {}, 'Options'), how.element));
}

function options(ask, definition, hasCrossEncoder) {
  const limit = select([10, 20, 50, 100].includes(ask.limit) ? [10, 20, 50, 100].map(own) : [ask.limit, 10, 20, 50, 100].map(own), ask.limit, { id: 'limit' });
  const retrieval = select([['', 'as the server does'], ['hybrid', 'meaning and words'], ['dense', 'meaning'], ['lexical', 'words']], ask.retrieval, { id: 'retrieval' });
  const profile = select([['', 'default'], ask.profile && [ask.profile, ask.profile]].filter(Boolean), ask.profile, { id: 'profile' });
  const keywords = indexed(definition, ['keyword']).map(([name]) => [name, words(name)]);
  const group = select([['', 'all hits'], ...keywords], ask.group, { id: 'group' });
  const diversity = select([...new Set([0, 0.2, 0.5, 0.8, ask.diversity])].map((x) => [x, x === 0 ? 'none' : x]), ask.diversity, { id: 'diversity' });
  const phrases = h('input', { type: 'checkbox', id: 'phrases', checked: ask.phrases });
  const crossEncode = h('input', { type: 'checkbox', id: 'cross-encode', checked: ask.crossEncode });
  const element = h('div', { class: 'option-grid' },
    labelled('Hits', limit), labelled('Found by', retrieval), labelled('Scored by', profile),
    labelled('One hit of each', group), labelled('Diversity', diversity),
    h('div', { class: 'checks' },
      h('p', {}, phrases, h('label', { for: phrases.id }, 'Mark the phrases that answer')),
      hasCrossEncoder && h('p', {}, crossEncode, h('label', { for: crossEncode.id }, 'Cross-encode the best hits'))));
  const read = () => ({
    limit: Number(limit.value) || DEFAULT_LIMIT,
    retrieval: retrieval.value,
    profile: profile.value,
    group: group.value,
    diversity: Number(diversity.value),
    phrases: phrases.checked,
    crossEncode: crossEncode.checked,
  });
  return { element, read, profile };
}

const own = (n) => [n, n];

/** Profiles by name; without them, the default one is there to choose. */
async function fillProfiles(control, ask, signal) {
  const { profiles } = await get(collectionPath(ask.to, 'profiles'), signal).catch(() => ({ profiles: [] }));
  const names = profiles.map(({ name }) => name).filter((name) => name !== 'default' && name !== ask.profile);
  control.append(...names.map((name) => h('option', { value: name }, name)));
}
