// What is evaluated: judged queries, and ways to search.

import { h, fresh, labelled, select } from './dom.js';
import { get, post } from './api.js';
import { attempt, notice } from './errors.js';
import { readJudgments, readQueries, readVariant } from './evaluation_input.js';

const MAX_VARIANTS = 8;

/** The form of an evaluation; `started` is called with its task. */
export function evaluationForm(started, signal) {
  const trouble = h('div', {});
  const collection = select([], '', { id: 'evaluated', required: true });
  const queries = textWithFile('Queries', 'queries', '{"id": "q1", "text": "night nurse"}\n{"id": "q2", "text": "welder of ships"}', 'JSON lines; or id, tab, text');
  const qrels = textWithFile('Judgments', 'qrels', 'q1 0 j813 3\nq1 0 j14 0\nq2 0 j2050 2', 'TREC qrels, or BEIR’s table: 0 is not relevant, to 4');
  const variants = h('ul', { class: 'variants' });
  const add = (name, text) => {
    const item = variant(name, text, () => item.remove());
    if (variants.children.length < MAX_VARIANTS) variants.append(item);
    return item;
  };
  add('as it is', '');
  add('meaning alone', '{"retrieval": "dense"}');

  const start = (event) => {
    event.preventDefault();
    let body;
    try {
      const all = [...variants.children].map((item) => readVariant(...[...item.querySelectorAll('input')].map(({ value }) => value)));
      body = { collection: collection.value, queries: readQueries(queries.text.value), judgments: readJudgments(qrels.text.value), variants: all };
    } catch (error) {
      trouble.replaceChildren(notice(Object.assign(error, { status: 400 })));
      return;
    }
    attempt(trouble, async () => started((await post('/v1/evaluations', body, signal)).task));
  };

  attempt(trouble, async () => {
    const { collections } = await get('/v1/collections', signal);
    collection.append(...collections.map(({ name }) => h('option', { value: name }, name)));
  });
  return h('form', { class: 'evaluate', onsubmit: start },
    h('div', { class: 'row narrow' }, labelled('Collection', collection)),
    h('div', { class: 'inputs' }, queries.element, qrels.element),
    h('fieldset', {}, h('legend', {}, 'Variants'),
      h('p', { class: 'hint' }, 'Ways to search: all are compared with the first. Profiles, retrieval, candidates, cross_encode, generation, as in a search.'),
      variants,
      h('p', {}, h('button', { type: 'button', class: 'quiet', onclick: () => add('', '').querySelector('input').focus() }, 'Add a variant'))),
    h('div', { class: 'row' }, h('button', { type: 'submit', class: 'primary', id: 'evaluate' }, 'Evaluate')),
    trouble);
}

/** A text that can be written, or read from a file that is chosen or dropped. */
function textWithFile(name, id, placeholder, hint) {
  const text = h('textarea', { id, placeholder, spellcheck: 'false', rows: 7 });
  const take = async (file) => {
    if (file) text.value = await file.text();
  };
  const file = h('input', { type: 'file', 'aria-label': `${name} from a file`, onchange: () => take(file.files[0]) });
  const element = h('div', { class: 'drop' }, labelled(name, text, hint), file);
  const over = (is) => (event) => {
    event.preventDefault();
    element.classList.toggle('over', is);
  };
  element.addEventListener('dragover', over(true));
  element.addEventListener('dragleave', over(false));
  element.addEventListener('drop', (event) => {
    over(false)(event);
    take(event.dataTransfer.files[0]);
  });
  return { element, text };
}

function variant(name, text, remove) {
  const control = (value, more) => h('input', { type: 'text', value, id: fresh('variant'), autocomplete: 'off', spellcheck: 'false', ...more });
  return h('li', {},
    labelled('Name', control(name, { required: true })),
    labelled('What it does otherwise (JSON)', control(text, { placeholder: '{"profile": {"weights": {"dot": 1, "recency": 0.2}}}' })),
    h('button', { type: 'button', class: 'quiet', onclick: remove }, 'Remove'));
}
