// Settlements with an entry of the audit trail: one transaction, filled in with what the database knows of the call.
import { beforeAll, expect, test } from 'vitest'
import type { Rowhouse } from '../../src/index.ts'
import { provision, rowhouseFor } from '../rate-limits/support.ts'
import { useDatabase } from '../setup/database.ts'
import { errorOf, setLimits, setPrices, standing } from './support.ts'

const database = useDatabase()
const open = rowhouseFor(database)
let rowhouse: Rowhouse
let tenants = 0
beforeAll(async () => {
  rowhouse = open()
  await setPrices(rowhouse)
})

async function newTenant() {
  const tenant = `audited-${tenants++}`
  await provision(database, tenant)
  await setLimits(rowhouse, tenant, { money_per_month: 1 })
  const { budget, audit } = rowhouse.tenant(tenant, { userId: 'ann' })
  const entries = async () =>
    (await audit.query({ order: 'oldest' })).filter(({ action }) => !action.startsWith('rowhouse.'))
  return { tenant, budget, entries, money: () => standing(rowhouse, tenant, 'money_per_month') }
}

const CALL = { model: 'large', units: { inputTokens: 1000, outputTokens: 800 }, rateLimit: null, requestId: 'one' }

test('the entry has the request, the user, the model, all tokens, the exact cost and the latency', async () => {
  const { tenant, budget, entries } = await newTenant()
  await budget.admit(CALL)
  await budget.settle('one', { inputTokens: 400 }, { part: 'first' })
  const audit = { action: 'chat.respond', documents: ['a', 'b'], detail: { mood: 'good' } }
  await budget.settle('one', { inputTokens: 100, outputTokens: 33 }, { latencyMs: 812, audit })
  // The control: repeating it writes nothing, nor do settlements without the option.
  await budget.settle('one', { inputTokens: 100 }, { audit })
  await budget.run({ ...CALL, requestId: 'two' }, () => {})
  expect(await entries()).toMatchObject([
    {
      action: 'chat.respond',
      requestId: 'one',
      userId: 'ann',
      model: 'large',
      inputTokens: 500,
      outputTokens: 33,
      cost: '0.00133',
      latencyMs: 812,
      documents: ['a', 'b'],
      error: null,
      detail: { mood: 'good' },
    },
  ])
  expect((await rowhouse.auditLog.verify(tenant)).intact).toBe(true)
})

test('run writes that of the request, or that of the last report', async () => {
  const { budget, entries } = await newTenant()
  const audit = { action: 'chat.respond' }
  await budget.run({ ...CALL, audit }, (call) => call.report({ outputTokens: 1 }))
  await budget
    .run({ ...CALL, requestId: 'two', audit }, (call) => {
      call.report({ inputTokens: 5 }, { audit: { ...audit, error: 'stream broke', documents: ['c'] } })
      throw new Error('stream broke')
    })
    .catch(() => {})
  expect(await entries()).toMatchObject([
    { action: 'chat.respond', requestId: 'one', outputTokens: 1, documents: null, error: null },
    { action: 'chat.respond', requestId: 'two', inputTokens: 5, documents: ['c'], error: 'stream broke' },
  ])
  expect((await entries())[0]!.latencyMs).toBeGreaterThanOrEqual(0)
})

test('it is written with the settlement or not at all', async () => {
  const { tenant, budget, entries, money } = await newTenant()
  await budget.admit(CALL)
  const settle = `select rowhouse.settle('one', '{"input_tokens": 1}', '', '{"audit": {"action": "chat.respond"}}')`
  const app = await database.connect('app')
  await app.query(`begin; set local role rowhouse_app; set local app.tenant_id = '${tenant}'; ${settle}; rollback`)
  expect(await entries()).toEqual([])
  expect(await money()).toEqual([0, 0.01, 0.99])
})

test.for([
  ['an action of rowhouse', { action: 'rowhouse.tenant.erase' }],
  ['no action', {}],
  ['what the database fills in', { action: 'chat.respond', cost: '0' }],
  ['another user', { action: 'chat.respond', userId: 'bob' }],
  ['a zero byte', { action: 'chat.respond', error: 'a\0b' }],
] as const)('%s is refused, and nothing is booked', async ([, audit]) => {
  const { budget, entries, money } = await newTenant()
  await budget.admit(CALL)
  const error = await errorOf(budget.settle('one', { inputTokens: 1 }, { audit: audit as never }))
  expect(error.code).toBe('invalid_audit_entry')
  expect(await money()).toEqual([0, 0.01, 0.99])
  expect(await entries()).toEqual([])
})

test('a tenant that was suspended meanwhile is settled with its entry', async () => {
  const { tenant, budget, entries } = await newTenant()
  await budget.admit(CALL)
  await rowhouse.tenants.suspend(tenant)
  await budget.settle('one', { inputTokens: 1 }, { audit: { action: 'chat.respond' } })
  await rowhouse.tenants.resume(tenant)
  expect(await entries()).toMatchObject([{ requestId: 'one', cost: '0.000002' }])
})
