// Hits: what a document is called, what it says, what answers the question, and what its score is made of.

import { h, facts, fresh, replace } from './dom.js';
import { fixed } from './format.js';
import { explained, scaleOf, scoreBar } from './charts.js';
import { href } from './ask.js';
import { details } from './details.js';
import { excerpts, markedTitle } from './phrases.js';

/** The list of hits. `collections` are all there are: each can be asked for what matches a hit. */
export function hitList(hits, collection, collections) {
  const scale = scaleOf(hits);
  return h('ol', { class: 'hits', onkeydown: walk }, hits.map((hit, at) => card(hit, at + 1, collection, collections, scale)));
}

/** Up and down go from hit to hit. */
function walk(event) {
  const step = { ArrowDown: 'nextElementSibling', ArrowUp: 'previousElementSibling' }[event.key];
  const to = step && event.target.closest('.hits > li')?.[step];
  if (!to || !event.target.matches('.hits > li')) return;
  event.preventDefault();
  to.focus();
}

function card(hit, place, { name, definition }, collections, scale) {
  const title = fresh('hit');
  const text = h('div', { class: 'text' });
  replace(text, excerpts(definition, hit));
  const similar = collections.map((to) => {
    const says = to.name === name ? 'Similar' : `Find ${to.name}`;
    return h('a', { href: href({ to: to.name, from: name, id: hit.id }), 'aria-describedby': title }, says);
  });
  const score = disclosure('Score', title, () => [explained(hit.explanation, hit.score), facts(ranks(hit))]);
  const source = disclosure('Document', title, () => h('pre', { tabindex: 0, 'aria-label': 'The document as JSON' }, JSON.stringify({ id: hit.id, ...hit.fields }, null, 2)));
  return h('li', { tabindex: -1, 'data-id': hit.id, 'aria-labelledby': title },
    h('div', { class: 'hit-head' },
      h('div', {},
        h('h3', { id: title }, markedTitle(definition, hit)),
        details(definition, hit.fields)),
      h('div', { class: 'hit-score' },
        h('p', {}, h('span', { class: 'unseen' }, `Hit ${place}, score `), h('b', {}, fixed(hit.score))),
        Array.isArray(hit.explanation) && scoreBar(hit.explanation, scale))),
    text,
    h('div', { class: 'actions' }, score.button, source.button, similar, h('code', { class: 'id' }, hit.id)),
    score.panel, source.panel);
}

function disclosure(text, title, render) {
  const id = fresh('panel');
  const panel = h('div', { id, class: 'panel', hidden: true });
  const button = h('button', { type: 'button', class: 'quiet', 'aria-expanded': 'false', 'aria-controls': id, 'aria-describedby': title }, text);
  button.addEventListener('click', () => {
    if (!panel.hasChildNodes()) panel.append(...[render()].flat());
    panel.hidden = !panel.hidden;
    button.setAttribute('aria-expanded', String(!panel.hidden));
  });
  return { button, panel };
}

const ranks = ({ ranks: at = {}, retrieval_score, lexical_score, cross_encoder_score }) => [
  ['by meaning', place(at.dense, retrieval_score)],
  ['by words', place(at.lexical, lexical_score)],
  ['among candidates', at.retrieval && `${at.retrieval}.`],
  ['after re-scoring', at.rescore && `${at.rescore}.`],
  ['cross-encoder', cross_encoder_score !== undefined && fixed(cross_encoder_score)],
].map(([name, value]) => [name, value || undefined]);

const place = (rank, score) => score !== undefined && `${rank ? `${rank}.` : 'not found'} (${fixed(score)})`;

/** Shows the phrases of hits that are there already. */
export function showPhrases(list, hits, definition) {
  for (const hit of hits) {
    const item = hit.phrases && [...list.children].find(({ dataset }) => dataset.id === hit.id);
    if (!item) continue;
    replace(item.querySelector('.text'), excerpts(definition, hit));
    replace(item.querySelector('h3'), markedTitle(definition, hit));
  }
}
