import { randomBytes } from 'node:crypto'
import { inspect } from 'node:util'
import { afterEach, beforeAll, expect, test } from 'vitest'
import type { KeyProvider, Rowhouse } from '../../src/index.ts'
import { masterKeysFromEnvironment } from '../../src/index.ts'
import { ACME, GLOBEX, inTransaction, openRowhouse, useRowhouse } from '../audit/support.ts'
import { expectError } from '../documents/fixture.ts'
import { useDatabase } from '../setup/database.ts'
import { needs } from '../setup/needs.ts'

const VARIABLE = 'TEST_MASTER_KEYS'
const FIRST = `first:${randomBytes(32).toString('base64')}`
const SECOND = `second:${randomBytes(32).toString('base64')}`
process.env[VARIABLE] = FIRST

const database = useDatabase()
const fixture = useRowhouse(database, { credentials: { keys: masterKeysFromEnvironment(VARIABLE) } })
const opened: Rowhouse[] = []
afterEach(async () => {
  process.env[VARIABLE] = FIRST
  for (const rowhouse of opened.splice(0)) await rowhouse.close()
})

/** Another process: nothing decrypted is in its memory yet. */
function open(keys: KeyProvider | undefined = masterKeysFromEnvironment(VARIABLE)): Rowhouse {
  const rowhouse = openRowhouse(database, keys === undefined ? {} : { credentials: { keys } })
  opened.push(rowhouse)
  return rowhouse
}

async function provision(tenantId: string) {
  await fixture.rowhouse.tenants.provision(tenantId)
  return fixture.rowhouse.tenant(tenantId, { userId: 'u_3' }).credentials
}

/** Runs SQL as the owner of the tables, in a tenant. */
async function asOwner<Row>(tenantId: string, text: string, values: unknown[] = []): Promise<Row[]> {
  const owner = await database.connect('owner')
  return inTransaction(owner, { role: 'rowhouse_owner', tenantId }, async () => (await owner.query(text, values)).rows)
}

const SECRET = 'sk-Ünïcode-canary-7f3a'

beforeAll(async () => {
  await fixture.rowhouse.tenant(ACME).credentials.set('openai/api-key', SECRET)
})

test('a credential comes back as it was stored, in another process too', async () => {
  const { credentials } = fixture.rowhouse.tenant(ACME)
  expect((await credentials.get('openai/api-key'))!.reveal()).toBe(SECRET)
  expect((await open().tenant(ACME).credentials.get('openai/api-key'))!.reveal()).toBe(SECRET)
  await credentials.set('openai/api-key', `${SECRET}-2`)
  expect((await credentials.get('openai/api-key'))!.reveal()).toBe(`${SECRET}-2`)
  await credentials.set('openai/api-key', SECRET)
  expect(await credentials.get('missing')).toBeUndefined()
  expect(await credentials.list()).toEqual([
    { name: 'openai/api-key', keyVersion: 1, createdAt: expect.any(Date), updatedAt: expect.any(Date) },
  ])
  expect(await credentials.delete('missing')).toBe(false)
})

test('no log shows a secret by accident', async () => {
  const secret = (await fixture.rowhouse.tenant(ACME).credentials.get('openai/api-key'))!
  for (const text of [
    `${secret}`,
    JSON.stringify({ secret }),
    inspect({ secret }, { showHidden: true }),
    inspect(secret),
  ]) {
    expect(text).not.toContain('canary')
    expect(text).toContain('[secret]')
  }
})

