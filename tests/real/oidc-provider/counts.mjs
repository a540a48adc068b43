// Counts the token requests of each client by outcome and grant.

const counts = new Map();

export function count(context, outcome) {
  const client = context.oidc.client?.clientId ?? 'unknown';
  const grant = context.oidc.params?.grant_type ?? 'none';
  const entry = counts.get(client) ?? {};
  const name = `${outcome} ${grant}`;
  entry[name] = (entry[name] ?? 0) + 1;
  counts.set(client, entry);
}

export function countsOf(client) {
  return counts.get(client) ?? {};
}
