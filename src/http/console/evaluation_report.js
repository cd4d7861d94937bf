// What an evaluation found.

import { h, facts, labelled, replace, select, table } from './dom.js';
import { intervalBar } from './charts.js';
import { count, duration, fixed, plural, signed } from './format.js';

const MEASURES = [
  ['ndcg_at_10', 'nDCG@10'], ['mrr', 'MRR'], ['map', 'MAP'], ['precision_at_10', 'P@10'], ['recall_at_10', 'R@10'], ['recall_at_100', 'R@100'],
  ['hit_at_1', 'hit@1'], ['poor_at_10', 'poor@10'],
];
/** Of this one, less is better. */
const POOR = 'poor_at_10';
const STAGES = { dense: 'by meaning', lexical: 'by words', fused: 'by both', rescore: 're-scored', cross_encode: 'cross-encoded' };
/** Rows of queries that are shown at first. */
const N_ROWS = 50;

/** A report; `picture` is its SVG as text. */
export function report(found, picture) {
  const { collection, n_queries, n_judgments, skipped, warnings, variants } = found;
  const left = Object.entries(skipped).filter(([, n]) => n > 0).map(([what, n]) => [what.replaceAll('_', ' '), count(n)]);
  return [
    facts([['collection', collection], ['queries', count(n_queries)], ['judgments', count(n_judgments)], ...left]),
    warnings.length > 0 && h('ul', { class: 'warnings' }, warnings.map((text) => h('li', {}, text))),
    section('Measures', measures(variants)),
    variants.length > 1 && section(`Differences to ${variants[0].name}`, variants.slice(1).map(differences)),
    variants.some(({ stages }) => stages) && section('What each stage adds', stages(variants)),
    section('Queries', queries(variants)),
    section('Picture', h('img', { class: 'picture', src: `data:image/svg+xml,${encodeURIComponent(picture)}`, alt: `The measures, differences and stages above as a picture, of ${plural(n_queries, 'query', 'queries')}` })),
  ];
}

const section = (title, ...content) => h('section', {}, h('h2', {}, title), ...content);

function measures(variants) {
  const best = Object.fromEntries(MEASURES.map(([key]) => {
    const all = variants.map((variant) => variant.measures[key]);
    return [key, key === POOR ? Math.min(...all) : Math.max(...all)];
  }));
  const columns = ['variant', ...MEASURES.map(([, text]) => ({ text, number: true })), { text: 'a search', number: true }, { text: '95 % within', number: true }];
  return table('Measures of each variant', columns, variants.map(({ name, measures: all, times }) => [
    name,
    ...MEASURES.map(([key]) => (variants.length > 1 && all[key] === best[key] ? h('b', { class: 'best' }, fixed(all[key])) : fixed(all[key]))),
    duration(times.total_us), duration(times.p95_us),
  ]));
}

function differences({ name, against }) {
  const most = Math.max(1e-9, ...against.differences.flatMap(({ low, high }) => [Math.abs(low), Math.abs(high)]));
  const rows = against.differences.map((difference) => {
    const { measure, mean, low, high } = difference;
    const sign = measure.startsWith('poor') ? -1 : 1;
    const [says, kind] = low > 0 || high < 0 ? (mean * sign > 0 ? ['better', 'better'] : ['worse', 'worse']) : ['no clear difference', 'same'];
    return [measure, signed(mean), `${signed(low)} to ${signed(high)}`, h('span', { class: kind }, says), intervalBar(difference, most)];
  });
  return h('div', {}, h('h3', { class: 'plain' }, name),
    table(`${name} against ${against.variant}`, ['measure', { text: 'mean difference', number: true }, { text: '95 % interval', number: true }, '', ''], rows));
}

function stages(variants) {
  const rows = variants.flatMap(({ name, stages: all }) => Object.entries(all ?? {}).map(([stage, of]) => [
    name, STAGES[stage] ?? stage, fixed(of.recall), count(Math.round(of.n)), fixed(of.ndcg_at_10), fixed(of.mrr), fixed(of.recall_at_10),
  ]));
  const numbers = ['recall among all', 'documents', 'nDCG@10', 'MRR', 'R@10'].map((text) => ({ text, number: true }));
  return table('Stages of each variant', ['variant', 'stage', ...numbers], rows);
}

/** Query by query: sorted by any column, by one measure. */
function queries(variants) {
  const place = h('div', {});
  const measure = select(MEASURES, 'ndcg_at_10', { id: 'measure-of-queries', onchange: () => show() });
  const [first, ...others] = variants;
  const columns = ['query', ...variants.map(({ name }) => name), ...others.map(({ name }) => `${name}: difference`), 'time'];
  let sorted = { at: others.length ? 1 + variants.length : 1, descending: false };
  let all = false;

  const rows = () => first.queries.map(({ query, total_us }, i) => {
    const of = variants.map((variant) => variant.queries[i][measure.value]);
    return [query, ...of, ...of.slice(1).map((value) => value - of[0]), total_us];
  });
  const compare = (a, b) => (typeof a === 'string' ? a.localeCompare(b, 'en', { numeric: true }) : a - b);

  function show() {
    const list = rows().sort((a, b) => compare(a[sorted.at], b[sorted.at]) * (sorted.descending ? -1 : 1));
    const head = (text, at) => {
      const order = at !== sorted.at ? 'none' : sorted.descending ? 'descending' : 'ascending';
      const sort = () => {
        sorted = { at, descending: at === sorted.at ? !sorted.descending : false };
        show();
      };
      return h('th', { scope: 'col', class: at > 0 && 'number', 'aria-sort': order }, h('button', { type: 'button', id: `sort-${at}`, onclick: sort }, text));
    };
    const cell = (value, at) => {
      if (at === 0) return h('th', { scope: 'row' }, value);
      const text = at === columns.length - 1 ? duration(value) : at > variants.length ? signed(value) : fixed(value);
      return h('td', { class: 'number' }, text);
    };
    replace(place,
      h('div', { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': 'Query by query' }, h('table', {},
        h('caption', { class: 'unseen' }, 'Query by query'),
        h('thead', {}, h('tr', {}, columns.map(head))),
        h('tbody', {}, (all ? list : list.slice(0, N_ROWS)).map((row) => h('tr', {}, row.map(cell)))))),
      !all && list.length > N_ROWS && h('p', {}, h('button', {
        type: 'button',
        id: 'all-queries',
        onclick: () => {
          all = true;
          show();
        },
      }, `Show all ${count(list.length)}`)));
  }

  show();
  return [h('div', { class: 'row narrow' }, labelled('Measure', measure)), place];
}
