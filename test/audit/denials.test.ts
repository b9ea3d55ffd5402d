// Refused calls are in the trail of their tenant, and a flood of them is not.
import type pg from 'pg'
import { beforeAll, describe, expect, test } from 'vitest'
import type { AuditEntry, Rowhouse } from '../../src/index.ts'
import { setLimits, setPrices } from '../budgets/support.ts'
import { useDatabase } from '../setup/database.ts'
import { needs } from '../setup/needs.ts'
import { ACME, GLOBEX, inTransaction, useRowhouse } from './support.ts'

const database = useDatabase()
const fixture = useRowhouse(database)
let rowhouse: Rowhouse
let owner: pg.Client

const REFUSED = ['rowhouse.call.refuse', 'rowhouse.key.refuse']

const refusals = (tenantId: string): Promise<AuditEntry[]> =>
  rowhouse.tenant(tenantId).audit.query({ action: REFUSED, order: 'oldest' })

const reasons = async (tenantId: string) => (await refusals(tenantId)).map(({ error }) => error)

/** Lets a minute pass for what was recorded; or so many days. */
const later = (tenantId: string, interval = '1 minute') =>
  inTransaction(owner, { role: 'rowhouse_owner', tenantId }, () =>
    owner.query(`update rowhouse.denials set recorded_at = recorded_at - interval '${interval}' where tenant_id = $1`, [
      tenantId,
    ]),
  )

const refused = (call: Promise<unknown>) =>
  call.then(
    () => 'accepted',
    (error) => error.code,
  )

const windows = (limit: number) => [{ limit, windowMs: 3_600_000 }]

let tenants = 0
async function newTenant(): Promise<string> {
  const { id } = await rowhouse.tenants.provision(`denied-${++tenants}`)
  return id
}

beforeAll(async () => {
  rowhouse = fixture.rowhouse
  owner = await database.connect('owner')
  await setPrices(rowhouse)
})

