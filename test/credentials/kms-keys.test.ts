// Master keys that never leave a key management service, which is a process of its own here.
import { inspect } from 'node:util'
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest'
import { masterKeysFromKms, type Rowhouse } from '../../src/index.ts'
import { inTransaction, openRowhouse } from '../audit/support.ts'
import { expectError } from '../documents/fixture.ts'
import { useDatabase } from '../setup/database.ts'
import { Kms } from './kms.ts'

const database = useDatabase()
const kms = new Kms()
const opened: Rowhouse[] = []
let keyId: string
let number = 0
let tenantId: string

beforeAll(async () => {
  await kms.start()
  keyId = await kms.createKey()
})
afterAll(() => kms.stop())
beforeEach(async () => {
  tenantId = `tenant-${number++}`
  await open().tenants.provision(tenantId)
})
afterEach(async () => {
  await kms.call('EnableKey', { KeyId: keyId })
  for (const rowhouse of opened.splice(0)) await rowhouse.close()
})

/** Another process: nothing decrypted is in its memory yet. */
function open(options: { readonly keyId?: string; readonly cacheMs?: number } = {}): Rowhouse {
  const keys = masterKeysFromKms({ client: kms, keyId: options.keyId ?? keyId })
  const rowhouse = openRowhouse(database, { credentials: { keys, cacheMs: options.cacheMs } })
  opened.push(rowhouse)
  return rowhouse
}

async function asOwner<Row>(text: string, values: unknown[] = [], inTenant = tenantId): Promise<Row[]> {
  const owner = await database.connect('owner')
  return inTransaction(
    owner,
    { role: 'rowhouse_owner', tenantId: inTenant },
    async () => (await owner.query(text, values)).rows,
  )
}

const calls = async () => (await kms.call('Calls', {})) as Record<string, number>

test('a credential comes back, in another process too, and the master key is that of the service', async () => {
  await open().tenant(tenantId).credentials.set('a', 'value')
  expect((await open().tenant(tenantId).credentials.get('a'))!.reveal()).toBe('value')
  expect(await asOwner('select master_key_id from rowhouse.credential_keys')).toEqual([{ master_key_id: keyId }])
})

test('the service decrypts a data key for its tenant and version only', async () => {
  const keys = masterKeysFromKms({ client: kms, keyId })
  const dataKey = Buffer.alloc(32, 7)
  const wrapped = await keys.wrap(dataKey, { tenantId, keyVersion: 1 })
  expect(Buffer.from(await keys.unwrap(wrapped, { tenantId, keyVersion: 1 }))).toEqual(dataKey)
  await expectError(
    keys.unwrap(wrapped, { tenantId: 'globex', keyVersion: 1 }),
    'credential_unreadable',
    /InvalidCiphertext/,
  )
  await expectError(keys.unwrap(wrapped, { tenantId, keyVersion: 2 }), 'credential_unreadable')
  // Negative control: what is encrypted without a context, another tenant's copy would open.
  const { CiphertextBlob } = await kms.encrypt({ KeyId: keyId, Plaintext: dataKey, EncryptionContext: {} })
  expect(await kms.decrypt({ KeyId: keyId, CiphertextBlob, EncryptionContext: {} })).toMatchObject({
    Plaintext: dataKey,
  })
})

test('rows of another tenant are of no use, though the master key is the same', async () => {
  const { credentials } = open().tenant(tenantId)
  await credentials.set('a', 'value')
  const [key] = await asOwner<{ wrapped_key: Buffer }>('select wrapped_key from rowhouse.credential_keys')
  const [row] = await asOwner<{ sealed: Buffer }>('select sealed from rowhouse.credentials')
  await open()
    .tenants.provision('thief')
    .catch(() => {})
  const columns = 'insert into rowhouse.credential_keys (key_version, master_key_id, wrapped_key) values (1, $1, $2)'
  await asOwner(columns, [keyId, key!.wrapped_key], 'thief')
  await asOwner(
    "insert into rowhouse.credentials (name, key_version, sealed) values ('a', 1, $1)",
    [row!.sealed],
    'thief',
  )
  await expectError(open().tenant('thief').credentials.get('a'), 'credential_unreadable')
})

