// The page that tells what can be asked over HTTP: /openapi.json, to be read.

import { get } from './api.js';
import { h, replace, table } from './dom.js';
import { attempt } from './errors.js';

const METHODS = ['get', 'put', 'post', 'patch', 'delete'];
const MAX_DEPTH = 4;

export function reference(main, _, signal) {
  document.title = 'API · Kindred';
  const found = h('div', {});
  const filter = h('input', { id: 'operations', type: 'search', placeholder: 'search, documents, tasks …', autocomplete: 'off' });
  main.append(
    h('h1', {}, 'API'),
    h('p', { class: 'field' }, h('label', { for: 'operations' }, 'Show what has'), filter),
    found);
  attempt(found, async () => {
    const api = await get('/openapi.json', signal);
    const all = operations(api);
    const show = () => {
      const wanted = filter.value.trim().toLowerCase();
      const kept = all.filter(({ text }) => text.includes(wanted));
      replace(found, kept.length ? kept.map(({ element }) => element) : h('p', { class: 'lead' }, 'Nothing has that.'));
    };
    filter.addEventListener('input', show);
    show();
  });
  return {};
}

/** Each operation, and the text that it is found by. */
function operations(api) {
  const resolve = (schema) => {
    const name = schema?.$ref?.split('/').at(-1);
    return name ? { name, ...api.components.schemas[name] } : schema ?? {};
  };
  return Object.entries(api.paths).flatMap(([path, item]) => METHODS.filter((method) => item[method]).map((method) => {
    const operation = item[method];
    const summary = [operation.summary, operation.description].filter(Boolean).join(' ');
    return { text: `${method} ${path} ${summary}`.toLowerCase(), element: told(method, path, summary, operation, resolve) };
  }));
}

function told(method, path, summary, operation, resolve) {
  const body = Object.values(operation.requestBody?.content ?? {})[0];
  const schema = body && resolve(body.schema);
  const answer = resolve(Object.values(operation.responses['200']?.content ?? operation.responses['202']?.content ?? {})[0]?.schema);
  const example = body?.example ?? schema?.example;
  const parameters = (operation.parameters ?? []).map(({ name, in: where, required, description, schema: type }) => [h('code', {}, name), where, kind(type, resolve), [required && 'needed. ', description]]);
  return h('details', { class: 'operation' },
    h('summary', {}, h('code', { class: `method ${method}` }, method.toUpperCase()), ' ', h('code', {}, path), h('span', { class: 'fine' }, summary)),
    parameters.length > 0 && table(`Parameters of ${method} ${path}`, ['parameter', 'in', 'type', ''], parameters),
    schema && [h('h3', { class: 'plain' }, 'Body'), described(schema, resolve)],
    example && h('pre', { tabindex: 0, 'aria-label': 'Example' }, `curl -X ${method.toUpperCase()} ${location.origin}${path} -d '${JSON.stringify(example)}'`),
    answer?.properties && [h('h3', { class: 'plain' }, 'Answer'), described(answer, resolve)],
    h('p', { class: 'fine' }, `Statuses: ${Object.keys(operation.responses).join(', ')}`));
}

/** The keys of an object, and of those in it. */
function described(schema, resolve, depth = 0) {
  const needed = new Set(schema.required ?? []);
  const keys = Object.entries(schema.properties ?? {});
  if (keys.length === 0) return h('p', { class: 'fine' }, schema.description ?? kind(schema, resolve));
  return h('dl', { class: 'keys' }, keys.map(([key, value]) => {
    const inner = within(value, resolve);
    return h('div', {},
      h('dt', {}, h('code', {}, key), ' ', h('span', { class: 'fine' }, kind(value, resolve) + (needed.has(key) ? ', needed' : ''))),
      h('dd', {}, value.description ?? inner?.description, depth < MAX_DEPTH && inner?.properties && described(inner, resolve, depth + 1)));
  }));
}

/** The schema of what a value, or each of its items, is made of. */
function within(value, resolve) {
  const choices = value.oneOf ?? value.anyOf ?? [];
  const one = choices.find((choice) => choice.type !== 'null') ?? value;
  return resolve(one.type === 'array' || one.items ? one.items : one);
}

/** What a value is, in a word. */
function kind(value, resolve) {
  if (!value) return 'any';
  const choices = value.oneOf ?? value.anyOf;
  if (choices) return choices.filter((choice) => choice.type !== 'null').map((choice) => kind(choice, resolve)).join(' or ');
  if (value.$ref) {
    const named = resolve(value);
    return named.enum ? named.enum.map((one) => JSON.stringify(one)).join(' or ') : named.oneOf ? kind({ oneOf: named.oneOf }, resolve) : named.type ? kind({ type: named.type, items: named.items }, resolve) : 'any';
  }
  if (value.enum) return value.enum.map((one) => JSON.stringify(one)).join(' or ');
  const types = [value.type ?? 'any'].flat().filter((type) => type !== 'null');
  return types.map((type) => (type === 'array' && value.items ? `list of ${kind(value.items, resolve)}` : type)).join(' or ');
}
