// Recall of a collection: now, and over time.

import { h, announce, facts, replace, table } from './dom.js';
import { collectionPath, get, post } from './api.js';
import { attempt } from './errors.js';
import { historyChart, shareBar } from './charts.js';
import { count, duration, percent, time } from './format.js';

/** Measures on demand, and shows what was measured before. */
export function recall(name, signal) {
  const measured = h('div', {});
  const history = h('div', {});
  const button = h('button', { type: 'button', id: 'measure' }, 'Measure now');

  button.addEventListener('click', async () => {
    button.disabled = true;
    button.textContent = 'Measuring …';
    await attempt(measured, async () => {
      const report = await post(collectionPath(name, 'recall'), {}, signal);
      replace(measured, shown(report));
      announce(report.recall === null ? 'Nothing was measured' : `Recall ${percent(report.recall)}`);
      await load();
    });
    button.disabled = false;
    button.textContent = 'Measure now';
  });

  /** What live searches found; a server that does not watch them shows none. */
  async function load() {
    try {
      const { history: points, alarm } = await get(collectionPath(name, 'recall'), signal);
      replace(history, alarm && h('p', { class: 'notice' }, 'Live searches find less than they should: the alarm’s bound is search.recall_alarm_below.'), points.length > 0 && over(points));
    } catch (error) {
      if (error.status !== 404 && error.name !== 'AbortError') await attempt(history, () => Promise.reject(error));
    }
  }

  load();
  return h('div', {},
    h('p', { class: 'hint' }, 'The share of the nearest documents that searches find, compared with looking at all of them.'),
    history, button, measured);
}

const over = (points) => [
  h('h3', { class: 'plain' }, 'Live searches, over time'),
  historyChart(points),
  h('details', { class: 'as-table' }, h('summary', {}, 'As a table'), table('Recall over time', ['measured', { text: 'recall', number: true }, { text: '95 % interval', number: true }, { text: 'queries', number: true }],
    [...points].reverse().map(({ at, recall: share, ci95, n_queries }) => [time(at), percent(share), interval(ci95), count(n_queries)]))),
];

const interval = (ci95) => (ci95 ? `${percent(ci95[0])} to ${percent(ci95[1])}` : '–');

function shown(report) {
  if (report.recall === null) return h('p', {}, 'Nothing was measured: there are no documents to ask for.');
  const rows = report.by_selectivity.filter(({ n_queries }) => n_queries > 0);
  return [
    facts([
      [`recall@${report.k}`, h('b', {}, percent(report.recall))],
      ['95 % interval', interval(report.ci95)],
      ['all but the worst 5 %', report.p5 === null ? undefined : percent(report.p5)],
      ['queries', `${count(report.n_queries)}, ${count(report.n_from_queries)} of them asked before`],
      ['beam (ef_search)', count(report.ef_search)],
      ['a search', duration(report.auto_us)],
      ['comparing all', duration(report.exact_us)],
    ]),
    table('Recall by the share of documents that match', ['share that matches', { text: 'queries', number: true }, { text: 'recall', number: true }, ''],
      rows.map(({ from, to, n_queries, recall: share }) => [`${percent(from)} to ${percent(to)}`, count(n_queries), percent(share), shareBar(share)])),
  ];
}