test('neither statements nor tables nor errors hold a value or a master key', async () => {
  const seen: string[] = []
  const rowhouse = openRowhouse(database, {
    credentials: { keys: masterKeysFromEnvironment(VARIABLE) },
    log: (event) => {
      seen.push(
        event.query.sql,
        ...event.query.parameters.map((value) => (Buffer.isBuffer(value) ? value.toString('latin1') : String(value))),
      )
    },
  })
  opened.push(rowhouse)
  const { credentials } = rowhouse.tenant(ACME)
  await credentials.set('canary', 'plain-canary-91c2')
  await credentials.get('canary')
  await credentials.rotateKey()
  for (const name of ['canary', '-bad name']) {
    seen.push(inspect(await credentials.set(name, 'plain-canary-91c2'.repeat(9000)).catch((error: unknown) => error)))
  }
  const rows = await asOwner<{ row: string }>(
    ACME,
    `select t::text || encode(sealed, 'escape') as row from rowhouse.credentials t
      union all select k::text || encode(wrapped_key, 'escape') from rowhouse.credential_keys k
      union all select e::text from rowhouse.audit_entries e`,
  )
  seen.push(...rows.map(({ row }) => row))
  expect(seen.join('\n')).toContain('put_credential')
  expect(seen.join('\n')).not.toContain('plain-canary')
  expect(seen.join('\n')).not.toContain(FIRST.split(':')[1])
  await credentials.delete('canary')
})

test('two credentials of one value look different, and so does one that is stored again', async () => {
  const credentials = await provision('nonces')
  await credentials.set('a', 'same')
  await credentials.set('b', 'same')
  const sealed = () => asOwner<{ sealed: Buffer }>('nonces', 'select sealed from rowhouse.credentials order by name')
  const [first, second] = (await sealed()).map((row) => row.sealed.toString('hex'))
  await credentials.set('a', 'same')
  const again = (await sealed())[0]!.sealed.toString('hex')
  expect(new Set([first, second, again]).size).toBe(3)
})

test('what was encrypted for one name, tenant or key version is of no use for another', async () => {
  const credentials = await provision('bound')
  await credentials.set('a', 'value of a')
  await credentials.set('b', 'value of b')
  await asOwner(
    'bound',
    "update rowhouse.credentials set sealed = (select sealed from rowhouse.credentials where name = 'a') where name = 'b'",
  )
  await expectError(credentials.get('b'), 'credential_unreadable')
  expect((await credentials.get('a'))!.reveal()).toBe('value of a')
  // The same rows, key and all, in another tenant.
  const others = await provision('bound-2')
  const [key] = await asOwner<{ wrapped_key: Buffer; master_key_id: string }>(
    'bound',
    'select * from rowhouse.credential_keys',
  )
  const [row] = await asOwner<{ sealed: Buffer }>('bound', "select sealed from rowhouse.credentials where name = 'a'")
  await asOwner(
    'bound-2',
    'insert into rowhouse.credential_keys (key_version, master_key_id, wrapped_key) values (1, $1, $2)',
    [key!.master_key_id, key!.wrapped_key],
  )
  await asOwner('bound-2', "insert into rowhouse.credentials (name, key_version, sealed) values ('a', 1, $1)", [
    row!.sealed,
  ])
  await expectError(others.get('a'), 'credential_unreadable', /Data key 1 of tenant "bound-2"/)
})

test('every bit of an encrypted value and key counts', async () => {
  const credentials = await provision('bits')
  await credentials.set('a', 'value')
  const [{ length }] = (await asOwner<{ length: number }>(
    'bits',
    'select octet_length(sealed) as length from rowhouse.credentials',
  )) as [{ length: number }]
  for (let byte = 0; byte < length; byte++) {
    await asOwner('bits', 'update rowhouse.credentials set sealed = set_byte(sealed, $1, get_byte(sealed, $1) # 1)', [
      byte,
    ])
    await expectError(credentials.get('a'), 'credential_unreadable')
    await asOwner('bits', 'update rowhouse.credentials set sealed = set_byte(sealed, $1, get_byte(sealed, $1) # 1)', [
      byte,
    ])
  }
  expect((await credentials.get('a'))!.reveal()).toBe('value')
  await asOwner(
    'bits',
    'update rowhouse.credential_keys set wrapped_key = set_byte(wrapped_key, 20, get_byte(wrapped_key, 20) # 1)',
  )
  await expectError(open().tenant('bits').credentials.get('a'), 'credential_unreadable')
})

