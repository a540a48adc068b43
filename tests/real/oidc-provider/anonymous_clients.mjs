// Whoever asks with an assertion alone, as service accounts do, and neither names nor proves a client.

import { decodeJwt } from 'jose';

const jwtBearer = 'urn:ietf:params:oauth:grant-type:jwt-bearer';

// RFC 7521 §4.1: "Authentication of the client is optional …, and consequently, the "client_id" is only needed when a form of
// client authentication that relies on the parameter is used." oidc-provider does rely on it, so it is told who issued the
// assertion.
export async function nameNameless(context, next) {
  if (context.method === 'POST' && context.path === '/token' && !context.get('authorization')) {
    const chunks = [];
    for await (const chunk of context.req) chunks.push(chunk);
    const params = new URLSearchParams(Buffer.concat(chunks).toString());
    if (params.get('grant_type') === jwtBearer && !params.has('client_id') && !params.has('client_assertion')) {
      context.nameless = true;
      params.set('client_id', issuerOf(params.get('assertion')));
    }
    // The provider reads it here, since the stream is at its end.
    context.req.body = params.toString();
  }
  await next();
}

function issuerOf(assertion) {
  try {
    return decodeJwt(assertion).iss ?? '';
  } catch {
    return '';
  }
}
