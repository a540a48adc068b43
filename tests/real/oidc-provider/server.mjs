// Runs oidc-provider on loopback sockets, with a protected API and a control API for tests.
//
//   node server.mjs TLS-FOLDER ADDRESSES-FILE
//
// When all servers are ready, it writes their issuers to the file.

import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { join } from 'node:path';

import { api } from './api.mjs';
import { control } from './control.mjs';
import { realm } from './issuer.mjs';

const [folder, addresses] = process.argv.slice(2);
const file = (name) => readFileSync(join(folder, name));
const tls = { cert: file('server.pem'), key: file('server.key'), ca: file('authority.pem') };

const plain = createServer();
const secure = createTlsServer(tls);
// With mutual TLS. The provider validates the client certificates.
const mutual = createTlsServer({ ...tls, requestCert: true, rejectUnauthorized: false });
const ports = await Promise.all([plain, secure, mutual].map(listen));

const issuer = `http://127.0.0.1:${ports[0]}`;
const secureIssuer = `https://localhost:${ports[1]}`;
const aliases = { token_endpoint: `https://localhost:${ports[2]}/token` };

const tenants = '/tenants/orders';
const home = realm(issuer);
const plainRooms = { '': home, [tenants]: realm(issuer + tenants) };
const secureRooms = { '': realm(secureIssuer, { mtls_endpoint_aliases: aliases }) };

serve(plain, plainRooms);
serve(secure, secureRooms);
serve(mutual, secureRooms);

const lines = Object.entries({
  TOWER_BEARER_OIDC: issuer,
  TOWER_BEARER_OIDC_PATH: issuer + tenants,
  TOWER_BEARER_OIDC_TLS: secureIssuer,
});
// Renamed, so that no reader sees half of the file.
writeFileSync(`${addresses}.new`, lines.map(([name, value]) => `export ${name}=${value}\n`).join(''));
renameSync(`${addresses}.new`, addresses);

function listen(server) {
  // Longer than any test, so that the server closes no connection that a client is about to use.
  server.keepAliveTimeout = 300_000;
  return new Promise((ready) => {
    server.listen(0, '127.0.0.1', () => ready(server.address().port));
  });
}

function serve(server, rooms) {
  server.on('request', (request, response) => {
    const { url } = request;
    if (url.startsWith('/api/')) return api(home.provider, issuer, request, response);
    if (url.startsWith('/control/')) return control(home.provider, request, response);
    return toRoom(rooms, request, response);
  });
}

// Removes the issuer's path, which the provider does not expect.
function toRoom(rooms, request, response) {
  const wellKnown = '/.well-known/oauth-authorization-server';
  request.originalUrl = request.url;
  // RFC 8414 §3.1: a well-known path is inserted between the host and the issuer's path.
  if (request.url.startsWith(`${wellKnown}/`)) {
    const path = request.url.slice(wellKnown.length);
    if (rooms[path]) {
      request.originalUrl = path + wellKnown;
      request.url = wellKnown;
      return rooms[path].handle(request, response);
    }
  }
  const path = Object.keys(rooms).find((path) => path && request.url.startsWith(`${path}/`)) ?? '';
  request.url = request.url.slice(path.length);
  return rooms[path].handle(request, response);
}
