// Access tokens by their text: whose they are, and whether they still hold.

import { jwtVerify } from 'jose';

import { providersKey } from './keys.mjs';
import { jwtIsRevoked } from './store.mjs';

// The token's claims if it is a JWT of this provider that holds; undefined if not.
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

// Who the bearer of this token is: `{ account, client, scope }`, or undefined.
export async function bearer(provider, text) {
  if (typeof text !== 'string') return undefined;
  if (looksLikeJwt(text)) {
    const claims = await readJwt(text);
    return claims && { account: claims.sub, client: claims.client_id, scope: claims.scope };
  }
  const [own, users] = await Promise.all([
    provider.ClientCredentials.find(text),
    provider.AccessToken.find(text),
  ]);
  const token = own ?? users;
  return token && { account: token.accountId ?? token.clientId, client: token.clientId, scope: token.scope };
}

// A new access token for a person, and a refresh token beside it if that is wanted.
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
