// Concurrent calls of a tenant share statements and transactions; each is decided, and fails, as if it were alone.
import { sql } from 'kysely'
import { beforeAll, expect, test } from 'vitest'
import { QuotaExceededError, type Rowhouse, RowhouseError, TenantSuspendedError } from '../../src/index.ts'
import { count, inTenant, provision, rowhouseFor } from '../rate-limits/support.ts'
import { useDatabase } from '../setup/database.ts'
import { needs } from '../setup/needs.ts'
import { startProxy } from '../setup/proxy.ts'
import { differences, setLimits, setPrices, standing } from './support.ts'

const database = useDatabase()
const open = rowhouseFor(database)
const statements: string[] = []
let rowhouse: Rowhouse
let tenants = 0
beforeAll(async () => {
  rowhouse = open({ log: (event) => void statements.push(event.query.sql) })
  await setPrices(rowhouse)
})

async function tenantWith(limits: Readonly<Record<string, number>>) {
  const tenant = `together-${tenants++}`
  await provision(database, tenant)
  await setLimits(rowhouse, tenant, limits)
  statements.length = 0
  return { tenant, budget: rowhouse.tenant(tenant).budget }
}

/** Costs 0.01 at most. */
const CALL = { model: 'large', units: { inputTokens: 1000, outputTokens: 800 }, rateLimit: null }

const settled = <T>(calls: readonly Promise<T>[]) => Promise.allSettled(calls)
const reasonsOf = (results: readonly PromiseSettledResult<unknown>[]) =>
  results.flatMap((result) => (result.status === 'rejected' ? [result.reason as RowhouseError] : []))

test('exactly as many calls are admitted as there is room for, in few statements', async () => {
  const { tenant, budget } = await tenantWith({ concurrency: 30, money_per_month: 100 })
  const results = await settled(Array.from({ length: 100 }, (_, n) => budget.admit({ ...CALL, requestId: `r-${n}` })))
  const admitted = results.flatMap((result) => (result.status === 'fulfilled' ? [result.value.requestId] : []))
  // In the order in which they were asked for.
  expect(admitted).toEqual(Array.from({ length: 30 }, (_, n) => `r-${n}`))
  expect(count(reasonsOf(results), (reason) => reason instanceof QuotaExceededError)).toBe(70)
  expect(statements.length).toBeLessThan(10)

  statements.length = 0
  const settlements = await Promise.all(admitted.map((id, n) => budget.settle(id, { inputTokens: n * 1000 })))
  expect(settlements.map(({ requestId, cost }) => [requestId, Number(cost)])).toEqual(
    admitted.map((id, n) => [id, (n * 2) / 1000]),
  )
  expect(statements.length).toBeLessThan(5)
  expect(await standing(rowhouse, tenant, 'concurrency')).toEqual([0, 0, 30])
  expect(await differences(rowhouse, tenant)).toEqual([])
})

test('a call that fails fails alone', async () => {
  const { tenant, budget } = await tenantWith({ concurrency: 100, money_per_month: 100 })
  const results = await settled(
    Array.from({ length: 20 }, (_, n) =>
      n % 5 === 3
        ? budget.admit({ ...CALL, requestId: `bad-${n}`, units: { nothing: 1 } })
        : budget.admit({ ...CALL, requestId: `good-${n}` }),
    ),
  )
  expect(reasonsOf(results).map(({ code }) => code)).toEqual(Array(4).fill('unknown_quota'))
  expect(results.map(({ status }) => status === 'fulfilled')).toEqual(results.map((_, n) => n % 5 !== 3))
  expect(await standing(rowhouse, tenant, 'concurrency')).toEqual([0, 16, 84])
  expect(await differences(rowhouse, tenant)).toEqual([])

  // Calls in one statement that nobody takes apart fail together.
  const client = await database.connect('app')
  const together = inTenant(
    client,
    tenant,
    `select rowhouse.admit('good', '{}', 'large', 1000, null), rowhouse.admit('bad', '{"nothing": 1}', 'large', 1000, null)`,
  )
  await expect(together).rejects.toThrow('no quota counts')
  expect(await standing(rowhouse, tenant, 'concurrency')).toEqual([0, 16, 84])
})

test('different calls meet, and a repeated one is booked once', async () => {
  const { tenant, budget } = await tenantWith({ concurrency: 10, money_per_month: 100 })
  await Promise.all(['a', 'b', 'c'].map((requestId) => budget.admit({ ...CALL, requestId, leaseMs: 1000 })))
  const answers = await Promise.all([
    budget.release('a'),
    budget.release('a'),
    budget.settle('b', { inputTokens: 1000 }),
    budget.settle('b', { inputTokens: 1000 }),
    budget.extend('c', 60_000),
    budget.admit({ ...CALL, requestId: 'd' }),
    budget.admit({ ...CALL, requestId: 'd' }),
  ])
  expect(answers).toMatchObject([
    true,
    false,
    { requestId: 'b', duplicate: false },
    { requestId: 'b', duplicate: true },
    expect.any(Date),
    { requestId: 'd', duplicate: false },
    { requestId: 'd', duplicate: true },
  ])
  expect(await standing(rowhouse, tenant, 'money_per_month')).toEqual([0.002, 0.02, 99.978])
  expect(await differences(rowhouse, tenant)).toEqual([])
})

test('what a suspended tenant used is booked, also beside a call that it may not begin', async () => {
  const { tenant, budget } = await tenantWith({ concurrency: 10 })
  await budget.admit({ ...CALL, requestId: 'before' })
  await rowhouse.tenants.suspend(tenant)
  const results = await settled<unknown>([
    budget.admit({ ...CALL, requestId: 'one' }),
    budget.admit({ ...CALL, requestId: 'two' }),
    budget.settle('before', { inputTokens: 10 }),
  ])
  expect(results.map(({ status }) => status)).toEqual(['rejected', 'rejected', 'fulfilled'])
  expect(reasonsOf(results).every((reason) => reason instanceof TenantSuspendedError)).toBe(true)
})

