import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import { expect, test } from 'vitest'
import type { AuditEntry, LostAuditEntries } from '../../src/index.ts'
import { expectError } from '../documents/fixture.ts'
import { useDatabase } from '../setup/database.ts'
import { needs } from '../setup/needs.ts'
import { startProxy } from '../setup/proxy.ts'
import { ACME, GLOBEX, openRowhouse, useRowhouse } from './support.ts'

const database = useDatabase()
const fixture = useRowhouse(database)

const countOf = async (action: string, tenantId = ACME) =>
  (await fixture.rowhouse.tenant(tenantId).audit.query({ action, limit: 1000 })).length

async function inAuditOf(tenantId: string, action: string): Promise<AuditEntry[]> {
  const lines = fixture.rowhouse.tenant(tenantId).audit.export({ action })
  return (await Array.fromAsync(lines)).map((line) => JSON.parse(line))
}

test('close writes everything that waits, in order, for every tenant', async () => {
  const rowhouse = openRowhouse(database, { auditBuffer: { maxDelayMs: 60_000 } })
  for (let index = 0; index < 321; index++) {
    const tenantId = index % 3 === 0 ? GLOBEX : ACME
    const { audit } = rowhouse.tenant(tenantId, { userId: `u_${index}`, requestId: 'r_b' })
    await audit.append({ action: 'close.entry', detail: { index } }, { buffered: true })
  }
  expect(rowhouse.auditLog.buffered).toBe(321)
  expect(await countOf('close.entry')).toBe(0)
  await rowhouse.close()
  const entries = await fixture.rowhouse
    .tenant(ACME)
    .audit.query({ action: 'close.entry', order: 'oldest', limit: 1000 })
  expect(entries).toHaveLength(214)
  expect(await countOf('close.entry', GLOBEX)).toBe(107)
  const indexes = entries.map(({ detail }) => detail.index as number)
  expect(indexes).toEqual(indexes.toSorted((one, other) => one - other))
  expect(entries[0]).toMatchObject({ userId: 'u_1', requestId: 'r_b' })
})

test('entries are written after the delay, as of when they happened', async () => {
  const before = Date.now()
  await fixture.rowhouse.tenant(ACME).audit.append({ action: 'delayed.entry' }, { buffered: true })
  const after = Date.now()
  await expect.poll(() => countOf('delayed.entry'), { timeout: 5000 }).toBe(1)
  const [entry] = await fixture.rowhouse.tenant(ACME).audit.query({ action: 'delayed.entry' })
  expect(entry!.occurredAt.getTime()).toBeGreaterThanOrEqual(before)
  expect(entry!.occurredAt.getTime()).toBeLessThanOrEqual(after)
  expect(fixture.rowhouse.auditLog.buffered).toBe(0)
})

test('an entry outlives the transaction that was rolled back, and stays outside of the one that goes on', async () => {
  const { rowhouse } = fixture
  await expect(
    rowhouse.withTenant(ACME, async (_db, tenant) => {
      await tenant.audit.append({ action: 'refused.entry', error: 'no' }, { buffered: true })
      throw new Error('rolled back')
    }),
  ).rejects.toThrow('rolled back')
  await rowhouse.auditLog.flush()
  expect(await countOf('refused.entry')).toBe(1)
  await rowhouse.withTenant(ACME, async (_db, tenant) => {
    await tenant.audit.append({ action: 'outside.entry' }, { buffered: true })
    await rowhouse.auditLog.flush()
    expect(await countOf('outside.entry')).toBe(1)
  })
})

test('with a full buffer, append waits for room', async () => {
  const rowhouse = openRowhouse(database, { auditBuffer: { maxDelayMs: 60_000, capacity: 10 } })
  const { audit } = rowhouse.tenant(ACME)
  for (let index = 0; index < 25; index++) await audit.append({ action: 'full.entry' }, { buffered: true })
  expect(rowhouse.auditLog.buffered).toBeLessThanOrEqual(10)
  expect(await countOf('full.entry')).toBeGreaterThanOrEqual(15)
  await rowhouse.close()
  expect(await countOf('full.entry')).toBe(25)
})

