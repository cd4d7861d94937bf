// The page of searches: asks, and shows what was found and how.

import { h, announce, facts, replace } from './dom.js';
import { collectionPath, get, post } from './api.js';
import { attempt, notice } from './errors.js';
import { facetFields, filter, href, isComplete, read, request } from './ask.js';
import { timingBar } from './charts.js';
import { chosenFilters, filterPanel } from './filters.js';
import { searchForm } from './form.js';
import { count, duration, percent, plural, words } from './format.js';
import { hitList, showPhrases } from './hits.js';
import { titleOf } from './schema.js';
import { whyBox } from './why.js';

const EXAMPLES = ['keep patients safe as a nurse on night shift', 'look after sick animals', 'write software, from home'];
/** The server tells phrases of so many hits. */
const MAX_PHRASED = 20;

export function search(main, route, signal) {
  document.title = 'Search · Kindred';
  const top = h('div', { class: 'hero' });
  const filters = h('aside', { class: 'filters', 'aria-label': 'Filters' });
  const results = h('div', { class: 'results' });
  const body = h('div', { class: 'columns' }, filters, results);
  main.append(h('h1', { class: 'unseen' }, 'Search'), top, body);
  let known;
  let running = new AbortController();
  signal.addEventListener('abort', () => running.abort());

  const load = async () => {
    const [{ collections }, info] = await Promise.all([get('/v1/collections', signal), get('/v1/info', signal)]);
    known = { collections, hasCrossEncoder: Boolean(info.cross_encoder) };
    update(route);
  };

  /** Asks by going there, so that every search has an address. */
  const go = (ask) => {
    if (location.hash === href(ask)) update(route);
    else location.hash = href(ask);
  };

  function update(to) {
    route = to;
    if (!known) return true;
    running.abort();
    running = new AbortController();
    if (known.collections.length === 0) {
      replace(results, h('p', {}, 'There are no collections yet: PUT /v1/collections/{name} makes one.'));
      return true;
    }
    const ask = read(to.params, known.collections);
    const collection = known.collections.find(({ name }) => name === ask.to);
    // Options stay open from one search to the next.
    const open = top.querySelector('.options')?.open;
    replace(top, searchForm(ask, known.collections, known.hasCrossEncoder, go, running.signal));
    if (open) top.querySelector('.options').open = true;
    body.classList.toggle('idle', !isComplete(ask));
    if (isComplete(ask)) run(ask, collection, running.signal);
    else welcome(ask, collection);
    return true;
  }

  function welcome(ask, { name, n_documents }) {
    document.title = 'Search · Kindred';
    replace(filters);
    replace(results, h('div', { class: 'welcome' },
      h('p', { class: 'lead' }, `${plural(n_documents, 'document')} in ${name}.`),
      !ask.from && n_documents > 0 && h('p', {}, 'For example ', EXAMPLES.map((text, at) => [at > 0 && ' · ', h('a', { href: href({ to: name, text }) }, text)])),
      h('p', { class: 'hint' }, 'The key ', h('kbd', {}, '/'), ' goes to the search box.')));
  }

  function run(ask, collection, now) {
    document.title = `${ask.from ? `${ask.from} ${ask.id}` : ask.text} · Kindred`;
    results.setAttribute('aria-busy', 'true');
    if (!results.querySelector('.hits')) replace(results, h('p', { class: 'hint' }, 'Searching …'));
    const asked = request(ask, collection.definition);
    const counted = facetFields(collection.definition);
    const facets = counted.length ? counted : undefined;
    return post(asked.path, { ...asked.body, explain: true, facets }, now)
      .finally(() => now.aborted || results.removeAttribute('aria-busy'))
      .then((answer) => {
        show(ask, collection, asked, answer, now);
        return Promise.all([more(ask, collection, asked, answer, now), phrases(ask, collection, asked, answer, now)]);
      })
      .catch((error) => {
        if (error.name === 'AbortError') return;
        // It may be a filter that is at fault: it can be taken away.
        panel(ask, collection, {});
        replace(results, notice(error, () => update(route)), chosenFilters(collection.definition, ask.filters, change(ask)));
      });
  }

  const change = (ask) => (name, values) => {
    const next = new Map(ask.filters);
    if (values.length) next.set(name, values);
    else next.delete(name);
    go({ ...ask, filters: next });
  };

  function panel(ask, { definition }, facets) {
    // Groups stay as they were opened.
    const open = new Map([...filters.querySelectorAll('details.filter')].map((group) => [group.querySelector('summary').id, group.open]));
    const wide = window.matchMedia('(min-width: 56rem)').matches;
    const all = filters.querySelector('.all-filters')?.open ?? wide;
    replace(filters, h('details', { class: 'all-filters', open: all }, h('summary', { id: 'all-filters' }, 'Filters', ask.filters.size > 0 && h('span', { class: 'badge' }, count(ask.filters.size))),
      filterPanel(definition, ask.filters, facets, change(ask))));
    filters.querySelectorAll('details.filter').forEach((group) => {
      const was = open.get(group.querySelector('summary').id);
      if (was !== undefined) group.open = was;
    });
  }

  function show(ask, collection, asked, answer, now) {
    const { hits, plan, timings, degraded = [] } = answer;
    panel(ask, collection, answer.facets ?? {});
    const says = `${plural(hits.length, 'hit')} of ${plural(plan.n_matching, 'matching document')}`;
    replace(results,
      ask.from && asking(ask, now),
      h('div', { class: 'found' }, h('h2', { id: 'found' }, says), h('p', {}, duration(timings.total_us))),
      chosenFilters(collection.definition, ask.filters, change(ask)),
      degraded.length > 0 && h('ul', { class: 'degraded' }, degraded.map((text) => h('li', {}, text))),
      how(answer),
      hits.length > 0 ? hitList(hits, collection, known.collections) : nothing(ask),
      whyBox(ask.to, asked.body, now));
    announce(says);
  }

  /** The document that was asked with. */
  function asking(ask, now) {
    const { definition } = known.collections.find(({ name }) => name === ask.from);
    const title = h('b', {}, ask.id);
    get(collectionPath(ask.from, 'documents', ask.id.trim()), now).then(({ id, fields }) => replace(title, titleOf(definition, id, fields))).catch(() => {});
    return h('p', { class: 'asking' }, ask.from === ask.to ? 'Like ' : 'For ', title, ' ', h('code', { class: 'id' }, ask.id));
  }

  const nothing = (ask) => h('p', { class: 'lead' }, ask.filters.size ? 'No document matches these filters. Take one away.' : 'The collection has no documents.');

  /** Of a field that is filtered by, the counts that the other filters leave: so that another of its values can be chosen. */
  async function more(ask, collection, asked, answer, now) {
    const own = facetFields(collection.definition).filter((name) => ask.filters.has(name));
    if (own.length === 0) return;
    const facets = { ...answer.facets };
    for (const name of own) {
      const body = { ...asked.body, limit: 1, fields: [], facets: [name], filter: filter(ask.filters, collection.definition, name) };
      Object.assign(facets, (await post(asked.path, body, now)).facets);
    }
    panel(ask, collection, facets);
  }

  async function phrases(ask, { definition }, asked, answer, now) {
    if (!ask.phrases || answer.hits.length === 0) return;
    const { hits } = await post(asked.path, { ...asked.body, limit: Math.min(asked.body.limit, MAX_PHRASED), phrases: 2 }, now);
    showPhrases(results.querySelector('.hits'), hits, definition);
  }

  attempt(results, load);
  return { update };
}

/** How the hits were found, and where the time went. */
function how({ timings, plan, generation, model }) {
  return h('section', { class: 'how', 'aria-label': 'How they were found' },
    timingBar(timings),
    h('details', {}, h('summary', {}, `${words(plan.strategy)} · generation ${generation} · ${model}`), facts([
      ['retrieval', plan.retrieval],
      ['strategy', words(plan.strategy)],
      ['matching', `${count(plan.n_matching)} of ${count(plan.n_documents)}`],
      ['selectivity', percent(plan.selectivity)],
      ['estimated', percent(plan.estimated_selectivity)],
      ['beam (ef_search)', plan.ef_search || undefined],
      ['rows visited', count(plan.n_visited)],
      ['distances', count(plan.n_distances)],
      ['adapter', plan.adapted ? 'applied' : undefined],
      ['generation', generation],
      ['model', model],
    ])));
}
