// "Why is it not here?": what became of one document in a search, stage by stage.

import { h, announce, facts, labelled, replace, table } from './dom.js';
import { collectionPath, post } from './api.js';
import { attempt } from './errors.js';
import { count, fixed, sentence } from './format.js';
import { explained } from './charts.js';

const FATES = {
  hit: 'It is here',
  filtered_out: 'The filter keeps it out',
  asked_with: 'It is what was asked with',
  not_retrieved: 'Others were found before it',
  missed_by_the_walk: 'The graph’s walk went past it',
  outscored: 'Others score higher',
  grouped: 'Its group has enough hits',
  too_alike: 'It is too much like better hits',
  cross_encoded_lower: 'The cross-encoder put others before it',
};

/** The question about a search of `collection` with `body`. */
export function whyBox(collection, body, signal) {
  const id = h('input', { type: 'text', id: 'why-id', required: true, autocomplete: 'off', spellcheck: 'false' });
  const answer = h('div', { class: 'why-answer' });
  const ask = (event) => {
    event.preventDefault();
    attempt(answer, async () => {
      const placement = await post(collectionPath(collection, 'explain'), { ...body, id: id.value.trim() }, signal);
      replace(answer, placed(placement));
      announce(`${FATES[placement.fate] ?? placement.fate}: ${placement.reason}`);
    });
  };
  return h('section', { class: 'card why', 'aria-labelledby': 'why-title' },
    h('h2', { id: 'why-title' }, 'Why is it not here?'),
    h('form', { class: 'row', onsubmit: ask }, labelled(`Id of one of the ${collection}`, id), h('button', { type: 'submit' }, 'Explain')),
    answer);
}

function placed({ fate, reason, rank, filter = [], retrieval, rescore, cross_encode, explanation, phrases }) {
  return [
    h('h3', { 'data-fate': fate }, FATES[fate] ?? fate),
    h('p', {}, sentence(reason)),
    h('ol', { class: 'stages' }, told([
      filter.length > 0 && stage('Filter', filter.some(({ keeps_out }) => keeps_out), table('Conditions of the filter', ['condition', 'asks for', 'it has', ''],
        filter.map(({ path, condition, values, holds, keeps_out }) => [
          h('code', {}, path), h('code', {}, JSON.stringify(condition)), values.length ? values.map((value) => JSON.stringify(value)).join(', ') : 'nothing',
          keeps_out ? 'keeps it out' : holds ? 'holds' : 'does not hold',
        ]))),
      stage('Retrieval', retrieval.rank === undefined, facts([
        ['candidates', count(retrieval.n_candidates)],
        ['its place', retrieval.rank ? `${count(retrieval.rank)}.` : 'not among them'],
        ['by meaning', way(retrieval.dense)],
        ['by words', way(retrieval.lexical)],
      ])),
      stage('Re-scoring', rescore.last_hit !== undefined && rescore.score < rescore.last_hit, [
        facts([['score', fixed(rescore.score)], ['its place', `${count(rescore.rank)}.`], ['last hit’s score', rescore.last_hit !== undefined && fixed(rescore.last_hit)]].map(([a, b]) => [a, b || undefined])),
        explained(explanation, rescore.score),
      ]),
      cross_encode && stage('Cross-encoder', fate === 'cross_encoded_lower', facts([['score', fixed(cross_encode.score)], ['last hit’s score', cross_encode.last_hit === undefined ? undefined : fixed(cross_encode.last_hit)]])),
    ].filter(Boolean))),
    rank && h('p', {}, `It is hit ${rank}.`),
    phrases.length > 0 && table('Its phrases that are nearest to the query', ['phrase', { text: 'cosine', number: true }], phrases.map(({ text, score }) => [text, fixed(score)])),
  ];
}

function stage(name, stops, content) {
  return { name, stops, content };
}

/** The first stage that stops it is the one to look at; what later ones would have said is told all the same. */
function told(stages) {
  const at = stages.findIndex(({ stops }) => stops);
  return stages.map(({ name, stops, content }, i) => {
    const verdict = at < 0 || i < at ? 'passed' : i === at ? 'stopped here' : stops ? 'would stop it too' : 'would let it pass';
    return h('li', { class: stops ? 'stopped' : 'passed' }, h('h4', {}, name, h('span', { class: 'verdict' }, verdict)), content);
  });
}

function way(found) {
  if (!found) return undefined;
  if (!found.rank && found.score === 0) return 'none of the query’s words';
  const rank = found.rank ? `${count(found.rank)}. of all` : 'beyond 10,000';
  const last = found.last_found === undefined ? '' : `; the last that was found has ${fixed(found.last_found)}`;
  return `${rank}, ${fixed(found.score)}${last}`;
}
