// Tasks, as they are doing.

import { h, announce, fresh, replace } from './dom.js';
import { call, get, listen } from './api.js';
import { notice } from './errors.js';
import { count, plural, seconds, time } from './format.js';

/** So many are shown at first: the newest. */
const N_SHOWN = 3;
/** Between two looks for tasks that others have started. */
const INTERVAL_MS = 4000;
const isFinal = ({ status }) => ['done', 'failed', 'cancelled'].includes(status);

/**
 * A list of tasks that keeps itself up to date until `signal`. `wanted` says which belong to it; `ended` is called when one of them has
 * ended that ran before. Returns its element and `look`, which looks for new ones at once.
 */
export function taskList(wanted, ended, signal) {
  const list = h('ul', { class: 'tasks short' });
  const all = h('button', { type: 'button', class: 'quiet', hidden: true, onclick: () => showAll() }, 'Show all');
  const none = h('p', { class: 'hint' }, 'None since the server started.');
  const trouble = h('div', {});
  const shown = new Map();

  async function look() {
    try {
      const tasks = (await get('/v1/tasks', signal)).tasks.filter(wanted);
      trouble.replaceChildren();
      none.hidden = tasks.length > 0;
      all.hidden = tasks.length <= N_SHOWN || !list.classList.contains('short');
      // Newest first.
      tasks.reverse().forEach((task) => shown.has(task.id) || add(task));
    } catch (error) {
      if (error.name !== 'AbortError') trouble.replaceChildren(notice(error, look));
    }
  }

  function add(task) {
    const item = h('li', { 'data-task': task.id });
    shown.set(task.id, item);
    list.prepend(item);
    draw(item, task, signal);
    if (!isFinal(task)) follow(item, task.id);
  }

  function follow(item, id) {
    let hasEnded = false;
    const onEvent = (task) => {
      draw(item, task, signal);
      if (!isFinal(task)) return;
      hasEnded = true;
      announce(`${task.kind} ${task.id}: ${task.status}`);
      ended(task);
    };
    // A stream that breaks off says nothing about the task: it is looked for again.
    const again = () => {
      shown.delete(id);
      item.remove();
      look();
    };
    listen(`/v1/tasks/${encodeURIComponent(id)}/events`, onEvent, signal).then(() => hasEnded || again(), (error) => error.name === 'AbortError' || again());
  }

  function showAll() {
    list.classList.remove('short');
    all.hidden = true;
    list.children[N_SHOWN].querySelector('a, button')?.focus();
  }

  look();
  const timer = setInterval(() => document.visibilityState === 'visible' && look(), INTERVAL_MS);
  signal.addEventListener('abort', () => clearInterval(timer));
  return { element: h('div', {}, trouble, none, list, all), look };
}

function draw(item, task, signal) {
  const { id, kind, collection, status, phase, done, total, rate, eta_s, started_at, ended_at, error, result } = task;
  const name = [kind, collection].filter(Boolean).join(' ');
  const label = fresh('task');
  const running = !isFinal(task);
  const report = kind === 'evaluate' && status === 'done' && `#/evaluations/${encodeURIComponent(id)}`;
  const took = ended_at && seconds((Date.parse(ended_at) - Date.parse(started_at)) / 1000);
  const cancel = () => call('DELETE', `/v1/tasks/${encodeURIComponent(id)}`, undefined, signal).catch((failure) => item.append(notice(failure)));
  const progress = running && [
    h('progress', { 'aria-labelledby': label, max: total || null, value: total ? done : null }),
    h('p', { class: 'fine' }, [phase, total ? `${count(done)} of ${count(total)}` : count(done), rate > 0 && `${count(Math.round(rate))} a second`, eta_s !== undefined && eta_s !== null && `${seconds(eta_s)} left`].filter(Boolean).join(' · ')),
  ];
  item.className = status;
  replace(item,
    h('div', { class: 'task-head' },
      h('span', { id: label }, h('b', {}, name), ' ', h('code', { class: 'id' }, id)),
      h('span', { class: `status ${status}` }, status),
      running && h('button', { type: 'button', class: 'quiet', id: `cancel-${id}`, onclick: cancel, 'aria-describedby': label }, 'Cancel')),
    progress,
    !running && h('p', { class: 'fine' }, [`${time(started_at)}, in ${took}`, outcome(kind, result)].filter(Boolean).join(' · ')),
    error && h('p', { class: 'failure' }, error),
    report && location.hash !== report && h('p', { class: 'fine' }, h('a', { href: report, 'aria-describedby': label }, 'What it found')));
}

function outcome(kind, result) {
  if (!result || typeof result !== 'object') return '';
  if (kind === 'evaluate') return `${plural(result.n_queries, 'query', 'queries')}, ${plural(result.variants.length, 'variant')}`;
  return Object.entries(result).filter(([, value]) => value !== null && typeof value !== 'object').map(([name, value]) => `${name} ${typeof value === 'number' ? count(value) : value}`).join(', ');
}
