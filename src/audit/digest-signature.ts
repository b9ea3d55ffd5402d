import { type KeyObject, sign, verify } from 'node:crypto'
import { keyIdOf, parsePrivateKey, type SigningKey } from '../signing/ed25519-keys.ts'

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
  const privateKey = parsePrivateKey(key)
  return { keyId: keyIdOf(privateKey), signature: sign(null, messageOf(digest), privateKey) }
}

/** Whether the key signed the digest. */
export function isSignedBy(digest: string, signature: Buffer, key: KeyObject): boolean {
  return verify(null, messageOf(digest), key, signature)
}

function messageOf(digest: string): Buffer {
  return Buffer.concat([PURPOSE, Buffer.from(digest, 'hex')])
}
