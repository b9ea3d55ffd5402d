import fc from 'fast-check'
import { expect, test } from 'vitest'
import { digestOf, formatKey, generateKey, parseKey } from '../../src/keys/key-format.ts'

const tenantIds = fc.stringMatching(/^[a-zA-Z0-9_-]{1,64}$/)
const tiers = fc.stringMatching(/^[a-z][a-z0-9_-]{0,31}$/)

test('a key is read as it was written, whatever its tenant and tier contain', () => {
  fc.assert(
    fc.property(tenantIds, tiers, (tenantId, tier) => {
      const parts = { tenantId, ...generateKey() }
      expect(parseKey(formatKey(tier, parts))).toEqual(parts)
    }),
  )
})

test('tenants that look like other parts of a key', () => {
  const parts = generateKey()
  for (const tenantId of [
    '_',
    '__',
    '-',
    'rh_free_acme',
    'a_b_c',
    `${parts.keyId}`,
    `x_${parts.keyId}`,
    `${parts.keyId}_${parts.secret}`.slice(0, 64),
    'x'.repeat(64),
  ]) {
    expect(parseKey(formatKey('pro_plus', { tenantId, ...parts })), tenantId).toEqual({ tenantId, ...parts })
  }
})

test('what is no key is not taken for one', () => {
  const key = formatKey('free', { tenantId: 'acme', ...generateKey() })
  for (const text of [
    '',
    'rh_',
    key.slice(1),
    key.slice(0, -1),
    `${key}x`,
    ` ${key}`,
    `${key}\n`,
    key.replace('rh_', 'sk_'),
    key.replace('acme', 'ac me'),
    key.replace('acme', ''),
    key.replace('acme', "acme'; select 1; --"),
    key.replace('acme', 'x'.repeat(65)),
    'rh_'.repeat(1_000_000),
  ]) {
    expect(parseKey(text), text.slice(0, 100)).toBeUndefined()
  }
})

test('secrets are 256 bits, each as likely as any other', () => {
  const secrets = Array.from({ length: 2000 }, () => generateKey().secret)
  expect(new Set(secrets).size).toBe(2000)
  expect(secrets.every((secret) => /^[0-9A-Za-z]{43}$/.test(secret))).toBe(true)
  // 2^256 begins with a small digit in base 62, so the first place has few values; the last has all of them.
  expect(new Set(secrets.map((secret) => secret.at(-1))).size).toBe(62)
  expect(digestOf(secrets[0]!)).toHaveLength(32)
})
