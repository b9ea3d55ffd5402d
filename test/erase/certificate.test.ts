// A certificate says what was erased to somebody who has only a public key.
import { createHash, generateKeyPairSync } from 'node:crypto'
import { CompactSign } from 'jose'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createRowhouse, type ErasureReceipt, type Rowhouse, verifyErasureCertificate } from '../../src/index.ts'
import { useDatabase } from '../setup/database.ts'

const database = useDatabase()
const { publicKey, privateKey } = generateKeyPairSync('ed25519')
const pem = { private: privateKey.export({ type: 'pkcs8', format: 'pem' }) as string }
let rowhouse: Rowhouse
let receipt: ErasureReceipt
let certificate: string
beforeAll(async () => {
  rowhouse = createRowhouse({ connectionString: database.url('owner') })
  await rowhouse.tenants.provision('acme')
  await rowhouse.tenants.provision('globex')
  await rowhouse.tenants.erase('globex')
  receipt = await rowhouse.tenants.erase('acme')
  certificate = await rowhouse.erasures.certify('acme', pem.private)
})
afterAll(() => rowhouse.close())

test('holds for the receipt that was written, and for anybody with the public key', async () => {
  expect(await verifyErasureCertificate(certificate, { publicKeys: [publicKey] })).toEqual(receipt)
  expect(await rowhouse.erasures.verify('acme', { certificate, publicKeys: [publicKey] })).toMatchObject({
    receipt,
    intact: true,
  })
})

describe('does not hold', () => {
  const refused = async (changed: string, problem: RegExp, keys = [publicKey]) => {
    await expect(verifyErasureCertificate(changed, { publicKeys: keys })).rejects.toMatchObject({
      code: 'invalid_certificate',
      message: expect.stringMatching(problem),
    })
  }

  test('when it was changed anywhere', async () => {
    const [header, payload, signature] = certificate.split('.') as [string, string, string]
    const more = Buffer.from(JSON.stringify({ ...receipt, rows: receipt.rows + 1 })).toString('base64url')
    await refused(`${header}.${more}.${signature}`, /cut off or changed/)
    await refused(
      `${header}.${payload}.${signature.startsWith('A') ? 'B' : 'A'}${signature.slice(1)}`,
      /cut off or changed/,
    )
    await refused(certificate.slice(0, -20), /cut off or changed/)
    await refused('', /cut off or changed/)
  })

  test('when another key signed it', async () => {
    await refused(certificate, /none of the given keys/, [generateKeyPairSync('ed25519').publicKey])
    await refused(certificate, /none of the given keys/, [])
  })

  test('when the key signed something else', async () => {
    const kid = createHash('sha256')
      .update(publicKey.export({ type: 'spki', format: 'der' }))
      .digest('hex')
    const other = await new CompactSign(Buffer.from(JSON.stringify(receipt)))
      .setProtectedHeader({ alg: 'EdDSA', typ: 'JWT', kid })
      .sign(privateKey)
    await refused(other, /no certificate of an erasure/)
  })

  test('for the erasure of another tenant', async () => {
    const { intact } = await rowhouse.erasures.verify('globex', { certificate, publicKeys: [publicKey] })
    expect(intact).toBe(false)
  })
})

test('there is none for a tenant that was not erased', async () => {
  await expect(rowhouse.erasures.certify('default', privateKey)).rejects.toMatchObject({ code: 'tenant_not_found' })
})

test('a key of another kind is refused, and not quoted', async () => {
  const { privateKey: other } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  await expect(rowhouse.erasures.certify('acme', other)).rejects.toMatchObject({ code: 'invalid_argument' })
  const secret = await rowhouse.erasures.certify('acme', '-----BEGIN PRIVATE KEY-----\nsecret').catch((error) => error)
  expect(secret.code).toBe('invalid_argument')
  expect(`${secret.stack}`).not.toContain('secret\n')
})