test('bad entries are refused at once', async () => {
  const { audit } = fixture.rowhouse.tenant(ACME)
  await expectError(audit.append({ action: 'No' }, { buffered: true }), 'invalid_audit_entry')
  await expectError(
    audit.append({ action: 'large.entry', detail: { text: 'x'.repeat(300_000) } }, { buffered: true }),
    'invalid_audit_entry',
    /detail has more than 262144 bytes/,
  )
  expect(fixture.rowhouse.auditLog.buffered).toBe(0)
})

test('what the database refuses for good is reported, and holds up no other tenant', async () => {
  const lost: LostAuditEntries[] = []
  const rowhouse = openRowhouse(database, { auditBuffer: { maxDelayMs: 60_000, onLost: (loss) => lost.push(loss) } })
  await rowhouse.tenants.provision('stopped')
  await rowhouse.tenant('stopped').audit.append({ action: 'lost.entry' }, { buffered: true })
  await rowhouse.tenants.erase('stopped')
  await rowhouse.tenant(ACME).audit.append({ action: 'lost.entry' }, { buffered: true })
  await rowhouse.close()
  expect(await countOf('lost.entry')).toBe(1)
  expect(lost).toMatchObject([{ tenantId: 'stopped', error: { code: 'tenant_inactive' } }])
  expect(JSON.parse(lost[0]!.entries[0]!)).toMatchObject({ action: 'lost.entry' })
})

test.each(['suspend', 'deactivate'] as const)(
  '%s loses no entry of what happened before, and takes none of later',
  async (stop) => {
    const lost: LostAuditEntries[] = []
    const rowhouse = openRowhouse(database, { auditBuffer: { maxDelayMs: 60_000, onLost: (loss) => lost.push(loss) } })
    const tenantId = `${stop}_late`
    await rowhouse.tenants.provision(tenantId)
    const { audit } = rowhouse.tenant(tenantId)
    const append = (index: number, occurredAt?: Date) =>
      audit.append({ action: 'late.entry', occurredAt, detail: { index } }, { buffered: true })
    for (let index = 0; index < 30; index++) await append(index)
    await rowhouse.tenants[stop](tenantId)
    await append(30, new Date(Date.now() + 60_000))
    await append(31, new Date(Date.now() - 60_000))
    // The control: what is no entry of before is refused.
    await expectError(
      audit.append({ action: 'late.entry' }),
      stop === 'suspend' ? 'tenant_suspended' : 'tenant_inactive',
    )
    await rowhouse.close()
    expect(lost).toMatchObject([{ tenantId, error: { code: 'tenant_suspended' } }])
    expect(lost[0]!.entries.map((entry) => JSON.parse(entry).detail.index)).toEqual([30])
    await fixture.rowhouse.tenants.resume(tenantId)
    const entries = await inAuditOf(tenantId, 'late.entry')
    expect(entries.map(({ detail }) => detail.index)).toEqual([...Array(30).keys(), 31])
    expect(await fixture.rowhouse.auditLog.verify(tenantId)).toMatchObject({ intact: true })
  },
)

test('after close nothing is taken that nobody would write', async () => {
  const rowhouse = openRowhouse(database)
  const { audit } = rowhouse.tenant(ACME)
  await audit.append({ action: 'closing.entry' }, { buffered: true })
  const closed = rowhouse.close()
  await closed
  await expectError(audit.append({ action: 'closing.entry' }, { buffered: true }), 'rowhouse_closed')
  expect(rowhouse.auditLog.buffered).toBe(0)
  expect(await countOf('closing.entry')).toBe(1)
})

