import { sql } from 'kysely'
import { expect, test } from 'vitest'
import type { AuditEntryInput } from '../../src/index.ts'
import { expectError } from '../documents/fixture.ts'
import { useDatabase } from '../setup/database.ts'
import { ACME, GLOBEX, inTransaction, useRowhouse } from './support.ts'

const database = useDatabase()
const fixture = useRowhouse(database)
const acme = () => fixture.rowhouse.tenant(ACME, { userId: 'u_1', requestId: 'r_1' })

test('every field of an AI response trail comes back as it was written', async () => {
  const occurredAt = new Date('2026-03-01T12:00:00.123Z')
  const [id] = await acme().audit.append({
    action: 'chat.respond',
    occurredAt,
    model: 'small-1',
    inputTokens: 812,
    outputTokens: 96,
    cost: '0.00124000',
    documents: ['handbook/leave', 'handbook/"quoted", {braces}'],
    latencyMs: 640.4,
    error: 'cut off',
    detail: { prompt: 'Ünïcode \u2028 and "quotes"', nested: { list: [1, 2.5, null] } },
  })
  const [entry] = await acme().audit.query({ limit: 1 })
  expect(entry).toEqual({
    tenantId: ACME,
    id,
    recordedAt: expect.any(Date),
    occurredAt,
    login: expect.any(String),
    userId: 'u_1',
    requestId: 'r_1',
    action: 'chat.respond',
    model: 'small-1',
    inputTokens: 812,
    outputTokens: 96,
    cost: '0.00124000',
    documents: ['handbook/leave', 'handbook/"quoted", {braces}'],
    latencyMs: 640,
    error: 'cut off',
    detail: { prompt: 'Ünïcode \u2028 and "quotes"', nested: { list: [1, 2.5, null] } },
  })
})

test('entries of one call keep their order, and an entry may name another user', async () => {
  const ids = await acme().audit.append(
    Array.from({ length: 200 }, (_, index) => ({ action: 'order.step', userId: `u_${index}`, detail: { index } })),
  )
  expect([...ids].sort()).toEqual(ids)
  const entries = await acme().audit.query({ action: 'order.step', order: 'oldest', limit: 1000 })
  expect(entries.map(({ id }) => id)).toEqual(ids)
  expect(entries.map(({ detail }) => detail.index)).toEqual(ids.map((_, index) => index))
  expect(entries[7]).toMatchObject({ userId: 'u_7', requestId: 'r_1', model: null, cost: null, documents: null })
  expect(await acme().audit.append([])).toEqual([])
})

test('an entry shares the fate of the transaction that it is part of', async () => {
  const { rowhouse } = fixture
  await rowhouse.withTenant(ACME, async (_db, tenant) => {
    await tenant.audit.append({ action: 'kept.entry' })
  })
  await expect(
    rowhouse.withTenant(ACME, async (_db, tenant) => {
      await tenant.audit.append({ action: 'undone.entry' })
      throw new Error('undone')
    }),
  ).rejects.toThrow('undone')
  expect(await acme().audit.query({ action: ['kept.entry', 'undone.entry'] })).toMatchObject([{ action: 'kept.entry' }])
})

test('a tenant reads its own trail only', async () => {
  await fixture.rowhouse.tenant(GLOBEX).audit.append({ action: 'globex.secret' })
  expect(await acme().audit.query({ action: 'globex.*' })).toEqual([])
  expect(await fixture.rowhouse.tenant(GLOBEX).audit.query({ action: 'globex.*' })).toHaveLength(1)
})

test('queries filter by action, user, request, failure and time, page by page', async () => {
  const audit = fixture.rowhouse.tenant(GLOBEX, { requestId: 'r_q' }).audit
  for (let index = 0; index < 5; index++) {
    await audit.append({
      action: `page.${index % 2 === 0 ? 'even' : 'odd'}`,
      userId: `u_${index}`,
      error: index === 3 ? 'failed' : undefined,
    })
  }
  const indexesOf = async (query: Parameters<typeof audit.query>[0]) =>
    (await audit.query({ requestId: 'r_q', ...query })).map(({ userId }) => userId)
  expect(await indexesOf({})).toEqual(['u_4', 'u_3', 'u_2', 'u_1', 'u_0'])
  expect(await indexesOf({ action: 'page.even' })).toEqual(['u_4', 'u_2', 'u_0'])
  expect(await indexesOf({ action: ['page.odd', 'nothing*'] })).toEqual(['u_3', 'u_1'])
  expect(await indexesOf({ userId: 'u_2' })).toEqual(['u_2'])
  expect(await indexesOf({ failed: true })).toEqual(['u_3'])
  expect(await indexesOf({ failed: false, limit: 1 })).toEqual(['u_4'])
  const [, second, third] = await audit.query({ requestId: 'r_q' })
  expect(await indexesOf({ after: second!.id })).toEqual(['u_2', 'u_1', 'u_0'])
  expect(await indexesOf({ after: second!.id, order: 'oldest' })).toEqual(['u_4'])
  // Milliseconds of JavaScript, microseconds of the database: the bounds lie between entries only by chance.
  const from = new Date(third!.recordedAt.getTime())
  expect(await indexesOf({ from })).toContain('u_3')
  expect(await indexesOf({ to: new Date(from.getTime() - 60_000) })).toEqual([])
  expect(await indexesOf({ from: new Date(from.getTime() + 60_000) })).toEqual([])
  expect(await indexesOf({ from: new Date(0), to: new Date('2999-01-01') })).toHaveLength(5)
})

