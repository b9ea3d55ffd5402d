import { createHash, randomBytes } from 'node:crypto'

/** The parts of a key as its owner shows it: `rh_<tier>_<tenant>_<public id>_<secret>`. */
export interface KeyParts {
  readonly tenantId: string
  readonly keyId: string
  /** 256 random bits in base 62. */
  readonly secret: string
}

/**
 * A tenant id may contain underscores, and so may look like any other part. But a tier is written without them, and id
 * and secret have a length each, so there is one way to read a key.
 */
const KEY =
  /^rh_[a-z][a-z0-9-]{0,31}_(?<tenantId>[a-zA-Z0-9_-]{1,64})_(?<keyId>[0-9a-f]{16})_(?<secret>[0-9A-Za-z]{43})$/

/** Longer texts are no keys, and are not looked at. */
const MAX_LENGTH = 200

/** Takes a key apart; undefined when it is not one. */
export function parseKey(text: string): KeyParts | undefined {
  if (text.length > MAX_LENGTH) return undefined
  const groups = KEY.exec(text)?.groups
  return groups === undefined ? undefined : { tenantId: groups.tenantId!, keyId: groups.keyId!, secret: groups.secret! }
}

export function formatKey(tier: string, { tenantId, keyId, secret }: KeyParts): string {
  return `rh_${tier.replaceAll('_', '-')}_${tenantId}_${keyId}_${secret}`
}

/** A new public id and secret. */
export function generateKey(): Omit<KeyParts, 'tenantId'> {
  return { keyId: randomBytes(8).toString('hex'), secret: toBase62(randomBytes(32)) }
}

/** What is kept of a secret: with 256 random bits nobody finds one by trying, so no slow hash is needed. */
export function digestOf(secret: string): Buffer {
  return createHash('sha256').update(secret).digest()
}

const DIGITS = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz'

/** 32 bytes as 43 digits. */
function toBase62(bytes: Buffer): string {
  let value = BigInt(`0x${bytes.toString('hex')}`)
  let text = ''
  for (; value > 0n; value /= 62n) text = DIGITS[Number(value % 62n)] + text
  return text.padStart(43, '0')
}
