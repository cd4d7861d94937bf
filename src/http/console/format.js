// Numbers, times and names as people read them.

const whole = new Intl.NumberFormat('en');
const tenths = new Intl.NumberFormat('en', { maximumFractionDigits: 1 });
const compact = new Intl.NumberFormat('en', { maximumFractionDigits: 2 });

export const count = (n) => whole.format(n);
export const number = (x) => compact.format(x);
export const fixed = (x, digits = 3) => (x === null || x === undefined ? '–' : x.toFixed(digits).replace(/^-(0\.?0*)$/, '$1'));
export const signed = (x, digits = 3) => `${x > 0 ? '+' : ''}${fixed(x, digits)}`.replace('-', '−');
export const percent = (x) => `${tenths.format(x * 100)} %`;
export const plural = (n, one, many = `${one}s`) => `${count(n)} ${n === 1 ? one : many}`;

/** Microseconds. */
export function duration(us) {
  if (us < 1000) return `${Math.round(us)} µs`;
  if (us < 1e6) return `${(us / 1000).toFixed(us < 1e4 ? 1 : 0)} ms`;
  return seconds(us / 1e6);
}

export function seconds(s) {
  if (s < 60) return `${s.toFixed(s < 10 ? 1 : 0)} s`;
  const minutes = Math.round(s / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

export function bytes(n) {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  const step = Math.min(units.length - 1, n > 0 ? Math.floor(Math.log10(n) / 3) : 0);
  return `${(n / 1000 ** step).toFixed(step === 0 ? 0 : 1)} ${units[step]}`;
}

/** RFC 3339 in the time of the one who reads; what is no time stays as it is. */
export function time(text) {
  const at = new Date(text);
  if (!text || Number.isNaN(at.getTime())) return String(text ?? '–');
  const day = String(text).length <= 10;
  return at.toLocaleString('en-GB', day ? { dateStyle: 'medium', timeZone: 'UTC' } : { dateStyle: 'medium', timeStyle: 'short' });
}

/** A clause of the server's as a sentence. */
export const sentence = (text) => `${text.charAt(0).toUpperCase()}${text.slice(1)}${/[.?!]$/.test(text) ? '' : '.'}`;

/** `location.city` as words. */
export const words = (name) => name.replaceAll(/[._]+/g, ' ');
