// The page of evaluations: starts them, and shows what they found.

import { h, replace } from './dom.js';
import { get, getText } from './api.js';
import { attempt } from './errors.js';
import { evaluationForm } from './evaluation_form.js';
import { report } from './evaluation_report.js';
import { taskList } from './tasks.js';

export function evaluations(main, { parts: [task] }, signal) {
  document.title = `${task ? `Evaluation ${task}` : 'Evaluations'} · Kindred`;
  if (task) one(main, task, signal);
  else all(main, signal);
  return {};
}

const page = (task) => `#/evaluations/${encodeURIComponent(task)}`;
const isEvaluation = ({ kind }) => kind === 'evaluate';

function all(main, signal) {
  const list = taskList(isEvaluation, () => {}, signal);
  main.append(
    h('h1', {}, 'Evaluations'),
    h('p', { class: 'lead' }, 'Judge some documents for some queries, and see whether another way to search would be better.'),
    evaluationForm((task) => { location.hash = page(task); }, signal),
    h('section', { 'aria-labelledby': 'earlier' }, h('h2', { id: 'earlier' }, 'Evaluations since the server started'), list.element));
}

function one(main, task, signal) {
  const found = h('div', { id: 'report' });
  const load = () => attempt(found, async () => {
    const path = `/v1/evaluations/${encodeURIComponent(task)}`;
    const [json, picture] = await Promise.all([get(path, signal), getText(`${path}/svg`, signal)]);
    replace(found, report(json, picture));
  });
  let isShown = false;
  const ended = ({ status }) => status === 'done' && !isShown && (isShown = true) && load();
  const progress = taskList(({ id }) => id === task, ended, signal);
  main.append(
    h('p', { class: 'back' }, h('a', { href: '#/evaluations' }, 'Evaluations')),
    h('h1', {}, `Evaluation ${task}`), progress.element, found);
  // One that has ended already has a report; one that runs will tell when it has.
  get(`/v1/tasks/${encodeURIComponent(task)}`, signal).then(({ status }) => status === 'done' && !isShown && (isShown = true) && load(), () => load());
}
