import { generateKeyPairSync } from 'node:crypto'
import type pg from 'pg'
import { expect, test } from 'vitest'
import { expectError } from '../documents/fixture.ts'
import { useDatabase } from '../setup/database.ts'
import { needs } from '../setup/needs.ts'
import { inTransaction, useRowhouse } from './support.ts'

const database = useDatabase()
const fixture = useRowhouse(database)

/** A tenant with a trail of this many entries of its own. */
async function provisionWithEntries(tenantId: string, count: number): Promise<void> {
  await fixture.rowhouse.tenants.provision(tenantId)
  await append(tenantId, count)
}

async function append(tenantId: string, count: number): Promise<void> {
  const entries = Array.from({ length: count }, (_, index) => ({ action: 'chain.entry', detail: { index } }))
  await fixture.rowhouse.tenant(tenantId).audit.append(entries)
}

test('sealing makes segments, and again only of what is new', async () => {
  const { auditLog } = fixture.rowhouse
  await provisionWithEntries('sealing', 24)
  // 24 and the one of the provisioning.
  const sealed = await auditLog.seal('sealing', { segmentSize: 10 })
  expect(sealed).toEqual({
    tenantId: 'sealing',
    sealed: 25,
    segment: 3,
    entries: 25,
    digest: expect.stringMatching(/^[0-9a-f]{64}$/),
  })
  expect(await auditLog.seal('sealing')).toEqual({ ...sealed, sealed: 0 })
  await append('sealing', 1)
  const next = await auditLog.seal('sealing')
  expect(next).toMatchObject({ sealed: 1, segment: 4, entries: 26 })
  expect(next.digest).not.toBe(sealed.digest)
  expect(await auditLog.verify('sealing', { anchor: sealed.digest })).toEqual({
    tenantId: 'sealing',
    intact: true,
    segments: 4,
    entries: 26,
    purgedEntries: 0,
    unsealed: 0,
    digest: next.digest,
    findingCount: 0,
    findings: [],
  })
})

test('a trail is intact before anything is sealed, and between', async () => {
  const { auditLog } = fixture.rowhouse
  await provisionWithEntries('unsealed', 3)
  expect(await auditLog.verify('unsealed')).toMatchObject({ intact: true, segments: 0, entries: 0, unsealed: 4 })
  await auditLog.seal('unsealed')
  await append('unsealed', 2)
  expect(await auditLog.verify('unsealed')).toMatchObject({ intact: true, segments: 1, entries: 4, unsealed: 2 })
})

test('without a tenant, all that have something to seal are sealed', async () => {
  const { auditLog } = fixture.rowhouse
  await auditLog.seal()
  await append('acme', 2)
  await append('globex', 3)
  const sealed = await auditLog.seal()
  expect(sealed.map(({ tenantId, sealed }) => [tenantId, sealed])).toEqual([
    ['acme', 2],
    ['globex', 3],
  ])
  expect(await auditLog.seal()).toEqual([])
})

test('an anchor that is not in the chain is a finding', async () => {
  const { auditLog } = fixture.rowhouse
  const { digest } = await auditLog.seal('globex')
  expect(await auditLog.verify('globex', { anchor: digest })).toMatchObject({ intact: true })
  expect(await auditLog.verify('globex', { anchor: 'ab'.repeat(32) })).toMatchObject({
    intact: false,
    findings: [{ kind: 'missing', object: 'anchor' }],
  })
  await expectError(auditLog.verify('globex', { anchor: 'zz' }), 'invalid_argument')
})

test('unknown tenants and bad options are refused', async () => {
  const { auditLog } = fixture.rowhouse
  await expectError(auditLog.verify('nobody'), 'tenant_not_found')
  await expectError(auditLog.seal('nobody'), 'tenant_not_found')
  await expectError(auditLog.purge('nobody', { before: new Date() }), 'tenant_not_found')
  await expectError(auditLog.seal('no tenant'), 'invalid_tenant_id')
  await expectError(auditLog.seal('acme', { segmentSize: 0 }), 'invalid_argument')
  await expectError(auditLog.seal('acme', { signingKey: 'no key' }), 'invalid_argument', /not PEM text/)
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  await expectError(auditLog.seal('acme', { signingKey: privateKey }), 'invalid_argument', /not an Ed25519 key/)
})

test('signatures show who sealed, and are checked with the public key alone', async () => {
  const { auditLog } = fixture.rowhouse
  const ours = generateKeyPairSync('ed25519')
  const others = generateKeyPairSync('ed25519')
  const publicPem = ours.publicKey.export({ type: 'spki', format: 'pem' }).toString()
  const privatePem = ours.privateKey.export({ type: 'pkcs8', format: 'pem' }).toString()
  await provisionWithEntries('signed', 5)
  await auditLog.seal('signed', { signingKey: privatePem })
  await append('signed', 1)
  await auditLog.seal('signed')
  expect(await auditLog.verify('signed', { publicKeys: [publicPem, others.publicKey] })).toMatchObject({
    intact: true,
    segments: 2,
    signedThrough: 1,
  })
  expect(await auditLog.verify('signed', { publicKeys: [others.publicKey] })).toMatchObject({
    intact: false,
    signedThrough: 0,
    findings: [{ kind: 'missing', object: 'signature' }],
  })
  expect((await auditLog.verify('signed')).signedThrough).toBeUndefined()
})

