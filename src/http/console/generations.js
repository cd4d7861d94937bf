// Generations of a collection: building, activating, going back.

import { h, replace, table } from './dom.js';
import { collectionPath, get, post } from './api.js';
import { attempt } from './errors.js';
import { confirmed } from './dialog.js';
import { bytes, count, time } from './format.js';

/**
 * A collection's generations. `changed` is called with true when a rebuild has been started, with false when another generation serves.
 * Returns its element and `load`.
 */
export function generations(name, changed, signal) {
  const list = h('div', {});
  const trouble = h('div', {});
  const manual = h('input', { type: 'checkbox', id: 'manual' });

  const load = () => attempt(list, async () => {
    const { generations: all } = await get(collectionPath(name, 'generations'), signal);
    replace(list, all.length === 0 ? h('p', { class: 'hint' }, 'None yet: documents are searched one by one until the first is built.')
      : table('Generations, newest first', ['generation', 'status', { text: 'documents', number: true }, 'built', 'model', { text: 'on disk', number: true }, ''],
        all.map((generation) => [
          h('code', {}, generation.id), h('span', { class: `status ${generation.status}` }, generation.status), count(generation.n_documents),
          time(generation.created_at), generation.model, bytes(generation.size_bytes), action(generation),
        ])));
  });

  const serve = (question, path) => async () => {
    const consequence = 'Searches use it from then on, with all changes since it was built. The one that serves now is kept.';
    if (!await confirmed(question, consequence, 'Activate')) return;
    await attempt(trouble, async () => {
      await post(path, undefined, signal);
      changed(false);
      load();
    });
  };

  function action({ id, status }) {
    if (status === 'current') return '';
    const goesBack = status === 'previous';
    const path = goesBack ? collectionPath(name, 'rollback') : collectionPath(name, 'generations', id, 'activate');
    const ask = serve(goesBack ? `Go back to generation ${id} of ${name}?` : `Let generation ${id} of ${name} serve?`, path);
    return h('button', { type: 'button', class: 'quiet', onclick: ask }, goesBack ? 'Roll back' : 'Activate', h('span', { class: 'unseen' }, ` ${id}`));
  }

  const rebuild = () => attempt(trouble, async () => {
    await post(collectionPath(name, 'rebuild'), { activate: manual.checked ? 'manual' : 'auto' }, signal);
    changed(true);
  });

  load();
  const element = h('div', {}, list, h('div', { class: 'row start' },
    h('button', { type: 'button', id: 'rebuild', onclick: rebuild }, 'Rebuild'),
    h('p', { class: 'check' }, manual, h('label', { for: 'manual' }, 'do not activate it'))), trouble);
  return { element, load };
}
