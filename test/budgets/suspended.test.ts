// A tenant that is suspended while a call is at work: the money is booked, nothing new begins.
import { randomBytes } from 'node:crypto'
import { sql } from 'kysely'
import { beforeAll, describe, expect, test, vi } from 'vitest'
import type { Rowhouse } from '../../src/index.ts'
import { rowsInTenant } from '../isolation/support/in-tenant.ts'
import { provision, rowhouseFor } from '../rate-limits/support.ts'
import { useDatabase } from '../setup/database.ts'
import { differences, errorOf, setLimits, setPrices, standing } from './support.ts'

const database = useDatabase({ needs: ['superuser'] })
const open = rowhouseFor(database)
let rowhouse: Rowhouse
let tenants = 0
const CALL = { model: 'large', rateLimit: null, units: { inputTokens: 1000, outputTokens: 800 } }
beforeAll(async () => {
  rowhouse = open()
  await setPrices(rowhouse)
})

async function newTenant() {
  const tenant = `suspended-${tenants++}`
  await provision(database, tenant)
  await setLimits(rowhouse, tenant, { money_per_month: 1 })
  return { tenant, budget: rowhouse.tenant(tenant, { userId: 'u_1' }).budget }
}

/** How the money of a tenant stands that may not ask. */
async function money(tenant: string): Promise<number[]> {
  await rowhouse.tenants.resume(tenant)
  expect(await differences(rowhouse, tenant)).toEqual([])
  return standing(rowhouse, tenant, 'money_per_month')
}

describe.each(['suspend', 'deactivate'] as const)('%s', (change) => {
  test('a call that was admitted before settles, in parts and as a whole', async () => {
    const { tenant, budget } = await newTenant()
    const { requestId } = await budget.admit(CALL)
    await rowhouse.tenants[change](tenant)
    await budget.settle(requestId, { inputTokens: 500 }, { part: 'first' })
    const settled = await budget.settle(requestId, { inputTokens: 500, outputTokens: 100 })
    expect(settled).toMatchObject({ cost: '0.002', duplicate: false })
    expect(await budget.settle(requestId, {})).toMatchObject({ cost: '0.002', duplicate: true })
    expect(await money(tenant)).toEqual([0.003, 0, 0.997])
  })

  test('a call that used nothing gives everything back', async () => {
    const { tenant, budget } = await newTenant()
    const { requestId } = await budget.admit(CALL)
    await rowhouse.tenants[change](tenant)
    expect(await budget.release(requestId)).toBe(true)
    expect(await money(tenant)).toEqual([0, 0, 1])
  })

  test('run books what was used, and its signal aborts', async () => {
    const { tenant, budget } = await newTenant()
    const answer = await budget.run({ ...CALL, leaseMs: 300 }, async (call) => {
      await rowhouse.tenants[change](tenant)
      call.report({ inputTokens: 1000 })
      await vi.waitFor(() => expect(call.signal.aborted).toBe(true), { timeout: 3000 })
      return 'answered'
    })
    expect(answer).toBe('answered')
    expect(await money(tenant)).toEqual([0.002, 0, 0.998])
  })

  test('nothing else is let in', async () => {
    const { tenant, budget } = await newTenant()
    await budget.admit(CALL)
    await rowhouse.tenants[change](tenant)
    const code = change === 'suspend' ? 'tenant_suspended' : 'tenant_inactive'
    expect((await errorOf(budget.admit(CALL))).code).toBe(code)
    expect((await errorOf(budget.extend('never'))).code).toBe(code)
    expect((await errorOf(rowhouse.query(tenant, () => sql`select 1`))).code).toBe(code)
    expect((await errorOf(budget.settle('never', {}))).code).toBe('unknown_request')
    // A transaction that says that it settles writes nothing else.
    const app = await database.connect('app')
    const settling = "set local rowhouse.settles = 'on'; select rowhouse.enter_tenant()"
    for (const write of [
      "insert into rowhouse.state (key, value) values ('k', '1')",
      "select rowhouse.admit('x')",
      "select rowhouse.join_queue('default', gen_random_uuid())",
    ]) {
      await expect(rowsInTenant(app, tenant, `${settling}; ${write}`)).rejects.toMatchObject({
        code: change === 'suspend' ? 'RH003' : 'RH004',
      })
    }
  })
})

/** Changes the source of a function while `fn` runs. */
async function withChanged(signature: string, from: string, to: string, fn: () => Promise<void>): Promise<void> {
  const superuser = await database.connect('superuser')
  const { rows } = await superuser.query<{ source: string }>(
    'select pg_get_functiondef($1::regprocedure::oid) as source',
    [signature],
  )
  const { source } = rows[0]!
  expect(source).toContain(from)
  await superuser.query(source.replace(from, to))
  try {
    await fn()
  } finally {
    await superuser.query(source)
  }
}

test('the control: a settlement that lets in active tenants alone would not book the money', async () => {
  const { tenant, budget } = await newTenant()
  const { requestId } = await budget.admit(CALL)
  await rowhouse.tenants.suspend(tenant)
  const signature = 'rowhouse.settle_call(boolean,text,jsonb,text,jsonb)'
  await withChanged(signature, '{active,suspended,inactive}', '{active}', async () => {
    expect((await errorOf(budget.settle(requestId, { inputTokens: 500 }))).code).toBe('tenant_suspended')
  })
  expect(await budget.settle(requestId, { inputTokens: 500 })).toMatchObject({ cost: '0.001' })
})

test('an erased tenant has nothing to settle', async () => {
  const { tenant, budget } = await newTenant()
  const { requestId } = await budget.admit(CALL)
  await rowhouse.tenants.erase(tenant)
  expect((await errorOf(budget.settle(requestId, { inputTokens: 1 }))).code).toBe('tenant_inactive')
})

test('with sealed contexts too', async () => {
  const { tenant } = await newTenant()
  const key = randomBytes(32)
  // Rewrites policies, for which one must own the tables.
  const { seals } = open({
    connectionString: database.url('owner'),
    admin: { connectionString: database.url('owner') },
  })
  await seals.addKey(key)
  const sealed = open({ seal: key })
  await seals.require(true)
  try {
    const { budget } = sealed.tenant(tenant)
    const { requestId } = await budget.admit(CALL)
    await rowhouse.tenants.suspend(tenant)
    // The control: a proof is checked before the call, so the transaction says that it settles.
    await withChanged('rowhouse.settles(text)', "('suspended', 'inactive')", "('none')", async () => {
      expect((await errorOf(budget.settle(requestId, { inputTokens: 500 }))).code).toBe('tenant_suspended')
    })
    expect(await budget.settle(requestId, { inputTokens: 500 })).toMatchObject({ cost: '0.001' })
    expect((await errorOf(budget.admit(CALL))).code).toBe('tenant_suspended')
  } finally {
    await seals.require(false)
  }
})
