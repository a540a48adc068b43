// Reads and issues access tokens.

import { jwtVerify } from 'jose';

import { providersKey } from './keys.mjs';
import { jwtIsRevoked } from './store.mjs';

// Returns the claims of a valid JWT of this provider, otherwise undefined.
export async function readJwt(text) {
  try {
    const { payload } = await jwtVerify(text, providersKey.publicKey, { typ: 'at+jwt' });
    return jwtIsRevoked(payload.jti) ? undefined : payload;
  } catch {
    return undefined;
  }
}

export function looksLikeJwt(text) {
  return text.split('.').length === 3;
}

// Returns the owner of a valid token as `{ account, client, scope }`, otherwise undefined.
export async function bearer(provider, text) {
  if (typeof text !== 'string') return undefined;
  if (looksLikeJwt(text)) {
    const claims = await readJwt(text);
    return claims && { account: claims.sub, client: claims.client_id, scope: claims.scope };
  }
  const [own, users] = await Promise.all([provider.ClientCredentials.find(text), provider.AccessToken.find(text)]);
  const token = own ?? users;
  return token && { account: token.accountId ?? token.clientId, client: token.clientId, scope: token.scope };
}

// Issues an access token for a user, and a refresh token if `refresh` is set.
export async function issue(provider, { account, client, scope, gty, resource, resourceInfo, extra, refresh }) {
  const grant = new provider.Grant({ accountId: account, clientId: client.clientId });
  grant.addOIDCScope(scope);
  if (resource) grant.addResourceScope(resource, scope);
  const grantId = await grant.save();
  const token = new provider.AccessToken({ accountId: account, client, grantId, gty, scope, extra });
  if (resource) token.resourceServer = new provider.ResourceServer(resource, resourceInfo);
  const accessToken = await token.save();
  let refreshToken;
  if (refresh) {
    refreshToken = await new provider.RefreshToken({
      accountId: account,
      client,
      grantId,
      gty,
      iiat: Math.floor(Date.now() / 1000),
      resource: refresh.resources ?? resource,
      rotations: 0,
      scope,
    }).save();
  }
  return { accessToken, refreshToken, expiresIn: token.expiration, scope };
}
