// Configures oidc-provider for one issuer.

import { Provider, errors } from 'oidc-provider';

import { count } from './counts.mjs';
import { addGrants } from './grants.mjs';
import { providersKey, providersKeyId } from './keys.mjs';
import { nameNameless } from './anonymous_clients.mjs';
import { Store, noteJwt } from './store.mjs';

// The protected resources of RFC 8707, and the token format of each.
const resources = {
  'urn:stock': { scope: 'read write', accessTokenFormat: 'opaque' },
  'https://orders.example/v1': {
    scope: 'read write',
    accessTokenFormat: 'jwt',
    jwt: { sign: { alg: 'ES256', kid: providersKeyId } },
  },
};

export function resourceServer(resource) {
  const known = resources[resource];
  if (!known) throw new errors.InvalidTarget();
  return known;
}

export function realm(issuer, discovery = {}) {
  const provider = new Provider(issuer, configuration(discovery));
  addGrants(provider);
  provider.use(nameNameless);
  provider.on('client_credentials.issued', noteJwt);
  provider.on('access_token.issued', noteJwt);
  provider.on('grant.success', (context) => count(context, 'granted'));
  provider.on('grant.error', (context, error) => count(context, error.error));
  provider.on('server_error', (_, error) => console.error(error));
  return { provider, handle: provider.callback() };
}

function configuration(discovery) {
  const lifetime = (_context, _token, client) => client?.lifetime ?? 600;
  return {
    adapter: Store,
    clientAuthMethods: ['none', 'client_secret_basic', 'client_secret_post', 'client_secret_jwt', 'private_key_jwt',
      'tls_client_auth', 'self_signed_tls_client_auth'],
    discovery,
    enabledJWA: {
      clientAuthSigningAlgValues: ['HS256', 'RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'EdDSA'],
      idTokenSigningAlgValues: ['ES256'],
    },
    clientDefaults: { id_token_signed_response_alg: 'ES256' },
    extraTokenClaims: (_context, token) => token.extra,
    extraClientMetadata: { properties: ['lifetime'] },
    features: {
      clientCredentials: { enabled: true },
      devInteractions: { enabled: false },
      introspection: { enabled: true, allowedPolicy: () => true },
      mTLS: {
        enabled: true,
        selfSignedTlsClientAuth: true,
        tlsClientAuth: true,
        getCertificate: ({ socket }) => socket.getPeerX509Certificate?.(),
        certificateAuthorized: ({ socket }) => socket.authorized,
        certificateSubjectMatches: ({ socket }, _property, expected) =>
          socket.getPeerX509Certificate().subject === expected,
      },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => undefined,
        getResourceServerInfo: (_context, resource) => resourceServer(resource),
        useGrantedResource: () => true,
      },
      revocation: { enabled: true },
    },
    findAccount: (_context, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
    issueRefreshToken: () => true,
    jwks: { keys: [{ ...providersKey.privateKey.export({ format: 'jwk' }), alg: 'ES256', use: 'sig', kid: providersKeyId }] },
    // RFC 9700 §4.14.2: a refresh token is used once, and reuse revokes the grant.
    rotateRefreshToken: true,
    scopes: ['openid', 'offline_access', 'read', 'write'],
    ttl: { AccessToken: lifetime, ClientCredentials: lifetime, Grant: 86_400, RefreshToken: 86_400 },
  };
}