test('retention removes old entries, and the chain stays verifiable', async () => {
  const { auditLog } = fixture.rowhouse
  await provisionWithEntries('retained', 9)
  const first = await auditLog.seal('retained', { segmentSize: 5 })
  const between = await databaseTime()
  await append('retained', 3)
  expect(await auditLog.purge('retained', { before: new Date(0) })).toEqual({ removed: 0 })
  expect(await auditLog.purge('retained', { before: between })).toEqual({ removed: 10 })
  expect(await fixture.rowhouse.tenant('retained').audit.query()).toHaveLength(3)
  expect(await auditLog.verify('retained', { anchor: first.digest })).toMatchObject({
    intact: true,
    entries: 13,
    purgedEntries: 10,
  })
  expect(await auditLog.purge('retained', { before: between })).toEqual({ removed: 0 })
  expect(await auditLog.purge('retained', { before: await databaseTime() })).toEqual({ removed: 3 })
  expect(await auditLog.verify('retained')).toMatchObject({ intact: true, entries: 13, purgedEntries: 13 })
})

/** A time of the database that lies between what happened before and what happens next. */
async function databaseTime(): Promise<Date> {
  const { rows } = await fixture.operator.query<{ now: Date }>(
    "select date_trunc('milliseconds', clock_timestamp()) + interval '1 millisecond' as now, pg_sleep(0.003)",
  )
  return rows[0]!.now
}

test('an erasure removes payloads and salts and leaves a chain that verifies', async () => {
  const { auditLog, tenants } = fixture.rowhouse
  await provisionWithEntries('leaving', 11)
  const before = await auditLog.seal('leaving')
  await append('leaving', 2)
  const receipt = await tenants.erase('leaving')
  // 13 entries, the provisioning and the beginning of the erasure.
  expect(receipt.tables['rowhouse.audit_entries']).toBe(15)
  expect(receipt.audit).toEqual({ entries: 15, segments: 3, digest: expect.stringMatching(/^[0-9a-f]{64}$/) })
  const verified = await auditLog.verify('leaving', { anchor: before.digest })
  expect(verified).toMatchObject({ intact: true, entries: 15, purgedEntries: 15, unsealed: 0 })
  expect(verified.digest).toBe(receipt.audit.digest)
  const { rows } = await database
    .connect('owner')
    .then((owner) =>
      inTransaction(owner, { role: 'rowhouse_owner', tenantId: 'leaving' }, () =>
        owner.query(
          'select from rowhouse.audit_entries union all select from rowhouse.audit_pending where tenant_id = $1',
          ['leaving'],
        ),
      ),
    )
  expect(rows).toHaveLength(0)
})

test('an erasure that is rolled back leaves the trail as it was', async () => {
  const { operator, rowhouse } = fixture
  await provisionWithEntries('staying', 4)
  await inTransaction(operator, { role: 'rowhouse_admin', rollback: true }, () =>
    operator.query("select rowhouse.erase_tenant('staying')"),
  )
  expect(await rowhouse.auditLog.verify('staying')).toMatchObject({ intact: true, entries: 0, unsealed: 5 })
})

test.each([
  ['rowhouse_owner', 'owner'],
  ['a superuser', 'superuser'],
] as const)('%s is refused every change of what was written', needs('superuser'), async (_who, login) => {
  const tenantId = `refusing-${login}`
  await provisionWithEntries(tenantId, 3)
  await fixture.rowhouse.auditLog.seal(tenantId)
  await append(tenantId, 1)
  const client = await database.connect(login)
  const attempt = (statement: string) =>
    inTransaction(client, { ...(login === 'owner' && { role: 'rowhouse_owner' }), tenantId, rollback: true }, () =>
      client.query(statement),
    )
  for (const table of ['audit_entries', 'audit_segments', 'audit_pending', 'audit_heads', 'audit_signatures']) {
    const statements = {
      update: `update rowhouse.${table} set tenant_id = tenant_id`,
      delete: `delete from rowhouse.${table} where tenant_id = '${tenantId}'`,
      truncate: `truncate rowhouse.${table} cascade`,
    }
    for (const [verb, statement] of Object.entries(statements)) {
      // Sealing moves the head and empties what is pending.
      if ((table === 'audit_heads' && verb === 'update') || (table === 'audit_pending' && verb === 'delete')) continue
      await expect(attempt(statement), statement).rejects.toMatchObject({ code: 'RH091' })
    }
  }
  // The control: without the trigger, the same statement succeeds.
  const { rowCount } = await inTransaction(
    client,
    { ...(login === 'owner' && { role: 'rowhouse_owner' }), tenantId, rollback: true },
    async () => {
      await client.query('alter table rowhouse.audit_entries disable trigger rowhouse_append_only')
      return client.query(`delete from rowhouse.audit_entries where tenant_id = '${tenantId}'`)
    },
  )
  expect(rowCount).toBe(5)
})

test('who may not see the chain learns nothing of it', async () => {
  const client: pg.Client = fixture.operator
  const { rows } = await inTransaction(client, { role: 'rowhouse_admin' }, () =>
    client.query('select from rowhouse.audit_segments'),
  )
  expect(rows.length).toBeGreaterThan(0)
  await expect(
    inTransaction(client, { role: 'rowhouse_admin' }, () => client.query('select from rowhouse.audit_entries')),
  ).rejects.toMatchObject({ code: '42501' })
})
