// The control API for tests: each call is a POST of JSON to `/control/NAME`, and returns JSON.

import { X509Certificate, randomUUID } from 'node:crypto';

import { own } from './api.mjs';
import { countsOf } from './counts.mjs';
import { changeKey, privatePem, publicKeys } from './keys.mjs';
import { dropAssertion, putAssertion, putPerson } from './accounts.mjs';
import { resourceServer } from './issuer.mjs';
import { accessTokens, client as find, putClient, revokeAccessTokens } from './store.mjs';
import { issue } from './tokens.mjs';

const extensions = ['token-exchange', 'jwt-bearer', 'saml2-bearer'].map((name) => `urn:ietf:params:oauth:grant-type:${name}`);
const grants = ['client_credentials', 'refresh_token', 'password', ...extensions];

const calls = {
  // Registers a client: `{ auth, secret?, algorithm?, certificate?, subject?, lifetime?, scope? }`.
  async client({ auth, secret, algorithm, certificate, subject, lifetime, scope }) {
    const id = `client-${randomUUID()}`;
    const metadata = {
      client_id: id,
      client_secret: secret,
      grant_types: grants,
      redirect_uris: [],
      response_types: [],
      token_endpoint_auth_method: auth,
      token_endpoint_auth_signing_alg: auth.endsWith('_jwt') ? algorithm : undefined,
      tls_client_auth_subject_dn: subject,
      lifetime,
      scope,
    };
    if (auth === 'private_key_jwt') metadata.jwks = await publicKeys(algorithm, id);
    if (certificate) metadata.jwks = { keys: [selfSigned(certificate)] };
    await putClient(withoutGaps(metadata));
    // Service accounts sign with this key, too, with any client authentication.
    return { id, key: algorithm && !algorithm.startsWith('HS') ? await privatePem(algorithm, id) : undefined };
  },

  async secret({ client, secret }) {
    await putClient({ ...(await find(client)), client_secret: secret });
    return {};
  },

  async key({ client, algorithm }) {
    changeKey(client);
    await putClient({ ...(await find(client)), jwks: await publicKeys(algorithm, client) });
    return { key: await privatePem(algorithm, client) };
  },

  async revoke({ client }) {
    return { revoked: revokeAccessTokens(client) };
  },

  async tokens({ client }) {
    return { tokens: accessTokens(client) };
  },

  async person({ account, password }) {
    putPerson(account, password);
    return {};
  },

  // Registers an assertion for a user, or removes it.
  async assertion({ text, account }) {
    if (account) putAssertion(text, account);
    else dropAssertion(text);
    return {};
  },

  // Signs a user in, and returns an access token and a refresh token: `{ client, account, scope, resource? }`.
  async login({ client, account, scope, resource, resources }, provider) {
    return issue(provider, {
      account,
      client: await provider.Client.find(client),
      scope,
      gty: 'authorization_code',
      resource,
      resourceInfo: resource && resourceServer(resource),
      refresh: { resources },
    });
  },

  // Returns the client's token requests by outcome and grant: `"granted client_credentials": 3`.
  async counts({ client }) {
    return countsOf(client);
  },
};

await putClient({ ...own, grant_types: [], redirect_uris: [], response_types: [] });

export async function control(provider, request, response) {
  let body = '';
  for await (const chunk of request) body += chunk;
  const call = calls[request.url.slice('/control/'.length)];
  response.setHeader('content-type', 'application/json');
  try {
    response.end(JSON.stringify(await call(JSON.parse(body), provider)));
  } catch (error) {
    console.error(error);
    response.writeHead(500).end(JSON.stringify({ error: String(error) }));
  }
}

// Returns a self-signed certificate as a key of the client (RFC 8705 §2.2.2).
function selfSigned(certificate) {
  const x509 = new X509Certificate(certificate);
  return { ...x509.publicKey.export({ format: 'jwk' }), x5c: [x509.raw.toString('base64')] };
}

function withoutGaps(object) {
  return Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined));
}
