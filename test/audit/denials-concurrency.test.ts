// Recording what was refused holds nobody up: callers that are refused at once neither wait for each other nor fail.
import { beforeAll, expect, test } from 'vitest'
import type { Rowhouse } from '../../src/index.ts'
import { useDatabase } from '../setup/database.ts'
import { interleavings, openSessions, schedule, waitUntilBlocked } from '../setup/sessions.ts'
import { useRowhouse } from './support.ts'

const database = useDatabase({ needs: ['parallelBackends'] })
const fixture = useRowhouse(database)
let rowhouse: Rowhouse

const LIMITS = ['one', 'other'] as const
const SUBJECTS = ['u_1', 'u_2'] as const

let tenants = 0
/** A tenant whose subjects have used up all its limits. */
async function newTenant(): Promise<string> {
  const { id } = await rowhouse.tenants.provision(`busy-${++tenants}`)
  for (const name of LIMITS) {
    await rowhouse.rateLimits.set(id, name, [{ limit: 1, windowMs: 3_600_000 }])
    for (const subject of SUBJECTS) await rowhouse.tenant(id).rateLimiter.allow(subject, { name })
  }
  return id
}

const begin = (tenantId: string, isolationLevel = 'read committed') =>
  `begin isolation level ${isolationLevel}; set local role rowhouse_app; set local app.tenant_id = '${tenantId}'`
/** As a client outside of a transaction takes it, which has no account to lock. */
const take = (subject: string, name: string) =>
  `select (rowhouse.take_rate_limit('${name}', null, null, null, array['${subject}'], '{1}', '{1}') #>> '{0,0}')::integer as admitted`

const entries = async (tenantId: string) =>
  (await rowhouse.tenant(tenantId).audit.query({ action: 'rowhouse.call.refuse' })).map(
    ({ detail }) => detail.rateLimit,
  )

beforeAll(() => {
  rowhouse = fixture.rowhouse
})

test('two transactions that are refused by two limits in opposite order, in every order of their steps', async () => {
  const { first, second } = await openSessions(database, { first: 'app', second: 'app' })
  const orders = interleavings(
    [first.step(take('u_1', 'one')), first.step(take('u_1', 'other')), first.step('commit')],
    [second.step(take('u_2', 'other')), second.step(take('u_2', 'one')), second.step('commit')],
  )
  expect(orders).toHaveLength(20)
  for (const order of orders) {
    const tenantId = await newTenant()
    for (const { client } of [first, second]) await client.query(begin(tenantId))
    const outcomes = await schedule(order)
    expect(outcomes.filter(({ waited, error }) => waited || error !== undefined)).toEqual([])
    expect((await entries(tenantId)).sort()).toEqual(['one', 'other'])
    expect((await rowhouse.auditLog.verify(tenantId)).intact).toBe(true)
  }
}, 60_000)

test('the negative control: two that write the same row without asking do wait', async () => {
  const tenantId = await newTenant()
  const { first, second } = await openSessions(database, { first: 'owner', second: 'owner' })
  const write = `insert into rowhouse.denials values ('${tenantId}', 'rate_limited', 'one', now(), 'rate_limited', '{}')
    on conflict (tenant_id, kind, name) do update set recorded_at = excluded.recorded_at`
  for (const { client } of [first, second]) {
    await client.query(`begin; set local role rowhouse_owner; set local app.tenant_id = '${tenantId}'`)
  }
  await first.run(write)
  const waiting = second.run(write)
  await waitUntilBlocked(second)
  await first.run('rollback')
  await waiting
  await second.run('rollback')
})

test('16 connections at once make one entry; when the one that recorded rolls back, the next does', async () => {
  const tenantId = await newTenant()
  const clients = await Promise.all(Array.from({ length: 16 }, () => database.connect('app')))
  const [first] = clients
  await first!.query(begin(tenantId))
  await first!.query(take('u_1', 'one'))
  const flood = (from: number) =>
    Promise.all(
      clients.slice(from).map(async (client, number) => {
        for (let round = 0; round < 20; round++) {
          await client.query(`${begin(tenantId)}; ${take(`s_${number}`, 'one')}; commit`)
        }
      }),
    )
  // Each takes one, and is refused 19 times.
  await flood(1)
  await first!.query('rollback')
  expect(await entries(tenantId)).toEqual([])
  await flood(0)
  expect(await entries(tenantId)).toEqual(['one'])
})

test.each(['repeatable read', 'serializable'])(
  'who has an older snapshot than the entry is answered, and records none: %s',
  async (isolationLevel) => {
    const tenantId = await newTenant()
    const { old, other } = await openSessions(database, { old: 'app', other: 'app' })
    const owner = await database.connect('owner')
    // At first there is no row for the limit, then one that is over a minute old.
    for (const count of [1, 2]) {
      await old.run(begin(tenantId, isolationLevel))
      await old.run('select from rowhouse.denials')
      await other.run(`${begin(tenantId)}; ${take('u_2', 'one')}; commit`)
      expect(await old.run(take('u_1', 'one'))).toMatchObject({ rows: [{ admitted: 0 }] })
      await old.run('commit')
      expect(await entries(tenantId)).toHaveLength(count)
      await owner.query(`begin; set local role rowhouse_owner; set local app.tenant_id = '${tenantId}';
        update rowhouse.denials set recorded_at = recorded_at - interval '1 minute'; commit`)
    }
  },
)

test('SQL of another tenant can not keep a refusal from being recorded', async () => {
  const tenantId = await newTenant()
  const other = await database.connect('app')
  await other.query(begin(await newTenant()))
  // As much as it knows: everything but the random key of the tenant.
  for (const seed of [0, 1]) {
    await other.query(`select pg_try_advisory_xact_lock(hashtextextended('rate_limited one', ${seed}))`)
  }
  await rowhouse.tenant(tenantId).rateLimiter.allow('u_1', { name: 'one' })
  expect(await entries(tenantId)).toEqual(['one'])
  await other.query('rollback')
})

test('a key that is refused while its tenant is promoted waits for nothing', async () => {
  const tenantId = await newTenant()
  const { id } = await rowhouse.apiKeys.issue(tenantId, { name: 'narrow', scopes: [] })
  const { app, promoter } = await openSessions(database, { app: 'app', promoter: 'owner' })
  await promoter.run(`begin; set local role rowhouse_owner; select rowhouse.lock_tenant('${tenantId}')`)
  await app.run(`${begin(tenantId)}; set local statement_timeout = '5s'`)
  expect(await app.run(`select rowhouse.authenticate_api_key('${id}', '\\x00') as answer`)).toMatchObject({
    rows: [{ answer: { refused: 'wrong_secret' } }],
  })
  await app.run('commit')
  await promoter.run('rollback')
  expect(await rowhouse.auditLog.denials(tenantId)).toEqual([])
})
