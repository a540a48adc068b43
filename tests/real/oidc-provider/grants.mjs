// Implements grants that oidc-provider does not have: token exchange, assertions and passwords.

import { errors } from 'oidc-provider';
import { decodeJwt, jwtVerify } from 'jose';

import { keyFor } from './keys.mjs';
import { accountOf, holderOf } from './accounts.mjs';
import { resourceServer } from './issuer.mjs';
import { bearer, issue } from './tokens.mjs';

const accessTokenType = 'urn:ietf:params:oauth:token-type:access_token';
const jwtType = 'urn:ietf:params:oauth:token-type:jwt';

const { InvalidGrant, InvalidRequest } = errors;

export function addGrants(provider) {
  const add = (name, grant, ...parameters) =>
    provider.registerGrantType(name, (context) => grant(provider, context), ...parameters);
  const types = ['subject_token', 'subject_token_type', 'actor_token', 'actor_token_type', 'requested_token_type'];
  const urn = 'urn:ietf:params:oauth:grant-type';
  add(`${urn}:token-exchange`, exchange, ['audience', 'resource', 'scope', ...types], ['audience', 'resource']);
  add(`${urn}:jwt-bearer`, assertion, ['assertion', 'scope', 'requested_token_use', 'resource'], ['resource']);
  add(`${urn}:saml2-bearer`, saml, ['assertion', 'scope']);
  add('password', password, ['username', 'password', 'scope']);
}

// RFC 8693: token exchange, optionally with an actor.
async function exchange(provider, context) {
  const { params } = context.oidc;
  if (params.subject_token_type !== accessTokenType) {
    throw new InvalidRequest('subject_token_type must be the type of access tokens');
  }
  const subject = await bearer(provider, params.subject_token);
  // RFC 8693 §2.2.2: "If the request itself is not valid or if either the subject_token or actor_token are invalid …
  // the authorization server MUST construct an error response … The value of the error parameter MUST be the invalid_request
  // error code."
  if (!subject) throw new InvalidRequest('subject_token is invalid');
  let actor;
  if (params.actor_token !== undefined) {
    if (params.actor_token_type !== accessTokenType) throw new InvalidRequest('actor_token_type must be the type of access tokens');
    actor = await bearer(provider, params.actor_token);
    if (!actor) throw new InvalidRequest('actor_token is invalid');
  } else if (params.actor_token_type !== undefined) {
    // RFC 8693 §2.1: "actor_token_type … MUST NOT be included otherwise."
    throw new InvalidRequest('actor_token_type without actor_token');
  }
  const requested = params.requested_token_type ?? accessTokenType;
  if (![accessTokenType, jwtType].includes(requested)) throw new InvalidRequest('requested_token_type is unknown');
  const issued = await issueFor(provider, context, {
    account: subject.account,
    scope: params.scope ?? subject.scope,
    gty: 'token_exchange',
    extra: { ...(actor && { act: { sub: actor.account } }), ...(params.audience && { for: params.audience }) },
  });
  context.body = {
    access_token: issued.accessToken,
    issued_token_type: requested,
    // RFC 8693 §2.2.1: "If the issued token is not an access token or usable as an access token, then the token_type value
    // N_A is used".
    token_type: requested === accessTokenType ? 'Bearer' : 'N_A',
    expires_in: issued.expiresIn,
    scope: issued.scope,
  };
}

// RFC 7523 §2.1: an assertion, which is a user's access token (on behalf of) or a service account's own JWT.
async function assertion(provider, context) {
  const { params } = context.oidc;
  if (!params.assertion) throw new InvalidRequest('assertion is missing');
  if (params.requested_token_use === 'on_behalf_of') return onBehalfOf(provider, context);
  const claims = await serviceAccount(provider, context);
  const issued = await issueFor(provider, context, {
    account: claims.sub,
    scope: params.scope ?? claims.scope ?? 'read',
    gty: 'jwt_bearer',
  });
  context.body = answer(issued);
}

async function onBehalfOf(provider, context) {
  const { params, client } = context.oidc;
  const user = await bearer(provider, params.assertion);
  if (!user) throw new InvalidGrant('the assertion is not a valid access token');
  const scope = params.scope ?? 'read';
  const issued = await issueFor(provider, context, {
    account: user.account,
    scope,
    gty: 'on_behalf_of',
    extra: { act: { sub: client.clientId } },
    refresh: scope.split(' ').includes('offline_access') && {},
  });
  context.body = answer(issued);
}

// RFC 7523 §3: checks issuer, audience, expiry and single use of the assertion.
async function serviceAccount(provider, context) {
  const { client, params } = context.oidc;
  const { publicKey } = await keyFor('RS256', client.clientId);
  const audience = [...context.oidc.clientJwtAuthExpectedAudience()];
  // Google requires no subject if the account acts for itself. Such a request has no client authentication.
  const requiredClaims = ['iss', 'aud', 'exp', 'jti', ...(context.nameless ? [] : ['sub'])];
  const issuer = client.clientId;
  let payload;
  try {
    ({ payload } = await jwtVerify(params.assertion, publicKey, { issuer, audience, requiredClaims, algorithms: ['RS256'] }));
  } catch (cause) {
    throw new InvalidGrant(`the assertion is invalid: ${cause.message}`);
  }
  const { iss, jti, exp } = decodeJwt(params.assertion);
  if (!(await provider.ReplayDetection.unique(iss, jti, exp))) throw new InvalidGrant('the assertion was used before');
  return { sub: issuer, ...payload };
}

// RFC 7522 §2.1: an assertion in XML. It is valid if a test registered exactly this text.
async function saml(provider, context) {
  const { params } = context.oidc;
  if (!params.assertion) throw new InvalidRequest('assertion is missing');
  // RFC 7522 §2.1: "The SAML Assertion XML data MUST be encoded using base64url … SHOULD NOT be line-wrapped and pad
  // characters ("=") SHOULD NOT be included."
  if (!/^[A-Za-z0-9_-]+$/.test(params.assertion)) throw new InvalidGrant('the assertion is not in base64url');
  const account = accountOf(Buffer.from(params.assertion, 'base64url').toString());
  if (!account) throw new InvalidGrant('no test has registered this assertion');
  const issued = await issueFor(provider, context, { account, scope: params.scope ?? 'read', gty: 'saml2_bearer' });
  context.body = answer(issued);
}

// RFC 6749 §4.3: name and password of a user.
async function password(provider, context) {
  const { params } = context.oidc;
  if (!params.username || !params.password) throw new InvalidRequest('username or password is missing');
  const account = holderOf(params.username, params.password);
  if (!account) throw new InvalidGrant('wrong username or password');
  const issued = await issueFor(provider, context, { account, scope: params.scope ?? 'read', gty: 'password' });
  context.body = answer(issued);
}

function issueFor(provider, context, what) {
  const { client, params } = context.oidc;
  const { resource } = params;
  if (Array.isArray(resource)) throw new errors.InvalidTarget('one resource at a time');
  const resourceInfo = resource && resourceServer(resource);
  return issue(provider, { client, resource, resourceInfo, ...what });
}

function answer({ accessToken, refreshToken, expiresIn, scope }) {
  return { access_token: accessToken, refresh_token: refreshToken, token_type: 'Bearer', expires_in: expiresIn, scope };
}
