// The Kafka feed of a collection, for those whose key may see it.

import { h, facts, replace } from './dom.js';
import { get } from './api.js';
import { attempt } from './errors.js';
import { count, sentence, time } from './format.js';

/** A section about the feed; empty where the collection has none. */
export function feed(name, signal) {
  const section = h('section', {});
  load(section, name, signal);
  return section;
}

async function load(section, name, signal) {
  try {
    const { feeds } = await get('/v1/feeds', signal);
    const state = feeds.find(({ collection }) => collection === name);
    if (state) replace(section, shown(state));
  } catch (error) {
    // Feeds are for administrators only.
    if (![401, 403].includes(error.status) && error.name !== 'AbortError') await attempt(section, () => Promise.reject(error));
  }
}

const shown = ({ topic, connected, caught_up: caughtUp, lag_records: lag, waiting_for: waitingFor, broker_error: brokerError, warnings = [] }) => [
  h('h2', {}, 'Feed'),
  warnings.map(({ at, message }) => h('div', { class: 'notice' }, h('p', {}, sentence(message)), h('p', { class: 'fine' }, `noticed ${time(at)}`))),
  facts([
    ['topic', h('code', {}, topic)],
    ['state', caughtUp ? 'caught up' : connected ? 'reading' : 'no broker answers'],
    ['records to read', lag === undefined ? 'unknown' : count(lag)],
    ['waits for', waitingFor],
    ['latest connection error', waitingFor ? undefined : brokerError],
  ]),
];