test('an export has every entry once, oldest first, with the salt of its commitment', async () => {
  const tenantId = 'exporting'
  await fixture.rowhouse.tenants.provision(tenantId)
  const audit = fixture.rowhouse.tenant(tenantId).audit
  const many = Array.from({ length: 1250 }, (_, index) => ({ action: 'bulk.entry', detail: { index } }))
  await audit.append(many)
  const lines: string[] = []
  for await (const line of audit.export({ action: 'bulk.*' })) lines.push(line)
  expect(lines).toHaveLength(1250)
  expect(lines.every((line) => line.endsWith('\n'))).toBe(true)
  const entries = lines.map((line) => JSON.parse(line))
  expect(entries.map(({ detail }) => detail.index)).toEqual(many.map(({ detail }) => detail.index))
  expect(entries[0].salt).toMatch(/^[0-9a-f-]{36}$/)
})

test.each<[string, unknown, RegExp]>([
  ['an action in capitals', { action: 'Capital' }, /action is not 1 to 100/],
  ['an action of rowhouse', { action: 'rowhouse.tenant.erase' }, /only rowhouse itself/],
  ['half a token', { action: 'a', inputTokens: 1.5 }, /inputTokens is not a whole number/],
  ['a cost with an exponent', { action: 'a', cost: '1e5' }, /cost is neither/],
  ['a cost that is no number', { action: 'a', cost: Number.NaN }, /cost is neither/],
  ['a negative latency', { action: 'a', latencyMs: -1 }, /latencyMs is negative/],
  ['a zero byte', { action: 'a', detail: { zero: '\0' } }, /zero byte/],
  ['a list as detail', { action: 'a', detail: [] }, /detail is not an object/],
  ['a field that there is not', { action: 'a', surprise: 1 }, /surprise/],
  ['more than 256 KB', { action: 'a', detail: { big: 'x'.repeat(300_000) } }, /detail has more than 262144 bytes/],
])('refused: %s', async (_what, entry, message) => {
  await expectError(acme().audit.append(entry as AuditEntryInput), 'invalid_audit_entry', message)
  await expectError(acme().audit.append([{ action: 'fine.entry' }, entry as AuditEntryInput]), 'invalid_audit_entry')
  expect(await acme().audit.query({ action: 'fine.entry' })).toEqual([])
})

test('SQL of any language appends, and is refused what the library refuses', async () => {
  const { app } = fixture
  const append = (entry: unknown) =>
    inTransaction(app, { role: 'rowhouse_app', tenantId: GLOBEX }, async () => {
      const { rows } = await app.query('select rowhouse.append_audit($1) as ids', [JSON.stringify(entry)])
      return rows[0].ids
    })
  await append({ action: 'sql.entry', inputTokens: 3 })
  expect(await fixture.rowhouse.tenant(GLOBEX).audit.query({ action: 'sql.entry' })).toMatchObject([{ inputTokens: 3 }])
  for (const entry of [
    { action: 'rowhouse.key.issue' },
    { action: 'no good' },
    { inputTokens: 3 },
    { action: 'a', tokens: 3 },
    { action: 'a', inputTokens: 'many' },
    { action: 'a', occurredAt: 'soon' },
    { action: 'a', detail: [] },
    'text',
    [1],
  ]) {
    await expect(append(entry), JSON.stringify(entry)).rejects.toMatchObject({ code: 'RH090' })
  }
  await expect(
    inTransaction(app, { role: 'rowhouse_app' }, () => app.query(`select rowhouse.append_audit('{"action": "a"}')`)),
  ).rejects.toMatchObject({ code: 'RH001' })
})

