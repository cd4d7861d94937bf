// What is shown when a request did not succeed: why, what to do, and a way to try again.

import { h, labelled } from './dom.js';
import { key } from './api.js';
import { sentence } from './format.js';

const TITLES = {
  0: 'No answer',
  401: 'This server wants a key',
  403: 'This key may not do that',
  404: 'Not there',
  429: 'Too much at once',
  503: 'Not ready',
};

/** A notice about an error. `retry` is called by its button. */
export function notice(error, retry) {
  if (!(error.status >= 0)) console.error(error);
  const title = TITLES[error.status] ?? (error.status >= 500 ? 'The server failed' : 'That did not work');
  const details = [
    error.field && `about ${error.field}`,
    error.code && error.status && `${error.status} ${error.code}`,
    error.requestId && `request ${error.requestId}`,
  ].filter(Boolean);
  return h('div', { class: 'notice', role: 'alert' },
    h('h2', {}, title),
    h('p', {}, sentence(error.message)),
    error.retryAfter && h('p', {}, `There should be room in ${error.retryAfter} s.`),
    details.length > 0 && h('p', { class: 'fine' }, details.join(' · ')),
    error.status === 401 || error.status === 403 ? keyForm(retry) : retry && h('button', { type: 'button', onclick: retry }, 'Try again'));
}

function keyForm(retry) {
  const input = h('input', { type: 'password', autocomplete: 'off', required: true, value: key.get() });
  const use = (event) => {
    event.preventDefault();
    key.set(input.value);
    retry?.();
  };
  return h('form', { class: 'row', onsubmit: use },
    labelled('API key', input, 'Kept until this tab is closed.'),
    h('button', { type: 'submit' }, 'Use this key'));
}

/** Does something, and shows in `place` why, where it does not succeed. An aborted request is no error. */
export async function attempt(place, work) {
  place.replaceChildren();
  try {
    return await work();
  } catch (error) {
    if (error.name === 'AbortError') return undefined;
    place.replaceChildren(notice(error, () => attempt(place, work)));
    place.querySelector('[type=password]')?.focus();
    return undefined;
  }
}
