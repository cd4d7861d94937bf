// Requests to the server, and what can go wrong with them.

const KEY = 'kindred.key';

/** The key that requests carry, kept until the tab is closed; empty where none is needed. */
export const key = {
  get: () => sessionStorage.getItem(KEY) ?? '',
  set: (value) => sessionStorage.setItem(KEY, value.trim()),
};

/** A request that did not succeed. `status` is 0 where no answer came. */
export class ApiError extends Error {
  constructor(message, { status = 0, code = 'unreachable', field, requestId, retryAfter } = {}) {
    super(message);
    Object.assign(this, { status, code, field, requestId, retryAfter });
  }
}

async function request(method, path, body, signal) {
  const headers = {};
  if (body !== undefined) headers['content-type'] = 'application/json';
  if (key.get()) headers.authorization = `Bearer ${key.get()}`;
  let response;
  try {
    response = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body), signal });
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new ApiError(`The server at ${location.host} does not answer. It may have been stopped, or the network is down.`);
  }
  if (!response.ok) throw await refusal(response);
  return response;
}

/** The server's own words, or, where something between here and there answered, the status. */
async function refusal(response) {
  const { status, headers } = response;
  const text = await response.text();
  let told = {};
  try {
    told = JSON.parse(text).error ?? {};
  } catch {
    // Not from Kindred: the status must do.
  }
  if (typeof told === 'string') told = { message: told };
  return new ApiError(told.message ?? `The server answered with status ${status} ${response.statusText}`.trim(), {
    status,
    code: told.code ?? String(status),
    field: told.field,
    requestId: told.request_id ?? headers.get('x-request-id'),
    retryAfter: headers.get('retry-after'),
  });
}

/** A request with a JSON answer. */
export async function call(method, path, body, signal) {
  return (await request(method, path, body, signal)).json();
}

export const get = (path, signal) => call('GET', path, undefined, signal);
export const post = (path, body, signal) => call('POST', path, body, signal);

/** An answer that is text. */
export async function getText(path, signal) {
  return (await request('GET', path, undefined, signal)).text();
}

/** The path of a collection, and what is below it. */
export const collectionPath = (name, ...below) => ['/v1/collections', encodeURIComponent(name), ...below.map(encodeURIComponent)].join('/');

/** Calls back with each server-sent event's data, until the stream ends. (EventSource could send no key.) */
export async function listen(path, onEvent, signal) {
  const reader = (await request('GET', path, undefined, signal)).body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const events = (rest + value).split(/\r?\n\r?\n/);
    rest = events.pop();
    for (const event of events) {
      const data = event.split(/\r?\n/).filter((line) => line.startsWith('data:')).map((line) => line.slice(5).trimStart());
      if (data.length) onEvent(JSON.parse(data.join('\n')));
    }
  }
}
