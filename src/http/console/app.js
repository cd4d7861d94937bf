// Which page is shown: the part of the address after `#/`.

import { get } from './api.js';
import { collections } from './collections.js';
import { evaluations } from './evaluations.js';
import { reference } from './reference.js';
import { search } from './search.js';

const PAGES = { search, collections, evaluations, api: reference };
const main = document.getElementById('main');
let shown = { name: null, page: null, end: new AbortController() };

/** `#/collections/jobs?a=b` as name, parts and parameters. */
function route() {
  const [path, query = ''] = location.hash.replace(/^#\/?/, '').split('?');
  const [name, ...parts] = path.split('/').map(decodeURIComponent);
  return { name: name in PAGES ? name : 'search', parts, params: new URLSearchParams(query) };
}

function show() {
  // The skip link's own target is no page.
  if (location.hash === '#main') return;
  const to = route();
  document.querySelectorAll('nav a').forEach((a) => {
    if (a.hash === `#/${to.name}`) a.setAttribute('aria-current', 'page');
    else a.removeAttribute('aria-current');
  });
  if (to.name === shown.name && shown.page?.update?.(to)) return;
  const isFirst = shown.name === null;
  shown.end.abort();
  const end = new AbortController();
  main.replaceChildren();
  shown = { name: to.name, page: PAGES[to.name](main, to, end.signal), end };
  if (!isFirst) {
    main.focus({ preventScroll: true });
    window.scrollTo(0, 0);
  }
}

async function greet() {
  const { version, model } = await get('/v1/info');
  document.getElementById('server').textContent = `Kindred ${version} · ${model.name}, ${model.dims} dimensions, on ${model.provider}`;
}

document.querySelector('.skip').addEventListener('click', (event) => {
  event.preventDefault();
  main.focus();
});
document.addEventListener('keydown', (event) => {
  const typing = event.target.closest('input, textarea, select, [contenteditable]');
  if (event.key !== '/' || typing || event.ctrlKey || event.metaKey || event.altKey) return;
  const box = document.getElementById('query');
  if (!box) return;
  event.preventDefault();
  box.focus();
  box.select();
});
window.addEventListener('hashchange', show);
show();
// The foot of the page can do without.
greet().catch(() => {});