/** Whose calls the books and the audit trail say they were: with a user of each, with none, and of two denials. */
async function callInManyNames(tenant: string) {
  await rowhouse.circuits.trip(tenant, { circuit: 'down', reason: 'for the test' })
  statements.length = 0
  const callers = Array.from({ length: 20 }, (_, n) => ({
    userId: n % 3 === 2 ? undefined : `u-${n}`,
    requestId: n % 2 === 0 ? `http-${n}` : undefined,
  }))
  const budgets = callers.map((caller) => rowhouse.tenant(tenant, caller).budget)
  await Promise.all(budgets.map((budget, n) => budget.admit({ ...CALL, requestId: `r-${n}` })))
  const denied = rowhouse.tenant(tenant, { userId: 'denied', requestId: 'http-denied' }).budget
  await settled<unknown>([
    budgets[0]!.extend('r-0'),
    denied.admit({ ...CALL, circuit: 'down' }),
    rowhouse.tenant(tenant).budget.extend('r-1'),
  ])
  await Promise.all(budgets.map((budget, n) => budget.settle(`r-${n}`, { inputTokens: 1 })))
  const sent = statements.length
  const { rows: booked } = await rowhouse.withTenant(tenant, (db) =>
    sql<{ request_id: string; user_id: string | null }>`select request_id, user_id from rowhouse.usage_events`.execute(
      db,
    ),
  )
  const { rows: refused } = await rowhouse.withTenant(tenant, (db) =>
    sql<{ user_id: string; request_id: string }>`
      select user_id, request_id from rowhouse.audit_entries where action = 'rowhouse.call.refuse'`.execute(db),
  )
  const wrong = booked.filter(
    ({ request_id, user_id }) => user_id !== (callers[Number(request_id.slice(2))]!.userId ?? null),
  )
  return { booked: booked.length, wrong, refused, sent }
}

test('calls of several users and requests share statements, each in the name of its own', async () => {
  const { tenant } = await tenantWith({ concurrency: 100, money_per_month: 100 })
  const { sent, ...names } = await callInManyNames(tenant)
  expect(names).toEqual({ booked: 20, wrong: [], refused: [{ user_id: 'denied', request_id: 'http-denied' }] })
  expect(sent).toBeLessThan(8)
  expect(await differences(rowhouse, tenant)).toEqual([])
})

test('control: without set_caller they would be nobody’s', needs('realRoles'), async () => {
  const { tenant } = await tenantWith({ concurrency: 100, money_per_month: 100 })
  const owner = await database.connect('owner')
  const { rows } = await owner.query(
    `select pg_get_functiondef('rowhouse.set_caller(text, text)'::regprocedure) as source`,
  )
  const asOwner = async (source: string) => {
    await owner.query('begin; set local role rowhouse_owner')
    await owner.query(source)
    await owner.query('commit')
  }
  await asOwner(rows[0].source.replace(/begin[\s\S]*end/, 'begin return true; end'))
  try {
    const { wrong, refused } = await callInManyNames(tenant)
    expect(wrong).toHaveLength(14)
    expect(refused).toEqual([{ user_id: null, request_id: null }])
  } finally {
    await asOwner(rows[0].source)
  }
})

test('calls inside withTenant are part of its transaction alone', needs('parallelBackends'), async () => {
  const { tenant, budget } = await tenantWith({ concurrency: 100 })
  const inside = rowhouse.withTenant(tenant, async (db, context) => {
    await Promise.all([context.budget.admit(CALL), rowhouse.tenant(tenant).budget.admit(CALL), budget.admit(CALL)])
    await sql`select pg_sleep(0.1)`.execute(db)
    throw new Error('undone')
  })
  const outside = Promise.all(Array.from({ length: 10 }, () => budget.admit(CALL)))
  await expect(inside).rejects.toThrow('undone')
  await outside
  expect(await standing(rowhouse, tenant, 'concurrency')).toEqual([0, 10, 90])
})

test('when the connection breaks, every call on it learns that nobody knows', needs('parallelBackends'), async () => {
  const { tenant } = await tenantWith({ concurrency: 100 })
  const proxy = await startProxy(database.url('app'))
  const through = open({ connectionString: proxy.url })
  const { budget } = through.tenant(tenant)
  try {
    await budget.checkQuotas()
    const holder = await database.connect('app')
    await holder.query(`begin; set local role rowhouse_app; set local app.tenant_id = '${tenant}'`)
    await holder.query(`select rowhouse.admit('holder', '{}', null, 60000, null)`)
    const calls = settled(Array.from({ length: 20 }, (_, n) => budget.admit({ ...CALL, requestId: `r-${n}` })))
    await expect.poll(() => proxy.counters.flights).toBeGreaterThan(0)
    await proxy.cut()
    await holder.query('commit')
    const reasons = reasonsOf(await calls)
    expect(reasons.length).toBeGreaterThan(0)
    expect(reasons.every((reason) => !(reason instanceof RowhouseError) || reason.retryable)).toBe(true)
    // Whatever became of them: asked again, by a process whose connections are whole, each is admitted once.
    const whole = rowhouse.tenant(tenant).budget
    await Promise.all(Array.from({ length: 20 }, (_, n) => whole.admit({ ...CALL, requestId: `r-${n}` })))
    expect(await standing(rowhouse, tenant, 'concurrency')).toEqual([0, 21, 79])
  } finally {
    await proxy.close()
  }
})