describe('what refuses a call is in the trail of its tenant', () => {
  test('rate limits, stored ones and windows of the call', async () => {
    await rowhouse.rateLimits.set(ACME, 'requests', [...windows(2), { limit: 1, windowMs: 60_000 }])
    const { rateLimiter } = rowhouse.tenant(ACME)
    expect([await rateLimiter.allow('user:7'), await rateLimiter.allow('user:7')]).toEqual([true, false])
    expect(await refused(rateLimiter.acquire('user:7', { windows: windows(2), cost: 2 }))).toBe('accepted')
    expect(await refused(rateLimiter.acquire('user:7', { windows: windows(2), cost: 2 }))).toBe('rate_limited')
    expect(await refusals(ACME)).toMatchObject([
      {
        action: 'rowhouse.call.refuse',
        error: 'rate_limited',
        detail: { rateLimit: 'requests', subject: 'user:7', requested: 1, limit: 1, windowMs: 60_000 },
      },
      { error: 'rate_limited', detail: { subject: 'user:7', requested: 2, limit: 2, windowMs: 3_600_000 } },
    ])
  })

  test('quotas, budgets, circuits, models, and the rate limit of an admission', async () => {
    const tenantId = await newTenant()
    await setLimits(rowhouse, tenantId, { tokens_per_day: 100, money_per_month: 1 })
    await rowhouse.quotas.setAccount(tenantId, { models: ['large'] })
    await rowhouse.rateLimits.set(tenantId, 'requests', windows(1))
    const { budget } = rowhouse.tenant(tenantId, { userId: 'u_1', requestId: 'r_1' })
    const codes = [
      await refused(budget.admit({ units: { tokens: 101 } })),
      await refused(budget.run({ model: 'large', units: { images: 21 } }, () => 'never')),
      await refused(budget.admit({ model: 'huge' })),
      await refused(budget.admit()),
      await refused(budget.admit()),
    ]
    await rowhouse.circuits.trip(tenantId, { circuit: 'anthropic', reason: 'bills are disputed' })
    codes.push(await refused(budget.admit({ circuit: 'anthropic' })))
    const expected = ['quota_exceeded', 'budget_exceeded', 'model_not_allowed', 'rate_limited', 'circuit_open']
    expect(codes.filter((code) => code !== 'accepted')).toEqual(expected)
    const entries = await refusals(tenantId)
    expect(entries).toHaveLength(5)
    for (const [error, detail] of [
      [
        'quota_exceeded',
        { quota: 'tokens_per_day', metric: 'tokens', limit: 100, requested: 101, used: 0, reserved: 0 },
      ],
      ['budget_exceeded', { quota: 'money_per_month', limit: 1, requested: 1.05 }],
      ['model_not_allowed', { model: 'huge' }],
      ['rate_limited', { rateLimit: 'requests', limit: 1, requested: 1 }],
      ['circuit_open', { circuit: 'anthropic', cause: 'bills are disputed' }],
    ] as const) {
      expect(entries).toContainEqual(
        expect.objectContaining({
          action: 'rowhouse.call.refuse',
          error,
          userId: 'u_1',
          requestId: 'r_1',
          detail: expect.objectContaining(detail),
        }),
      )
    }
    // What the caller is told besides is for the caller.
    expect(JSON.stringify(entries)).not.toMatch(/admitted|retryAfterMs|decidedAt/)
    expect((await rowhouse.auditLog.verify(tenantId)).intact).toBe(true)
  })

  test('API keys, by key and address', async () => {
    const tenantId = await newTenant()
    const { key, id } = await rowhouse.apiKeys.issue(tenantId, { name: 'narrow', scopes: ['documents:read'] })
    const wrong = `${key.slice(0, -1)}${key.endsWith('0') ? '1' : '0'}`
    for (let attempt = 0; attempt < 25; attempt++) {
      await refused(rowhouse.apiKeys.authenticate(wrong, { ip: '203.0.113.1' }))
      await refused(rowhouse.apiKeys.authenticate(key, { ip: '203.0.113.2', scopes: ['documents:write'] }))
    }
    await refused(rowhouse.apiKeys.authenticate(wrong, { ip: '203.0.113.3' }))
    expect((await refusals(tenantId)).map(({ action, error, detail }) => [action, error, detail])).toEqual([
      ['rowhouse.key.refuse', 'wrong_secret', { keyId: id, ip: '203.0.113.1' }],
      ['rowhouse.key.refuse', 'missing_scope', { keyId: id, ip: '203.0.113.2' }],
      ['rowhouse.key.refuse', 'too_many_attempts', { ip: '203.0.113.1' }],
      ['rowhouse.key.refuse', 'wrong_secret', { keyId: id, ip: '203.0.113.3' }],
    ])
  })

  test('what is admitted, only looked at, or held in slices that are smaller than asked for, is not', async () => {
    const tenantId = await newTenant()
    const { rateLimiter, budget } = rowhouse.tenant(tenantId)
    await rateLimiter.allow('a', { windows: windows(1) })
    await rateLimiter.check('a', { windows: windows(1) })
    const { requestId } = await budget.admit()
    await budget.release(requestId)
    expect(await rateLimiter.allow('leased', { windows: windows(15), lease: { size: 10 }, cost: 9 })).toBe(true)
    expect(await refusals(tenantId)).toEqual([])
    const answers: boolean[] = []
    for (let call = 0; call < 40; call++) {
      answers.push(await rateLimiter.allow('leased', { windows: windows(15), lease: { size: 10 } }))
    }
    expect(answers).toContain(false)
    expect(await reasons(tenantId)).toEqual(['rate_limited'])
  })
})

