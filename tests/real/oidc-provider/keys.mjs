// Generates private keys of the provider and its clients on first use.

import { generateKeyPair } from 'node:crypto';
import { promisify } from 'node:util';

const generate = promisify(generateKeyPair);
const made = new Map();
const changes = new Map();

const kinds = {
  RS: ['rsa', { modulusLength: 2048 }],
  PS: ['rsa', { modulusLength: 2048 }],
  ES256: ['ec', { namedCurve: 'P-256' }],
  ES384: ['ec', { namedCurve: 'P-384' }],
  EdDSA: ['ed25519', {}],
};

// Returns a key. Owners share it until they change their key, because generating an RSA key is slow.
export async function keyFor(algorithm, owner) {
  const kind = kinds[algorithm] ?? kinds[algorithm.slice(0, 2)];
  const name = `${kind[0]} ${kind[1].namedCurve} ${changes.get(owner) ?? 0}`;
  if (!made.has(name)) made.set(name, generate(...kind));
  return made.get(name);
}

export function changeKey(owner) {
  changes.set(owner, (changes.get(owner) ?? 0) + 1);
}

// Returns the public key as a key set for one algorithm.
export async function publicKeys(algorithm, owner) {
  const { publicKey } = await keyFor(algorithm, owner);
  return { keys: [{ ...publicKey.export({ format: 'jwk' }), alg: algorithm, use: 'sig', kid: owner }] };
}

export async function privatePem(algorithm, owner) {
  const { privateKey } = await keyFor(algorithm, owner);
  return privateKey.export({ format: 'pem', type: 'pkcs8' });
}

export const providersKey = await keyFor('ES256', 'the provider');
export const providersKeyId = 'provider';
