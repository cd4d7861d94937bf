// What a collection's definition says about its documents' fields.

/** All values at a dotted path: `experience.title` reaches into objects and lists. */
export function valuesAt(document, path) {
  let found = [document];
  for (const part of path.split('.')) {
    found = found.flat().filter((value) => value !== null && typeof value === 'object').map((value) => value[part]);
  }
  return found.flat().filter((value) => value !== null && value !== undefined);
}

/** The field that plays a role; a field of that name does, unless another is told to. */
export function withRole(definition, role) {
  const told = Object.entries(definition.fields).find(([, field]) => field.role === role);
  return told?.[0] ?? (role in definition.fields ? role : undefined);
}

/** The field that a document is called by: its title, or what its text begins with. */
export function titleField(definition) {
  return withRole(definition, 'title') ?? definition.template.match(/\{([^}]+)\}/)?.[1];
}

/** What a document is called. */
export function titleOf(definition, id, fields) {
  const field = titleField(definition);
  return (field && valuesAt(fields, field).filter((value) => typeof value !== 'object').map(String).join(' · ')) || id;
}

/** What is asked most comes first; the others as the server lists them. */
const FIRST = ['remote', 'seniority', 'company', 'skills'];
const place = (name) => (FIRST.includes(name) ? FIRST.indexOf(name) : FIRST.length);

/** Indexed fields of some types, as `[name, field]`. */
export function indexed(definition, types) {
  return Object.entries(definition.fields)
    .filter(([, field]) => field.index && types.includes(field.type))
    .sort(([a], [b]) => place(a) - place(b));
}

/** Text fields but the title, in the template's order: what is read under a hit. */
export function textFields(definition) {
  const title = titleField(definition);
  return Object.keys(definition.fields).filter((name) => definition.fields[name].type === 'text' && name !== title);
}
