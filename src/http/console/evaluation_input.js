// Judged queries as people have them: JSON lines, a JSON list or tables; TREC qrels, BEIR's table, or JSON.

/** Queries as `{id, text}`. Throws an error that names the line. */
export function readQueries(text) {
  const trimmed = text.trim();
  if (!trimmed) throw new Error('There are no queries: one a line, such as {"id": "q1", "text": "night nurse"}.');
  if (trimmed.startsWith('[')) return JSON.parse(trimmed).map((one, at) => query(one, `query ${at + 1}`));
  return trimmed.split(/\r?\n/).flatMap((line, at) => {
    const where = `line ${at + 1} of the queries`;
    if (!line.trim()) return [];
    if (line.trim().startsWith('{')) return [query(parsed(line, where), where)];
    const [id, ...rest] = line.split('\t');
    return [query({ id, text: rest.join('\t') }, where)];
  });
}

function parsed(line, where) {
  try {
    return JSON.parse(line);
  } catch (error) {
    throw new Error(`${where} is not JSON: ${error.message}`);
  }
}

function query(one, where) {
  const id = one.id ?? one._id;
  if (id === undefined || !String(id).trim() || typeof one.text !== 'string' || !one.text.trim()) {
    throw new Error(`${where} needs an id and a text: {"id": "q1", "text": "night nurse"}, or both with a tab between them.`);
  }
  return { id: String(id).trim(), text: one.text };
}

/** Judgments as the server takes them. */
export function readJudgments(text) {
  const trimmed = text.trim();
  if (!trimmed) throw new Error('There are no judgments: one a line, such as q1 0 j813 3 (query, 0, document, grade).');
  if (trimmed.startsWith('{')) return parsed(trimmed, 'the judgments');
  const lines = trimmed.split(/\r?\n/);
  if (!/^query-id\tcorpus-id\tscore/.test(lines[0])) return trimmed;
  return lines.slice(1).filter((line) => line.trim()).map((line) => line.split('\t')).map(([q, document, grade]) => `${q} 0 ${document} ${grade}`).join('\n');
}

/** A variant: its name, and JSON of what it does otherwise than a search that says nothing. */
export function readVariant(name, text) {
  const rest = text.trim() ? parsed(text, `the variant ${name}`) : {};
  return { ...rest, name };
}