test('a suspended tenant appends nothing, whatever it sets', async () => {
  const tenantId = 'suspended'
  const { app, rowhouse } = fixture
  await rowhouse.tenants.provision(tenantId)
  const append = () =>
    inTransaction(app, { role: 'rowhouse_app', tenantId }, async () => {
      await app.query('set local rowhouse.audits_lifecycle = on; set local rowhouse.purges_audit = on')
      await app.query(`select rowhouse.append_audit('{"action": "late.entry"}')`)
    })
  await append()
  await rowhouse.tenants.suspend(tenantId)
  await expect(append()).rejects.toMatchObject({ code: 'RH003' })
  // What was collected before may be written later; what is of later may not, whoever asks.
  const appendLate = (entry: string) =>
    inTransaction(app, { role: 'rowhouse_app', tenantId }, async () => {
      const { rows } = await app.query('select rowhouse.append_late_audit($1)::text[] as ids', [entry])
      return rows[0].ids
    })
  expect(await appendLate('[{"action": "late.entry"}, {"action": "late.entry", "occurredAt": "2999-01-01"}]')).toEqual([
    null,
    null,
  ])
  expect(await appendLate('[{"action": "late.entry"}, {"action": "late.entry", "occurredAt": "2020-01-01"}]')).toEqual([
    null,
    expect.any(String),
  ])
  await expect(appendLate('[{"action": "late.entry", "occurredAt": "yesterdays"}]')).rejects.toMatchObject({
    code: 'RH090',
  })
  await rowhouse.tenants.erase(tenantId)
  await expect(appendLate('[{"action": "late.entry", "occurredAt": "2020-01-01"}]')).rejects.toMatchObject({
    code: 'RH004',
  })
})

test('the application has no other way into the table', async () => {
  const { app } = fixture
  for (const statement of [
    "insert into rowhouse.audit_entries (entry_id, action) values (gen_random_uuid(), 'forged.entry')",
    "update rowhouse.audit_entries set action = 'forged.entry'",
    'delete from rowhouse.audit_entries',
    'truncate rowhouse.audit_entries',
    'select from rowhouse.audit_pending',
    'select from rowhouse.audit_segments',
    'select from rowhouse.audit_heads',
    "select rowhouse.seal_audit('acme')",
    "select rowhouse.record_audit('acme', 'rowhouse.forged', '{}')",
    "select rowhouse.write_audit('acme', '[]')",
    "select rowhouse.close_audit('acme')",
  ]) {
    await expect(
      inTransaction(app, { role: 'rowhouse_app', tenantId: ACME }, () => app.query(statement)),
      statement,
    ).rejects.toMatchObject({ code: '42501' })
  }
  // The control: reading is granted, so it is these rights that are missing and not the way to the table.
  const { rows } = await inTransaction(app, { role: 'rowhouse_app', tenantId: ACME }, () =>
    app.query('select count(*)::int as count from rowhouse.audit_entries'),
  )
  expect(rows[0].count).toBeGreaterThan(0)
})

test('what operators do to a tenant is recorded in its trail', async () => {
  const tenantId = 'lifecycle'
  const { tenants } = fixture.rowhouse
  await tenants.provision(tenantId, { name: 'Life', tier: 'free' })
  await tenants.provision(tenantId)
  await tenants.suspend(tenantId, { reason: 'unpaid' })
  await tenants.suspend(tenantId, { reason: 'again' })
  await tenants.setTier(tenantId, 'enterprise')
  await tenants.deactivate(tenantId)
  await tenants.resume(tenantId)
  await tenants.promote(tenantId)
  await tenants.demote(tenantId)
  const entries = await fixture.rowhouse.tenant(tenantId).audit.query({ order: 'oldest' })
  expect(entries.map(({ action, detail }) => [action, detail])).toEqual([
    ['rowhouse.tenant.provision', { name: 'Life', tier: 'free' }],
    ['rowhouse.tenant.suspend', { from: 'active', to: 'suspended', reason: 'unpaid' }],
    ['rowhouse.tenant.set_tier', { from: 'free', to: 'enterprise' }],
    ['rowhouse.tenant.deactivate', { from: 'suspended', to: 'inactive' }],
    ['rowhouse.tenant.resume', { from: 'inactive', to: 'active' }],
    ['rowhouse.tenant.promote', {}],
    ['rowhouse.tenant.demote', {}],
  ])
})

test('a change of the registry that is rolled back is not recorded', async () => {
  const { operator, rowhouse } = fixture
  await inTransaction(operator, { role: 'rowhouse_admin', rollback: true }, () =>
    operator.query(`select rowhouse.suspend_tenant('${GLOBEX}')`),
  )
  const db = rowhouse.kysely(GLOBEX)
  const { rows } = await sql`select from rowhouse.audit_entries where action = 'rowhouse.tenant.suspend'`.execute(db)
  expect(rows).toEqual([])
})