test('without the master key nothing can be read', async () => {
  process.env[VARIABLE] = SECOND
  await expectError(
    open().tenant(ACME).credentials.get('openai/api-key'),
    'master_key_missing',
    /has no master key "first"/,
  )
  process.env[VARIABLE] = `first:${randomBytes(32).toString('base64')}`
  await expectError(open().tenant(ACME).credentials.get('openai/api-key'), 'credential_unreadable')
  const without = openRowhouse(database)
  opened.push(without)
  await expectError(without.tenant(ACME).credentials.get('openai/api-key'), 'master_key_missing', /need a provider/)
  await expectError(without.tenant(GLOBEX).credentials.set('a', 'x'), 'master_key_missing')
})

test(
  'rotating the data key encrypts everything anew, while others read and write',
  needs('parallelBackends'),
  async () => {
    const credentials = await provision('rotating')
    for (let index = 0; index < 20; index++) await credentials.set(`c/${index}`, `value ${index}`)
    const elsewhere = open().tenant('rotating').credentials
    let rotating = true
    let reads = 0
    const reading = (async () => {
      while (rotating) {
        const index = reads++ % 20
        expect((await elsewhere.get(`c/${index}`))!.reveal()).toMatch(new RegExp(`^(value|written) ${index}$`))
      }
    })()
    const writing = (async () => {
      for (let index = 0; rotating && index < 20; index++) await elsewhere.set(`c/${index}`, `written ${index}`)
    })()
    for (let round = 0; round < 3; round++) await credentials.rotateKey()
    rotating = false
    await Promise.all([reading, writing])
    expect(reads).toBeGreaterThan(0)
    const final = await credentials.rotateKey()
    expect(final).toEqual({ keyVersion: 5, credentials: 20 })
    expect(await asOwner('rotating', 'select key_version::int as version from rowhouse.credential_keys')).toEqual([
      { version: 5 },
    ])
    expect((await credentials.list()).every(({ keyVersion }) => keyVersion === 5)).toBe(true)
  },
)

test('two rotations at once agree on one key', needs('parallelBackends'), async () => {
  const credentials = await provision('twice')
  await credentials.set('a', 'value')
  const results = await Promise.all([credentials.rotateKey(), open().tenant('twice').credentials.rotateKey()])
  expect(Math.max(...results.map(({ keyVersion }) => keyVersion))).toBeLessThanOrEqual(3)
  expect((await credentials.get('a'))!.reveal()).toBe('value')
})

test('two first credentials at once use one data key', needs('parallelBackends'), async () => {
  await provision('first-use')
  await Promise.all(
    [1, 2, 3].map((index) => open().tenant('first-use').credentials.set(`c/${index}`, `value ${index}`)),
  )
  const { credentials } = open().tenant('first-use')
  for (const index of [1, 2, 3]) expect((await credentials.get(`c/${index}`))!.reveal()).toBe(`value ${index}`)
})

test('rotating the master key encrypts the data keys anew, of suspended tenants too; then the old one can go', async () => {
  const credentials = await provision('remastered')
  await credentials.set('a', 'value')
  await provision('resting')
  await fixture.rowhouse.tenant('resting').credentials.set('a', 'resting value')
  await fixture.rowhouse.tenants.suspend('resting')
  process.env[VARIABLE] = `${SECOND}, ${FIRST}`
  const progress: number[] = []
  const { credentialKeys } = open()
  const done = await credentialKeys.rewrap({ onProgress: ({ keys }) => progress.push(keys) })
  expect(done.keys).toBeGreaterThanOrEqual(3)
  expect(progress.at(-1)).toBe(done.keys)
  // Those that other tests have damaged hold nobody up.
  expect(done.failed.map(({ tenantId }) => tenantId)).toEqual(['bits', 'bound-2'])
  expect((await credentialKeys.rewrap()).keys).toBe(0)

  process.env[VARIABLE] = SECOND
  await fixture.rowhouse.tenants.resume('resting')
  const rowhouse = open()
  expect((await rowhouse.tenant('remastered').credentials.get('a'))!.reveal()).toBe('value')
  expect((await rowhouse.tenant('resting').credentials.get('a'))!.reveal()).toBe('resting value')
  // Back, for the other tests.
  process.env[VARIABLE] = `${FIRST} ${SECOND}`
  await open().credentialKeys.rewrap()
})

