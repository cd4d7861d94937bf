// Elements. Text stays text: nothing here, and nothing in the console, reads a string as HTML.

const SVG = 'http://www.w3.org/2000/svg';

/** An element with attributes, listeners (`onclick`), `style: {name: value}`, and children: elements, texts, numbers; null is left out. */
export function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** The same in SVG. */
export function s(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === 'function') element.addEventListener(name.slice(2), value);
    else if (name === 'style') Object.entries(value).forEach(([key, to]) => element.style.setProperty(key, to));
    else if (name === 'value') element.value = value;
    else element.setAttribute(name, value === true ? '' : value);
  }
  element.append(...children.flat(3).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Puts children in the place of what was there. The control that had the focus, or the one that stands for it now, keeps it. */
export function replace(parent, ...children) {
  const focused = parent.contains(document.activeElement) ? document.activeElement.id : '';
  parent.replaceChildren(...children.flat(3).filter(Boolean));
  if (focused) document.getElementById(focused)?.focus();
}

/** Says something to those who cannot see it change. */
export function announce(text) {
  document.getElementById('live').textContent = text;
}

/** A table: `columns` are texts or `{text, number: true}`, rows are lists of children. */
export function table(caption, columns, rows) {
  const heads = columns.map((column) => (typeof column === 'string' ? { text: column } : column));
  const cell = (child, at) => h(at === 0 ? 'th' : 'td', { scope: at === 0 && 'row', class: heads[at].number && 'number' }, child);
  return h('div', { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': caption },
    h('table', {},
      h('caption', { class: 'unseen' }, caption),
      h('thead', {}, h('tr', {}, heads.map(({ text, number }) => h(text ? 'th' : 'td', { scope: text ? 'col' : null, class: number && 'number' }, text)))),
      h('tbody', {}, rows.map((row) => h('tr', {}, row.map(cell))))));
}

/** Names and values. */
export function facts(pairs) {
  const kept = pairs.filter(([, value]) => value !== null && value !== undefined && value !== '');
  return h('dl', { class: 'facts' }, kept.map(([name, value]) => h('div', {}, h('dt', {}, name), h('dd', {}, value))));
}

let ids = 0;

/** An id that no other element has. */
export const fresh = (prefix) => `${prefix}-${++ids}`;

/** A control with its label above it. */
export function labelled(text, control, hint) {
  control.id ||= fresh('control');
  const more = hint && h('span', { class: 'hint', id: `${control.id}-hint` }, hint);
  if (more) control.setAttribute('aria-describedby', more.id);
  return h('p', { class: 'field' }, h('label', { for: control.id }, text), control, more);
}

/** A select of `[value, text]`. */
export function select(options, chosen, attributes = {}) {
  const control = h('select', attributes, options.map(([value, text]) => h('option', { value }, text)));
  control.value = chosen;
  return control;
}
