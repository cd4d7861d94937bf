// What is asked: as it stands in the address, and as it is sent.

import { collectionPath } from './api.js';
import { indexed } from './schema.js';

const FILTER = 'f.';
export const DEFAULT_LIMIT = 10;

/** Reads a question from the address. `for` is the asking document's collection; empty for a text. */
export function read(params, collections) {
  const known = (name) => collections.some((collection) => collection.name === name);
  const filters = new Map();
  for (const name of new Set(params.keys())) {
    const values = params.getAll(name).filter(Boolean);
    if (name.startsWith(FILTER) && values.length) filters.set(name.slice(FILTER.length), values);
  }
  return {
    to: known(params.get('in')) ? params.get('in') : (collections.find(({ name }) => name === 'jobs') ?? collections[0]).name,
    from: known(params.get('for')) ? params.get('for') : '',
    text: params.get('q') ?? '',
    id: params.get('id') ?? '',
    limit: Number(params.get('limit')) || DEFAULT_LIMIT,
    retrieval: params.get('retrieval') ?? '',
    profile: params.get('profile') ?? '',
    group: params.get('group') ?? '',
    diversity: Number(params.get('diversity')) || 0,
    crossEncode: params.get('cross_encode') === '1',
    phrases: params.get('phrases') !== '0',
    filters,
  };
}

/** The address of a question. */
export function href(ask) {
  const params = new URLSearchParams();
  const put = (name, value, unless = '') => String(value) !== String(unless) && params.append(name, value);
  put('in', ask.to);
  put('for', ask.from ?? '');
  if (ask.from) put('id', ask.id ?? '');
  else put('q', ask.text ?? '');
  put('limit', ask.limit ?? DEFAULT_LIMIT, DEFAULT_LIMIT);
  put('retrieval', ask.retrieval ?? '');
  put('profile', ask.profile ?? '');
  put('group', ask.group ?? '');
  put('diversity', ask.diversity ?? 0, 0);
  if (ask.crossEncode) put('cross_encode', 1);
  if (ask.phrases === false) put('phrases', 0);
  for (const [name, values] of ask.filters ?? []) values.forEach((value) => put(FILTER + name, value));
  return `#/search?${params}`;
}

/** Whether there is something to search with. */
export const isComplete = (ask) => (ask.from ? ask.id : ask.text).trim() !== '';

/** The server counts the values of so many fields. */
const MAX_FACETS = 32;

/** Fields whose values are counted. */
export const facetFields = (definition) => indexed(definition, ['bool', 'keyword']).map(([name]) => name).slice(0, MAX_FACETS);

/** The request of a question: its path and its body. */
export function request(ask, definition) {
  const body = {
    filter: filter(ask.filters, definition),
    limit: ask.limit,
    retrieval: ask.retrieval || undefined,
    profile: ask.profile || undefined,
    group_by: ask.group || undefined,
    diversity: ask.diversity || undefined,
    cross_encode: ask.crossEncode || undefined,
  };
  const query = ask.from ? { id: ask.id.trim(), collection: ask.from } : { text: ask.text };
  return { path: collectionPath(ask.to, 'search'), body: { query, ...body } };
}

/** The server's filter, without the condition on the field `except`; undefined where there is none. */
export function filter(filters, definition, except) {
  const must = [...filters].filter(([name]) => name !== except).map(([name, values]) => condition(name, values, definition.fields[name]?.type));
  return must.length ? { must } : undefined;
}

function condition(key, values, type) {
  const [from, to] = range(values[0]);
  switch (type) {
    case 'bool': {
      const either = values.map((value) => ({ key, match: { value: value === 'true' } }));
      return either.length === 1 ? either[0] : { should: either };
    }
    case 'number':
      return { key, range: { gte: from ? Number(from) : undefined, lte: to ? Number(to) : undefined } };
    case 'time':
      // A day ends with its last microsecond.
      return { key, range: { gte: from || undefined, lte: to ? `${to}T23:59:59.999999Z` : undefined } };
    case 'geo': {
      const [lat, lon, km] = values[0].split(',').map(Number);
      return { key, geo_radius: { center: { lat, lon }, radius: km * 1000 } };
    }
    default:
      return { key, match: { any: values } };
  }
}

/** `from..to`, each of which may be empty. */
export function range(text = '') {
  const [from = '', to = ''] = text.split('..');
  return [from, to];
}
