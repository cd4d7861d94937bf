// Charts as SVG, each with its figures as text.

import { h, s } from './dom.js';
import { duration, fixed, percent, signed, time } from './format.js';

/** Colours there are; the style sheet knows them as c0, c1, … */
export const N_COLOURS = 8;
const colour = (at) => `c${at % N_COLOURS}`;

const STAGES = ['tokenize', 'queue', 'encode', 'retrieve', 'rescore', 'cross_encode'];

/** Where the time of a search went: one bar, and a list that says the same. */
export function timingBar(timings) {
  const parts = STAGES.map((stage) => [stage.replace('_', '-'), timings[`${stage}_us`] ?? 0]);
  const rest = timings.total_us - parts.reduce((sum, [, us]) => sum + us, 0);
  parts.push(['other', Math.max(0, rest)]);
  const total = Math.max(1, parts.reduce((sum, [, us]) => sum + us, 0));
  let from = 0;
  const rects = parts.map(([stage, us], at) => {
    const rect = s('rect', { class: colour(at), x: percentOf(from, total), width: percentOf(us, total), height: '100%' }, s('title', {}, `${stage} ${duration(us)}`));
    from += us;
    return rect;
  });
  const shown = parts.map(([stage, us], at) => us > 0 && h('li', {}, swatch(at), `${stage} `, h('b', {}, duration(us))));
  return h('div', { class: 'timings' },
    s('svg', { class: 'stack', 'aria-hidden': 'true' }, rects),
    h('ul', { class: 'legend', 'aria-label': 'Time of each stage' }, shown));
}

const percentOf = (part, whole) => `${(100 * part) / whole}%`;
const swatch = (at) => h('span', { class: `swatch ${colour(at)}`, 'aria-hidden': 'true' });

/** How far the bars of these hits' scores reach to both sides of zero. */
export function scaleOf(hits) {
  const scale = { below: 0, above: 1e-9 };
  for (const hit of hits) {
    if (!Array.isArray(hit.explanation)) continue;
    const sum = (keep) => hit.explanation.reduce((all, { contribution }) => all + Math.abs(keep(contribution, 0)), 0);
    scale.below = Math.max(scale.below, sum(Math.min));
    scale.above = Math.max(scale.above, sum(Math.max));
  }
  return scale;
}

/** A score in one bar: what adds to it to the right of zero, what takes from it to the left. */
export function scoreBar(terms, scale) {
  const width = scale.below + scale.above;
  let [left, right] = [scale.below, scale.below];
  const rects = terms.map(({ feature, contribution }, at) => {
    const length = Math.abs(contribution);
    if (contribution < 0) left -= length;
    const x = contribution < 0 ? left : right;
    if (contribution >= 0) right += length;
    return s('rect', { class: colour(at), x: percentOf(x, width), width: percentOf(length, width), height: '100%' }, s('title', {}, `${feature} ${signed(contribution)}`));
  });
  const zero = scale.below > 0 && s('rect', { class: 'zero', x: percentOf(scale.below, width), width: 1, height: '100%' });
  return s('svg', { class: 'stack score-bar', role: 'img', 'aria-label': terms.map(({ feature, contribution }) => `${feature} ${signed(contribution)}`).join(', ') }, rects, zero);
}

