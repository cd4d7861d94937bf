// The page of collections, and the page of one.

import { h, facts, replace, table } from './dom.js';
import { collectionPath, get } from './api.js';
import { attempt } from './errors.js';
import { feed } from './feed.js';
import { bytes, count, plural, time } from './format.js';
import { generations } from './generations.js';
import { recall } from './recall.js';
import { taskList } from './tasks.js';

export function collections(main, { parts: [name] }, signal) {
  document.title = `${name || 'Collections'} · Kindred`;
  if (name) one(main, name, signal);
  else all(main, signal);
  return {};
}

const size = ({ files }) => files.reduce((sum, { size_bytes }) => sum + size_bytes, 0);
const page = (name) => `#/collections/${encodeURIComponent(name)}`;

function all(main, signal) {
  const cards = h('div', {});
  const load = () => attempt(cards, async () => {
    const { collections: list } = await get('/v1/collections', signal);
    replace(cards, list.length ? h('ul', { class: 'cards' }, list.map(card)) : h('p', { class: 'lead' }, 'There are none yet: PUT /v1/collections/{name} makes one.'));
  });
  const tasks = taskList(() => true, load, signal);
  main.append(
    h('h1', {}, 'Collections'), cards,
    h('section', { 'aria-labelledby': 'tasks' }, h('h2', { id: 'tasks' }, 'Tasks'), tasks.element));
  load();
}

const card = (collection) => h('li', { class: 'card' },
  h('h2', {}, h('a', { href: page(collection.name) }, collection.name)),
  h('p', { class: 'big' }, count(collection.n_documents), h('small', {}, collection.n_documents === 1 ? ' document' : ' documents')),
  h('p', { class: 'fine' }, [
    collection.model, `generation ${collection.generation}`,
    collection.n_changes > 0 && plural(collection.n_changes, 'newer change'), bytes(size(collection)),
  ].filter(Boolean).join(' · ')));

function one(main, name, signal) {
  const about = h('div', {});
  const definition = h('div', {});
  const load = () => attempt(about, async () => {
    const collection = await get(collectionPath(name), signal);
    replace(about, overview(collection));
    replace(definition, defined(collection.definition));
  });
  const built = generations(name, (started) => (started ? tasks.look() : load()), signal);
  const ended = () => {
    load();
    built.load();
  };
  const tasks = taskList((task) => task.collection === name, ended, signal);
  const section = (id, title, ...content) => h('section', { 'aria-labelledby': id }, h('h2', { id }, title), ...content);
  main.append(
    h('p', { class: 'back' }, h('a', { href: '#/collections' }, 'Collections')),
    h('h1', {}, name), about, feed(name, signal),
    section('generations', 'Generations', built.element),
    section('tasks', 'Tasks', tasks.element),
    section('recall', 'Recall', recall(name, signal)),
    section('definition', 'Definition', definition));
  load();
}

const overview = (collection) => facts([
  ['documents', count(collection.n_documents)],
  ['vectors', count(collection.n_vectors)],
  ['changes not built in', count(collection.n_changes)],
  ['generation', collection.generation],
  ['built', collection.generation_created_at && time(collection.generation_created_at)],
  ['last change (seqno)', count(collection.seqno)],
  ['model', collection.model],
  ['fingerprint', h('code', { title: collection.fingerprint }, collection.fingerprint.slice(0, 12))],
  ['dimensions', count(collection.dims)],
  ['vectors kept as', collection.quantization],
  ['on disk', bytes(size(collection))],
]);

function defined({ template, fields, ...rest }) {
  const others = Object.entries(rest).filter(([, value]) => value !== '').map(([key, value]) => [key.replaceAll('_', ' '), typeof value === 'object' ? h('code', {}, JSON.stringify(value)) : value]);
  return [
    h('h3', { class: 'plain' }, 'Template'),
    h('pre', { tabindex: 0, 'aria-label': 'Template' }, template),
    facts(others),
    table('Fields', ['field', 'type', 'filters', 'role'], Object.entries(fields).map(([field, { type, index, role }]) => [h('code', {}, field), type, index ? 'indexed' : '–', role ?? '–'])),
  ];
}
