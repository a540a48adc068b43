// Accepts token requests without client authentication, as service accounts send them with an assertion.

import { decodeJwt } from 'jose';

const jwtBearer = 'urn:ietf:params:oauth:grant-type:jwt-bearer';

// RFC 7521 §4.1: "Authentication of the client is optional …, and consequently, the "client_id" is only needed when a form of
// client authentication that relies on the parameter is used." oidc-provider relies on it, so the issuer of the assertion is
// inserted.
export async function nameNameless(context, next) {
  if (context.method === 'POST' && context.path === '/token' && !context.get('authorization')) {
    const chunks = [];
    for await (const chunk of context.req) chunks.push(chunk);
    const params = new URLSearchParams(Buffer.concat(chunks).toString());
    if (params.get('grant_type') === jwtBearer && !params.has('client_id') && !params.has('client_assertion')) {
      context.nameless = true;
      params.set('client_id', issuerOf(params.get('assertion')));
    }
    // The provider reads the body from here, because the stream was consumed.
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