/** The terms of a score, each with its bar, and their sum. */
export function termTable(terms, score) {
  const most = Math.max(1e-12, ...terms.map(({ contribution }) => Math.abs(contribution)));
  const anyBelow = terms.some(({ contribution }) => contribution < 0);
  const zero = anyBelow ? 50 : 0;
  const rows = terms.map(({ feature, unit, value, weight, contribution }, at) => {
    const width = ((100 - zero) * Math.abs(contribution)) / most;
    return h('tr', {},
      h('th', { scope: 'row' }, swatch(at), feature),
      h('td', { class: 'number' }, value === undefined ? '–' : fixed(value), unit && h('small', {}, ` ${unit}`)),
      h('td', { class: 'number' }, weight === undefined ? '' : `× ${+weight.toPrecision(4)}`),
      h('td', { class: 'number' }, signed(contribution, 4)),
      h('td', { class: 'bar' }, s('svg', { 'aria-hidden': 'true' },
        s('rect', { class: colour(at), x: `${contribution < 0 ? zero - width : zero}%`, width: `${width}%`, height: '100%' }),
        anyBelow && s('rect', { class: 'zero', x: `${zero}%`, width: 1, height: '100%' }))));
  });
  const sum = terms.reduce((all, { contribution }) => all + contribution, 0);
  const exact = sum === score ? 'the score, to the last bit' : `the score is ${fixed(score, 4)}`;
  return h('div', { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': 'Terms of the score' },
    h('table', { class: 'terms' },
      h('caption', { class: 'unseen' }, 'Terms of the score'),
      h('thead', {}, h('tr', {}, ['term', 'value', 'weight', 'adds'].map((head, at) => h('th', { scope: 'col', class: at > 0 && 'number' }, head)),
        h('td', {}))),
      h('tbody', {}, rows),
      h('tfoot', {}, h('tr', {}, h('th', { scope: 'row' }, 'sum'), h('td', {}), h('td', {}),
        h('td', { class: 'number sum' }, fixed(sum, 4)), h('td', {}, h('small', {}, exact))))));
}

/** A formula's value, expression by expression. */
export function formulaTree({ what, value, note, parts = [] }) {
  return h('ul', { class: 'tree' }, h('li', {},
    h('code', {}, what), ' ', h('b', {}, fixed(value, 4)), note && h('span', { class: 'hint' }, ` ${note}`),
    parts.map(formulaTree)));
}

/** What a score is made of. */
export const explained = (explanation, score) => (Array.isArray(explanation) ? termTable(explanation, score) : formulaTree(explanation));

const SIZE = { width: 640, height: 190, left: 44, right: 12, top: 12, bottom: 26 };

/** Shares over time, with their intervals: `points` are `{at, recall, ci95}`, oldest first. */
export function historyChart(points) {
  const low = Math.min(0.9, ...points.map(({ recall, ci95 }) => ci95?.[0] ?? recall));
  const bottom = Math.floor(low * 20) / 20;
  const times = points.map(({ at }) => Date.parse(at));
  const span = Math.max(1, times.at(-1) - times[0]);
  const x = (t) => (points.length === 1 ? (SIZE.left + SIZE.width - SIZE.right) / 2 : SIZE.left + ((SIZE.width - SIZE.left - SIZE.right) * (t - times[0])) / span);
  const y = (share) => SIZE.top + ((SIZE.height - SIZE.top - SIZE.bottom) * (1 - share)) / (1 - bottom);
  const grid = [bottom, (bottom + 1) / 2, 1].map((share) => [
    s('line', { class: 'grid', x1: SIZE.left, x2: SIZE.width - SIZE.right, y1: y(share), y2: y(share) }),
    s('text', { x: SIZE.left - 8, y: y(share) + 4, 'text-anchor': 'end' }, percent(share)),
  ]);
  const ends = (points.length > 1 ? [0, points.length - 1] : [0]).map((at, i) =>
    s('text', { x: x(times[at]), y: SIZE.height - 6, 'text-anchor': points.length === 1 ? 'middle' : ['start', 'end'][i] }, time(points[at].at)));
  const marks = points.map(({ at, recall, ci95 }, i) => s('g', {},
    s('title', {}, `${time(at)}: ${percent(recall)}`),
    ci95 && s('line', { class: 'interval', x1: x(times[i]), x2: x(times[i]), y1: y(ci95[0]), y2: y(ci95[1]) }),
    s('circle', { class: 'point', cx: x(times[i]), cy: y(recall), r: 4 })));
  const line = points.map(({ recall }, i) => `${x(times[i])},${y(recall)}`).join(' ');
  const last = points.at(-1);
  return s('svg', { class: 'history', viewBox: `0 0 ${SIZE.width} ${SIZE.height}`, role: 'img', 'aria-label': `Recall over time: ${points.length} measurements, the last ${percent(last.recall)} on ${time(last.at)}` },
    grid, ends, s('polyline', { class: 'line', points: line }), marks);
}

/** A difference with its interval, on a scale that is common to all rows. */
export function intervalBar({ mean, low, high }, most) {
  const x = (value) => `${50 + (46 * value) / most}%`;
  return s('svg', { class: 'interval-bar', 'aria-hidden': 'true' },
    s('line', { class: 'grid', x1: '50%', x2: '50%', y1: 0, y2: '100%' }),
    s('line', { class: 'interval', x1: x(low), x2: x(high), y1: '50%', y2: '50%' }),
    s('circle', { class: 'point', cx: x(mean), cy: '50%', r: 4 }));
}

/** A share as a bar. */
export function shareBar(share, from = 0) {
  return s('svg', { class: 'share', 'aria-hidden': 'true' },
    s('rect', { class: 'c0', width: `${Math.max(0, (100 * (share - from)) / (1 - from))}%`, height: '100%' }));
}