test('changes are in the audit trail, values are not', async () => {
  const credentials = await provision('recorded')
  await credentials.set('a', SECRET)
  await credentials.rotateKey()
  await credentials.delete('a')
  const entries = await fixture.rowhouse
    .tenant('recorded')
    .audit.query({ action: 'rowhouse.credential.*', order: 'oldest' })
  expect(entries.map(({ action, userId, detail }) => [action, userId, detail])).toEqual([
    ['rowhouse.credential.add_key', 'u_3', { keyVersion: 1, masterKeyId: 'first' }],
    ['rowhouse.credential.set', 'u_3', { name: 'a' }],
    ['rowhouse.credential.add_key', 'u_3', { keyVersion: 2, masterKeyId: 'first' }],
    ['rowhouse.credential.drop_keys', 'u_3', { beforeVersion: 2 }],
    ['rowhouse.credential.delete', 'u_3', { name: 'a' }],
  ])
})

test('erasing a tenant destroys its data keys', async () => {
  const credentials = await provision('leaving')
  await credentials.set('a', 'value')
  await credentials.rotateKey()
  const receipt = await fixture.rowhouse.tenants.erase('leaving')
  expect(receipt.tables).toMatchObject({ 'rowhouse.credentials': 1, 'rowhouse.credential_keys': 1 })
  await expectError(credentials.get('a'), 'tenant_inactive')
})

test('a tenant reads and writes its own credentials only', async () => {
  const { app } = fixture
  await fixture.rowhouse.tenant(GLOBEX).credentials.set('hidden', 'value')
  const { rows } = await inTransaction(app, { role: 'rowhouse_app', tenantId: ACME }, () =>
    app.query('select tenant_id from rowhouse.credentials union select tenant_id from rowhouse.credential_keys'),
  )
  expect(rows).toEqual([{ tenant_id: ACME }])
  for (const statement of [
    'delete from rowhouse.credential_keys',
    "update rowhouse.credentials set name = 'x'",
    "insert into rowhouse.credentials (name, key_version, sealed) values ('x', 1, 'y')",
    "select rowhouse.list_credential_keys('globex')",
    "select rowhouse.rewrap_credential_key('globex', 1, 'x', 'y', 'z')",
  ]) {
    await expect(
      inTransaction(app, { role: 'rowhouse_app', tenantId: ACME }, () => app.query(statement)),
      statement,
    ).rejects.toMatchObject({ code: '42501' })
  }
  expect(await fixture.rowhouse.tenant(ACME).credentials.delete('hidden')).toBe(false)
  expect((await fixture.rowhouse.tenant(GLOBEX).credentials.get('hidden'))!.reveal()).toBe('value')
})

test('inside withTenant a credential shares the fate of the transaction', async () => {
  await provision('inside')
  await expect(
    fixture.rowhouse.withTenant('inside', async (_db, tenant) => {
      await tenant.credentials.set('a', 'value')
      expect((await tenant.credentials.get('a'))!.reveal()).toBe('value')
      throw new Error('undone')
    }),
  ).rejects.toThrow('undone')
  expect(await fixture.rowhouse.tenant('inside').credentials.get('a')).toBeUndefined()
})

test('bad names and values are refused, and the message does not repeat the value', async () => {
  const { credentials } = fixture.rowhouse.tenant(ACME)
  for (const name of ['', ' a', 'a b', '/a', 'x'.repeat(201)])
    await expectError(credentials.set(name, 'v'), 'invalid_credential')
  for (const value of ['', 'canary'.repeat(20_000), { canary: 1 } as never]) {
    const error = await expectError(credentials.set('a', value), 'invalid_credential')
    expect(inspect(error)).not.toContain('canary')
  }
})