test('of a batch with an entry that the database refuses, that entry alone is lost, and named', async () => {
  const owner = await database.connect('owner')
  await owner.query(
    `set role rowhouse_owner;
     alter table rowhouse.audit_entries add constraint no_bad_entry check (error <> 'bad')`,
  )
  const lost: LostAuditEntries[] = []
  const warnings: Error[] = []
  const collect = (warning: Error) => warnings.push(warning)
  process.on('warning', collect)
  try {
    for (const onLost of [(loss: LostAuditEntries) => lost.push(loss), undefined]) {
      const rowhouse = openRowhouse(database, { auditBuffer: { maxDelayMs: 60_000, onLost } })
      for (let index = 0; index < 700; index++) {
        const entry = {
          action: 'split.entry',
          detail: { index },
          error: [0, 44, 499, 699].includes(index) ? 'bad' : 'x',
        }
        await rowhouse.tenant(ACME).audit.append(entry, { buffered: true })
      }
      await rowhouse.close()
    }
  } finally {
    await new Promise(setImmediate)
    process.off('warning', collect)
    await owner.query('alter table rowhouse.audit_entries drop constraint no_bad_entry; reset role')
  }
  expect(lost.map(({ entries }) => JSON.parse(entries[0]!).detail.index)).toEqual([0, 44, 499, 699])
  expect(lost[0]).toMatchObject({
    tenantId: ACME,
    entries: [expect.any(String)],
    error: { code: 'invalid_audit_entry' },
  })
  expect(warnings.map(({ message }) => message)).toHaveLength(4)
  expect(warnings[0]!.message).toMatch(/^The audit entry "split.entry" of tenant "acme" could not be written: /)
  const entries = await inAuditOf(ACME, 'split.entry')
  expect(entries).toHaveLength(1392)
  const indexes = entries.slice(0, 696).map(({ detail }) => detail.index as number)
  expect(indexes).toEqual(indexes.toSorted((one, other) => one - other))
})

test('what onLost throws holds up nobody', async () => {
  const onLost = () => {
    throw new Error('no log')
  }
  const rowhouse = openRowhouse(database, { auditBuffer: { maxDelayMs: 60_000, onLost } })
  await rowhouse.tenant('nosuch').audit.append({ action: 'thrown.entry' }, { buffered: true })
  await rowhouse.tenant(ACME).audit.append({ action: 'thrown.entry' }, { buffered: true })
  await rowhouse.close()
  expect(await countOf('thrown.entry')).toBe(1)
})

test('a database that goes away and comes back loses nothing', needs('parallelBackends'), async () => {
  await using proxy = await startProxy(database.url('app'))
  const pool = database.pool('app', { connectionString: proxy.url, max: 2, connectionTimeoutMillis: 300 })
  const rowhouse = openRowhouse(database, { pool })
  const { audit } = rowhouse.tenant(ACME)
  await audit.append({ action: 'away.entry' })
  proxy.pause()
  proxy.cut()
  for (let index = 0; index < 20; index++) await audit.append({ action: 'away.entry' }, { buffered: true })
  await expect(rowhouse.auditLog.flush()).rejects.toThrow()
  expect(rowhouse.auditLog.buffered).toBe(20)
  proxy.resume()
  await expect.poll(() => countOf('away.entry'), { timeout: 10_000 }).toBe(21)
  await rowhouse.close()
})

test('close says what it could not write', needs('parallelBackends'), async () => {
  await using proxy = await startProxy(database.url('app'))
  const pool = database.pool('app', { connectionString: proxy.url, max: 2, connectionTimeoutMillis: 300 })
  const rowhouse = openRowhouse(database, { pool })
  const { audit } = rowhouse.tenant(ACME)
  await audit.append({ action: 'gone.entry' })
  proxy.pause()
  proxy.cut()
  await audit.append([{ action: 'gone.entry' }, { action: 'gone.entry' }], { buffered: true })
  await expectError(rowhouse.close(), 'audit_not_written', /^2 buffered audit entries/)
})

test('a process that is killed loses what waited, and nothing before', needs('parallelBackends'), async () => {
  const program = `
    import { createRowhouse } from '${import.meta.dirname}/../../src/index.ts'
    const rowhouse = createRowhouse({ connectionString: process.env.DATABASE_URL, auditBuffer: { maxDelayMs: 60000 } })
    const { audit } = rowhouse.tenant('${ACME}')
    await audit.append({ action: 'crash.written' }, { buffered: true })
    await rowhouse.auditLog.flush()
    await audit.append({ action: 'crash.waiting' }, { buffered: true })
    console.log('waiting', rowhouse.auditLog.buffered)`
  const child = spawn(process.execPath, ['--input-type=module', '-e', program], {
    env: { ...process.env, DATABASE_URL: database.url('app') },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const [output] = await once(child.stdout, 'data')
  expect(String(output)).toContain('waiting 1')
  child.kill('SIGKILL')
  await once(child, 'exit')
  await delay(100)
  expect(await countOf('crash.written')).toBe(1)
  expect(await countOf('crash.waiting')).toBe(0)
})