test('a data key is decrypted once for as long as it stays in memory', async () => {
  await open().tenant(tenantId).credentials.set('a', 'value')
  const reads = async (cacheMs: number) => {
    const { Decrypt: before = 0 } = await calls()
    const { credentials } = open({ cacheMs }).tenant(tenantId)
    for (let read = 0; read < 5; read++) expect((await credentials.get('a'))!.reveal()).toBe('value')
    return (await calls()).Decrypt! - before
  }
  expect(await reads(60_000)).toBe(1)
  // Negative control: without it each read asks the service.
  expect(await reads(0)).toBe(5)
})

test('it expires: then a disabled master key is of no use any more', async () => {
  const { credentials } = open({ cacheMs: 300 }).tenant(tenantId)
  await credentials.set('a', 'value')
  await credentials.get('a')
  await kms.call('DisableKey', { KeyId: keyId })
  expect((await credentials.get('a'))!.reveal()).toBe('value')
  await new Promise((resolve) => setTimeout(resolve, 350))
  const error = await expectError(
    credentials.get('a'),
    'master_key_missing',
    /refuses the master key .*: DisabledException/,
  )
  expect(error).toMatchObject({ retryable: false, httpStatus: 500 })
  await expectError(credentials.set('a', 'other'), 'master_key_missing')
  await kms.call('EnableKey', { KeyId: keyId })
  expect((await credentials.get('a'))!.reveal()).toBe('value')
})

test('while the service does not answer, nothing is half written, and the error says to try again', async () => {
  const { credentials } = open().tenant(tenantId)
  kms.pause()
  try {
    const error = await expectError(credentials.set('a', 'canary-5c1e'), 'key_service_unavailable', /did not answer/)
    expect(error).toMatchObject({ retryable: true, httpStatus: 503 })
    expect(inspect(error)).not.toContain('canary')
    await expectError(
      open().withTenant(tenantId, async (_db, tenant) => {
        await tenant.state.set('before', 1)
        await tenant.credentials.set('a', 'value')
      }),
      'key_service_unavailable',
    )
  } finally {
    kms.resume()
  }
  for (const table of ['credentials', 'credential_keys', 'state']) {
    expect(await asOwner(`select from rowhouse.${table}`), table).toEqual([])
  }
  await credentials.set('a', 'value')
  expect((await credentials.get('a'))!.reveal()).toBe('value')
})

test('a rotation that the service interrupts keeps every credential readable, and goes on', async () => {
  const { credentials } = open().tenant(tenantId)
  for (const name of ['a', 'b', 'c']) await credentials.set(name, `value of ${name}`)
  kms.pause()
  await expectError(credentials.rotateKey(), 'key_service_unavailable').finally(() => kms.resume())
  for (const name of ['a', 'b', 'c']) expect((await credentials.get(name))!.reveal()).toBe(`value of ${name}`)
  expect(await credentials.rotateKey()).toEqual({ keyVersion: 2, credentials: 3 })
})

test('another master key takes over inside the service: no data key is decrypted here', async () => {
  await open().tenant(tenantId).credentials.set('a', 'value')
  const next = await kms.createKey()
  const { Decrypt: decrypted = 0, ReEncrypt: encrypted = 0 } = await calls()
  const rowhouse = open({ keyId: next })
  const { keys, failed } = await rowhouse.credentialKeys.rewrap()
  expect(failed.filter((one) => one.tenantId !== 'thief')).toEqual([])
  const after = await calls()
  expect(after.Decrypt ?? 0).toBe(decrypted)
  expect(after.ReEncrypt! - encrypted).toBe(keys)
  // The old one can go.
  await kms.call('DisableKey', { KeyId: keyId })
  expect((await open({ keyId: next }).tenant(tenantId).credentials.get('a'))!.reveal()).toBe('value')
  // Back, for the other tests.
  await kms.call('EnableKey', { KeyId: keyId })
  await open().credentialKeys.rewrap()
})

test.each(['', 'alias/rowhouse', 'arn:aws:kms:eu-central-1:111122223333:alias/rowhouse', 'x'.repeat(501)])(
  'refused as the id of a master key: %s',
  (id) => {
    expect(() => masterKeysFromKms({ client: kms, keyId: id })).toThrow(/id or ARN/)
  },
)
