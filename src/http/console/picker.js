// Choosing the document that a search starts from: by its words.

import { h, announce, fresh, labelled, replace } from './dom.js';
import { collectionPath, post } from './api.js';
import { attempt } from './errors.js';
import { details } from './details.js';
import { plural } from './format.js';
import { titleOf } from './schema.js';

const N_CHOICES = 6;

/** A search within `collection`; `use` is called with the id of the one that is chosen. */
export function picker({ name, definition }, use, signal) {
  const text = h('input', { type: 'search', id: fresh('pick'), autocomplete: 'off' });
  const choices = h('div', {});
  const look = () => attempt(choices, async () => {
    const body = { query: { text: text.value }, limit: N_CHOICES };
    const { hits } = await post(collectionPath(name, 'search'), body, signal);
    announce(plural(hits.length, 'document'));
    replace(choices, h('ul', { class: 'choices' }, hits.map((hit) => h('li', {},
      h('div', {}, h('b', {}, titleOf(definition, hit.id, hit.fields)), details(definition, hit.fields)),
      h('button', { type: 'button', onclick: () => use(hit.id), 'aria-label': `Use ${titleOf(definition, hit.id, hit.fields)}, ${hit.id}` }, 'Use this')))));
  });
  // A form within the form would be none.
  text.addEventListener('keydown', (event) => {
    if (event.key !== 'Enter') return;
    event.preventDefault();
    if (text.value.trim()) look();
  });
  return h('details', { class: 'picker' }, h('summary', {}, `Look for one of the ${name}`),
    h('div', { class: 'row' }, labelled('Words that describe it', text), h('button', { type: 'button', onclick: () => text.value.trim() && look() }, 'Look')),
    choices);
}
