// A protected API that returns the claims of the token: `/api/SCOPE/…` requires that scope, `/api/any/…` any valid token.

import { client } from './store.mjs';
import { looksLikeJwt, readJwt } from './tokens.mjs';

// The API is a client of the provider, too, and introspects tokens.
export const own = { client_id: 'api', client_secret: 'the secret of the API' };

export async function api(provider, issuer, request, response) {
  const body = await read(request);
  const headers = request.headersDistinct.authorization ?? [];
  // RFC 6750 §3.1: "If the request lacks any authentication information …, the resource server SHOULD NOT include an error
  // code".
  if (headers.length === 0) return refuse(response, 401, 'Bearer realm="api"');
  const [, text] = /^Bearer ([A-Za-z0-9\-._~+/]+=*)$/.exec(headers[0]) ?? [];
  if (headers.length > 1 || !text) return refuse(response, 400, 'Bearer realm="api", error="invalid_request"');
  const claims = looksLikeJwt(text) ? await readJwt(text) : await introspect(issuer, text);
  if (!claims) {
    return refuse(response, 401, 'Bearer realm="api", error="invalid_token", error_description="the token is expired, revoked or unknown"');
  }
  const needed = request.url.split('/')[2];
  if (needed !== 'any' && !(claims.scope ?? '').split(' ').includes(needed)) {
    return refuse(response, 403, `Bearer realm="api", error="insufficient_scope", scope="${needed}"`);
  }
  response.setHeader('content-type', 'application/json');
  response.end(JSON.stringify({ ...claims, token: undefined, method: request.method, body }));
}

// Introspects a token over HTTP, like a separate API (RFC 7662).
async function introspect(issuer, token) {
  const { client_id: id, client_secret: secret } = await client(own.client_id);
  const basic = Buffer.from([id, secret].map(encodeURIComponent).join(':')).toString('base64');
  const answer = await fetch(`${issuer}/token/introspection`, {
    method: 'POST',
    headers: { authorization: `Basic ${basic}` },
    body: new URLSearchParams({ token }),
  });
  const claims = await answer.json();
  if (!answer.ok) throw new Error(`introspection: ${JSON.stringify(claims)}`);
  return claims.active ? claims : undefined;
}

function refuse(response, status, challenge) {
  response.writeHead(status, { 'www-authenticate': challenge });
  response.end();
}

async function read(request) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  return Buffer.concat(chunks).toString();
}