describe('a flood of refused calls writes no flood', () => {
  test('one entry for each limit in a minute, however many subjects; the next minute another', async () => {
    const tenantId = await newTenant()
    await rowhouse.rateLimits.set(tenantId, 'requests', windows(1))
    await rowhouse.rateLimits.set(tenantId, 'search', windows(1))
    const { rateLimiter } = rowhouse.tenant(tenantId)
    const flood = () =>
      Promise.all(
        Array.from({ length: 600 }, (_, call) =>
          rateLimiter.allow(`user:${call % 200}`, { name: call % 3 === 0 ? 'search' : 'requests' }),
        ),
      )
    await flood()
    await flood()
    expect(await reasons(tenantId)).toEqual(['rate_limited', 'rate_limited'])
    await later(tenantId)
    await flood()
    expect(await reasons(tenantId)).toHaveLength(4)
  })

  test('the negative control: without what is remembered, each of them is an entry', async () => {
    const tenantId = await newTenant()
    await rowhouse.rateLimits.set(tenantId, 'requests', windows(1))
    const { rateLimiter } = rowhouse.tenant(tenantId)
    for (let call = 0; call <= 20; call++) {
      await rateLimiter.allow('user:7')
      await later(tenantId)
    }
    expect(await reasons(tenantId)).toHaveLength(20)
  })

  test('of calls that are refused by quotas and models, too', async () => {
    const tenantId = await newTenant()
    await setLimits(rowhouse, tenantId, { tokens_per_day: 100 })
    await rowhouse.quotas.setAccount(tenantId, { models: ['large'] })
    const { budget } = rowhouse.tenant(tenantId)
    await Promise.all(
      Array.from({ length: 50 }, (_, call) =>
        refused(budget.admit(call % 2 === 0 ? { units: { tokens: 101 } } : { model: 'huge' })),
      ),
    )
    expect((await reasons(tenantId)).sort()).toEqual(['model_not_allowed', 'quota_exceeded'])
  })

  test('of names that callers make up: fifty of a kind, then all others together; long ones are no error', async () => {
    const tenantId = await newTenant()
    await rowhouse.quotas.setAccount(tenantId, { models: ['large'] })
    const { budget } = rowhouse.tenant(tenantId)
    for (let call = 0; call < 80; call++) {
      const model = call === 0 ? 'x'.repeat(5000) : `model-${call}`
      expect(await refused(budget.admit({ model }))).toBe('model_not_allowed')
    }
    expect(await reasons(tenantId)).toHaveLength(51)
    expect((await refusals(tenantId))[0]!.detail).toEqual({})
    const known = await rowhouse.auditLog.denials(tenantId)
    expect(known).toHaveLength(51)
    expect(known.find(({ name }) => name === '')!.detail).toEqual({ model: 'model-50' })
    // Known names go on by themselves, and what is a week old makes room.
    await later(tenantId)
    await refused(budget.admit({ model: 'model-7' }))
    await refused(budget.admit({ model: 'model-70' }))
    await refused(budget.admit({ model: 'model-71' }))
    expect(await reasons(tenantId)).toHaveLength(53)
    await later(tenantId, '8 days')
    await refused(budget.admit({ model: 'model-7' }))
    expect((await rowhouse.auditLog.denials(tenantId)).length).toBeLessThan(51)
  })

  test('a refusal that is not recorded changes no row', needs('superuser'), async () => {
    const tenantId = await newTenant()
    const app = await database.connect('app')
    const superuser = await database.connect('superuser')
    const take = () =>
      inTransaction(app, { role: 'rowhouse_app', tenantId }, () =>
        app.query(`select rowhouse.rate_limit('a', 1, null, '[{"limit": 1, "windowMs": 3600000}]')`),
      )
    // xmax: who locked it.
    const versions = () =>
      superuser.query('select ctid, xmin, xmax from rowhouse.denials where tenant_id = $1', [tenantId])
    await take()
    await take()
    const { rows: before } = await versions()
    for (let call = 0; call < 20; call++) await take()
    expect((await versions()).rows).toEqual(before)
    expect(before).toHaveLength(1)
  })
})

describe('an entry is part of the transaction of the refusal', () => {
  test('rolled back with it; then the next refusal is recorded', async () => {
    const tenantId = await newTenant()
    await rowhouse.rateLimits.set(tenantId, 'requests', windows(1))
    await rowhouse.tenant(tenantId).rateLimiter.allow()
    await expect(rowhouse.withTenant(tenantId, (_db, tenant) => tenant.rateLimiter.acquire())).rejects.toMatchObject({
      code: 'rate_limited',
    })
    expect(await refusals(tenantId)).toEqual([])
    await rowhouse.withTenant(tenantId, async (_db, tenant) => {
      expect(await tenant.rateLimiter.allow()).toBe(false)
    })
    expect(await reasons(tenantId)).toEqual(['rate_limited'])
  })

  test('in every isolation level, and while nothing may be written', async () => {
    const tenantId = await newTenant()
    const { key } = await rowhouse.apiKeys.issue(tenantId, { name: 'narrow', scopes: ['documents:read'] })
    const [, , , id, secret] = key.split('_') as [string, string, string, string, string]
    for (const isolationLevel of ['repeatable read', 'serializable'] as const) {
      await rowhouse.withTenant(
        tenantId,
        async (_db, tenant) => {
          await tenant.rateLimiter.allow(isolationLevel, { windows: windows(1) })
          expect(await tenant.rateLimiter.allow(isolationLevel, { windows: windows(1) })).toBe(false)
        },
        { isolationLevel },
      )
    }
    expect(await reasons(tenantId)).toEqual(['rate_limited'])
    const app = await database.connect('app')
    const { rows } = await inTransaction(app, { role: 'rowhouse_app', tenantId }, async () => {
      await app.query('set transaction read only')
      return app.query(
        `select rowhouse.authenticate_api_key($1, sha256(convert_to($2, 'UTF8')), null, '{documents:write}') as answer`,
        [id, secret],
      )
    })
    expect(rows[0].answer).toEqual({ refused: 'missing_scope' })
    expect(await reasons(tenantId)).toEqual(['rate_limited'])
  })
})

