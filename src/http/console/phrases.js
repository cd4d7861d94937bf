// Phrases that answer the question, marked where they stand in the text.

import { h } from './dom.js';
import { fixed } from './format.js';
import { textFields, titleOf, valuesAt } from './schema.js';

/** What is shown of a long text. */
const MAX_CHARACTERS = 420;
/** What is shown before its first phrase. */
const BEFORE = 90;
/** Texts that are shown where no phrase says which. */
const N_TEXTS = 1;

/** A document's texts with its phrases marked; phrases that stand elsewhere, but for those in its title, follow. */
export function excerpts(definition, { id, fields, phrases = [] }) {
  const texts = textFields(definition).map((name) => valuesAt(fields, name).map(String).join(' … ')).filter(Boolean);
  const marked = texts.map((text) => ({ text, marks: places(text, phrases) }));
  const found = marked.filter(({ marks }) => marks.length > 0);
  const shown = found.length ? found : marked.slice(0, N_TEXTS);
  const seen = [...found.flatMap(({ marks }) => marks), ...places(titleOf(definition, id, fields), phrases)].map(({ phrase }) => phrase);
  const elsewhere = phrases.filter((phrase) => !seen.includes(phrase));
  return [
    shown.map(({ text, marks }) => h('p', {}, excerpt(text, marks))),
    elsewhere.length > 0 && h('p', { class: 'elsewhere' }, elsewhere.map((phrase) => mark(phrase.text, phrase))),
  ];
}

/** A document's title with its phrases marked. */
export function markedTitle(definition, { id, fields, phrases = [] }) {
  const title = titleOf(definition, id, fields);
  return excerpt(title, places(title, phrases), title.length);
}

/** Where phrases stand in a text: `{from, to, phrase}`, in its order, none within another. */
export function places(text, phrases) {
  const all = phrases.flatMap((phrase) => {
    // Between words, the text may have another blank than the phrase.
    const pattern = phrase.text.trim().split(/\s+/).map((word) => word.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')).join('\\s+');
    const match = pattern && text.match(new RegExp(pattern));
    return match ? [{ from: match.index, to: match.index + match[0].length, phrase }] : [];
  });
  return all.sort((a, b) => a.from - b.from).filter((place, at, sorted) => at === 0 || place.from >= sorted[at - 1].to);
}

function excerpt(text, marks, room = MAX_CHARACTERS) {
  let at = 0;
  if (text.length > room && marks.length && marks[0].from > 2 * BEFORE) at = text.indexOf(' ', marks[0].from - BEFORE) + 1;
  const end = Math.max(at + room, marks.at(-1)?.to ?? 0);
  const parts = [at > 0 && '… '];
  for (const { from, to, phrase } of marks) {
    parts.push(text.slice(at, from), mark(text.slice(from, to), phrase));
    at = to;
  }
  parts.push(text.slice(at, end), end < text.length && ' …');
  return parts;
}

const mark = (text, { score }) => h('mark', { title: `${fixed(score)} near to the query` }, text);
