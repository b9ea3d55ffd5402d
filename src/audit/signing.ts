import { createHash, createPrivateKey, createPublicKey, KeyObject, sign, verify } from 'node:crypto'
import { createRowhouseError } from '../errors.ts'

/** An Ed25519 key: a `KeyObject`, or PEM text. */
export type SigningKey = KeyObject | string

/** What is signed is never anything else that somebody signs with the same key. */
const PURPOSE = Buffer.from('rowhouse.audit/1\0')

/** A signature, and the key that made it. */
export interface DigestSignature {
  /** SHA-256 of the public key (SPKI, DER), in hexadecimal. */
  readonly keyId: string
  readonly signature: Buffer
}

/** Signs a digest of the chain. */
export function signDigest(digest: string, key: SigningKey): DigestSignature {
  const privateKey = parseKey(key, createPrivateKey)
  return { keyId: keyIdOf(createPublicKey(privateKey)), signature: sign(null, messageOf(digest), privateKey) }
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

/** Whether the key signed the digest. */
export function isSignedBy(digest: string, signature: Buffer, key: KeyObject): boolean {
  return verify(null, messageOf(digest), key, signature)
}

function messageOf(digest: string): Buffer {
  return Buffer.concat([PURPOSE, Buffer.from(digest, 'hex')])
}

function keyIdOf(key: KeyObject): string {
  return createHash('sha256')
    .update(key.export({ type: 'spki', format: 'der' }))
    .digest('hex')
}

function parseKey(key: SigningKey, create: (pem: string) => KeyObject): KeyObject {
  let parsed: KeyObject
  try {
    parsed = key instanceof KeyObject ? key : create(key)
  } catch {
    // The reason may quote the key.
    throw createRowhouseError('invalid_argument', 'The key of the audit log is not PEM text of the needed kind.')
  }
  if (parsed.asymmetricKeyType !== 'ed25519') {
    throw createRowhouseError('invalid_argument', 'The key of the audit log is not an Ed25519 key.', {
      hint: "Make one with crypto.generateKeyPairSync('ed25519').",
    })
  }
  return parsed
}