test('a tenant that is suspended while it is refused gets its answer, and the entry', async () => {
  const tenantId = await newTenant()
  await rowhouse.rateLimits.set(tenantId, 'requests', windows(1))
  await rowhouse.tenant(tenantId).rateLimiter.allow()
  await inTransaction(owner, { role: 'rowhouse_owner' }, async () => {
    await owner.query(`
      alter function rowhouse.decide_rate_limit(bigint[], bigint, bigint[], bigint[], bigint[], bigint, integer, bigint) rename to decide;
      create function rowhouse.decide_rate_limit(bigint[], bigint, bigint[], bigint[], bigint[], bigint, integer, bigint,
          out admitted integer, out state bigint[], out windows json, out busy_until bigint)
        language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
        begin
          -- What another transaction may commit at this moment.
          update rowhouse.tenants set status = 'suspended' where tenant_id = rowhouse.current_tenant();
          select d.* into admitted, state, windows, busy_until from rowhouse.decide($1, $2, $3, $4, $5, $6, $7, $8) d;
        end $$`)
  })
  try {
    expect(await rowhouse.tenant(tenantId).rateLimiter.allow()).toBe(false)
  } finally {
    await inTransaction(owner, { role: 'rowhouse_owner' }, async () => {
      await owner.query(`
        drop function rowhouse.decide_rate_limit(bigint[], bigint, bigint[], bigint[], bigint[], bigint, integer, bigint);
        alter function rowhouse.decide(bigint[], bigint, bigint[], bigint[], bigint[], bigint, integer, bigint) rename to decide_rate_limit`)
    })
  }
  expect(await refused(rowhouse.tenant(tenantId).rateLimiter.allow())).toBe('tenant_suspended')
  expect(await rowhouse.auditLog.denials(tenantId)).toHaveLength(1)
  await rowhouse.tenants.resume(tenantId)
  expect(await reasons(tenantId)).toEqual(['rate_limited'])
  expect((await rowhouse.auditLog.verify(tenantId)).intact).toBe(true)
})

describe('operators see what was refused', () => {
  test('of each tenant, newest first, with what the entry says', async () => {
    const tenantId = await newTenant()
    await rowhouse.rateLimits.set(tenantId, 'requests', windows(1))
    const { rateLimiter, budget } = rowhouse.tenant(tenantId)
    for (let call = 0; call < 3; call++) await rateLimiter.allow()
    await rowhouse.quotas.setAccount(tenantId, { models: [] })
    await refused(budget.admit({ model: 'large' }))
    const denials = await rowhouse.auditLog.denials(tenantId)
    expect(denials).toMatchObject([
      { kind: 'model_not_allowed', name: 'large', reason: 'model_not_allowed', detail: { model: 'large' } },
      { kind: 'rate_limited', name: 'requests', detail: { rateLimit: 'requests', limit: 1 } },
    ])
    expect(denials[0]!.recordedAt).toBeInstanceOf(Date)
    expect(await rowhouse.auditLog.denials(GLOBEX)).toEqual([])
    await expect(rowhouse.auditLog.denials('nobody')).rejects.toMatchObject({ code: 'tenant_not_found' })
  })

  test('the application reads its own, and writes none', async () => {
    const app = await database.connect('app')
    const asTenant = (sql: string, tenantId = GLOBEX) =>
      inTransaction(app, { role: 'rowhouse_app', tenantId }, () => app.query(sql))
    expect((await asTenant('select from rowhouse.denials')).rowCount).toBe(0)
    for (const sql of [
      'delete from rowhouse.denials',
      'update rowhouse.denials set recorded_at = now()',
      "select rowhouse.record_denial('globex', 'a', 'b', 'c', 'd', '{}')",
      "select rowhouse.list_denials('acme')",
    ]) {
      await expect(asTenant(sql)).rejects.toMatchObject({ code: '42501' })
    }
  })

  test('erased with the tenant', async () => {
    const tenantId = await newTenant()
    const { rateLimiter } = rowhouse.tenant(tenantId)
    for (let call = 0; call < 2; call++) await rateLimiter.allow('', { windows: windows(1) })
    const receipt = await rowhouse.tenants.erase(tenantId)
    expect(receipt.tables['rowhouse.denials']).toBe(1)
    expect(await rowhouse.auditLog.denials(tenantId)).toEqual([])
  })
})
