import { createHash, createPrivateKey, createPublicKey, KeyObject } from 'node:crypto'
import { createRowhouseError } from '../errors.ts'

/** An Ed25519 key: a `KeyObject`, or PEM text. */
export type SigningKey = KeyObject | string

/** The private key, of which the public one follows. */
export function parsePrivateKey(key: SigningKey): KeyObject {
  return parseKey(key, createPrivateKey)
}

/** The public keys by their ids. */
export function trustedKeys(keys: readonly SigningKey[]): Map<string, KeyObject> {
  return new Map(
    keys.map((key) => {
      const publicKey = parseKey(key, createPublicKey)
      return [keyIdOf(publicKey), publicKey] as const
    }),
  )
}

/** SHA-256 of the public key (SPKI, DER), in hexadecimal; of a private key, of its public one. */
export function keyIdOf(key: KeyObject): string {
  const publicKey = key.type === 'private' ? createPublicKey(key) : key
  return createHash('sha256')
    .update(publicKey.export({ type: 'spki', format: 'der' }))
    .digest('hex')
}

function parseKey(key: SigningKey, create: (pem: string) => KeyObject): KeyObject {
  let parsed: KeyObject
  try {
    parsed = key instanceof KeyObject ? key : create(key)
  } catch {
    // The reason may quote the key.
    throw createRowhouseError('invalid_argument', 'The key is not PEM text of the needed kind.')
  }
  if (parsed.asymmetricKeyType !== 'ed25519') {
    throw createRowhouseError('invalid_argument', 'The key is not an Ed25519 key.', {
      hint: "Make one with crypto.generateKeyPairSync('ed25519').",
    })
  }
  return parsed
}
