// Implements the provider's storage in memory, and the changes that tests make to it.

const kept = new Map();
// JWTs are not stored by the provider, so their clients and revocations are recorded here.
const issuedJwts = new Map();
const revokedJwts = new Set();

const grantable = new Set(['AccessToken', 'RefreshToken']);

export class Store {
  constructor(model) {
    this.model = model;
  }

  key(id) {
    return `${this.model}:${id}`;
  }

  async upsert(id, payload, expiresIn) {
    const expires = expiresIn ? Date.now() + expiresIn * 1000 : Infinity;
    kept.set(this.key(id), { model: this.model, payload, expires });
  }

  async find(id) {
    const entry = kept.get(this.key(id));
    return entry && entry.expires > Date.now() ? entry.payload : undefined;
  }

  async consume(id) {
    const entry = kept.get(this.key(id));
    if (entry) entry.payload.consumed = Math.floor(Date.now() / 1000);
  }

  async destroy(id) {
    kept.delete(this.key(id));
  }

  async revokeByGrantId(grantId) {
    remove(({ model, payload }) => grantable.has(model) && payload.grantId === grantId);
  }
}

export async function putClient(metadata) {
  await new Store('Client').upsert(metadata.client_id, metadata);
}

export async function client(id) {
  return new Store('Client').find(id);
}

export function accessTokens(clientId) {
  return [...kept.values()].filter(isAccessTokenOf(clientId)).map(({ payload }) => payload.jti);
}

export function revokeAccessTokens(clientId) {
  const removed = remove(isAccessTokenOf(clientId));
  const jwts = issuedJwts.get(clientId) ?? [];
  jwts.forEach((id) => revokedJwts.add(id));
  issuedJwts.delete(clientId);
  return removed + jwts.length;
}

export function noteJwt({ clientId, jti }) {
  issuedJwts.set(clientId, [...(issuedJwts.get(clientId) ?? []), jti]);
}

export function jwtIsRevoked(jti) {
  return revokedJwts.has(jti);
}

function isAccessTokenOf(clientId) {
  return ({ model, payload }) => ['AccessToken', 'ClientCredentials'].includes(model) && payload.clientId === clientId;
}

function remove(which) {
  let removed = 0;
  for (const [key, entry] of kept) {
    if (which(entry)) {
      kept.delete(key);
      removed += 1;
    }
  }
  return removed;
}
