// budget.run: admits, runs, settles; whatever happens, the books balance and no connection waits meanwhile.
import { fork } from 'node:child_process'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { beforeAll, describe, expect, test, vi } from 'vitest'
import { BudgetExceededError, createRowhouse, type Rowhouse } from '../../src/index.ts'
import { provision, rowhouseFor } from '../rate-limits/support.ts'
import { useDatabase } from '../setup/database.ts'
import { needs } from '../setup/needs.ts'
import { startProxy } from '../setup/proxy.ts'
import { differences, errorOf, expire, setLimits, setPrices, standing } from './support.ts'

const database = useDatabase()
const open = rowhouseFor(database)
let rowhouse: Rowhouse
let tenants = 0
beforeAll(async () => {
  rowhouse = open()
  await setPrices(rowhouse)
})

async function tenantWith(limits: Readonly<Record<string, number>> = { money_per_month: 1 }) {
  const tenant = `run-${tenants++}`
  await provision(database, tenant)
  await setLimits(rowhouse, tenant, limits)
  return {
    tenant,
    budget: rowhouse.tenant(tenant).budget,
    money: () => standing(rowhouse, tenant, 'money_per_month'),
  }
}

/** Costs 0.01 at most. */
const CALL = { model: 'large', units: { inputTokens: 1000, outputTokens: 800 }, rateLimit: null }

describe('what a call that', () => {
  test('reported used is settled, reports add up, and the result comes back', async () => {
    const { budget, money } = await tenantWith()
    const result = await budget.run({ ...CALL, provider: 'someone' }, async (call) => {
      expect(await money()).toEqual([0, 0.01, 0.99])
      call.report({ inputTokens: 1000 })
      call.report({ outputTokens: 100 })
      call.report({ outputTokens: 50 })
      return 'answer'
    })
    expect(result).toBe('answer')
    expect(await money()).toEqual([0.0035, 0, 0.9965])
  })

  test('reported nothing used is its worst case: nothing is free by accident', async () => {
    const { budget, money } = await tenantWith()
    await budget.run(CALL, () => 'no report')
    expect(await money()).toEqual([0.01, 0, 0.99])
  })

  test('failed without a report used nothing', async () => {
    const { budget, money } = await tenantWith()
    const failing = budget.run(CALL, () => Promise.reject(new Error('provider is down')))
    await expect(failing).rejects.toThrow('provider is down')
    expect(await money()).toEqual([0, 0, 1])
  })

  test('failed after a report used what it had reported', async () => {
    const { budget, money } = await tenantWith()
    const failing = budget.run(CALL, (call) => {
      call.report({ inputTokens: 500 })
      throw new Error('stream broke')
    })
    await expect(failing).rejects.toThrow('stream broke')
    expect(await money()).toEqual([0.001, 0, 0.999])
  })

  test('settled in parts used those, and what it reported besides', async () => {
    const { budget, money } = await tenantWith()
    await budget.run(CALL, async (call) => {
      await call.settlePart('one', { inputTokens: 500 })
      expect(await money()).toEqual([0.001, 0.009, 0.99])
      await call.settlePart('two', { inputTokens: 500 })
    })
    expect(await money()).toEqual([0.002, 0, 0.998])
  })

  test('was aborted used nothing', async () => {
    const { budget, money } = await tenantWith()
    const controller = new AbortController()
    const call = budget.run({ ...CALL, signal: controller.signal }, async ({ signal }) => {
      controller.abort(new Error('the user left'))
      await sleep(10_000, undefined, { signal })
    })
    await expect(call).rejects.toThrow()
    expect(await money()).toEqual([0, 0, 1])
    let begun = false
    const refused = budget.run({ ...CALL, signal: controller.signal }, () => {
      begun = true
    })
    await expect(refused).rejects.toThrow('the user left')
    expect(begun).toBe(false)
  })
})

test('a call that is not admitted does not begin', async () => {
  const { budget, money } = await tenantWith({ money_per_month: 0.005 })
  const fn = vi.fn()
  expect(await errorOf(budget.run(CALL, fn))).toBeInstanceOf(BudgetExceededError)
  expect(fn).not.toHaveBeenCalled()
  expect(await money()).toEqual([0, 0, 0.005])
})

test('a second call of the same request id does not begin: it would spend twice what is reserved once', async () => {
  const { budget, money } = await tenantWith()
  await budget.run({ ...CALL, requestId: 'same' }, async () => {
    expect((await errorOf(budget.run({ ...CALL, requestId: 'same' }, () => {}))).code).toBe('request_id_used')
  })
  expect((await errorOf(budget.run({ ...CALL, requestId: 'same' }, () => {}))).code).toBe('request_id_used')
  expect(await money()).toEqual([0.01, 0, 0.99])
})

test('inside withTenant it is refused, because the transaction would stay open', async () => {
  const { tenant, budget } = await tenantWith()
  await rowhouse.withTenant(tenant, async (_, context) => {
    expect((await errorOf(context.budget.run(CALL, () => {}))).code).toBe('invalid_argument')
    expect((await errorOf(budget.run(CALL, () => {}))).code).toBe('invalid_argument')
  })
})

test('a call longer than its lease keeps its reservation', async () => {
  const { budget, money } = await tenantWith()
  await budget.run({ ...CALL, leaseMs: 1000 }, async () => {
    await sleep(2500)
    expect(await money()).toEqual([0, 0.01, 0.99])
  })
  expect(await money()).toEqual([0.01, 0, 0.99])
})

test('a call that lost its reservation is told to stop, and is booked', async () => {
  const { tenant, budget, money } = await tenantWith()
  const call = budget.run({ ...CALL, leaseMs: 600, requestId: 'lost' }, async ({ signal, report }) => {
    report({ inputTokens: 1000 })
    await expire(database, tenant, 'lost')
    await sleep(10_000, undefined, { signal })
  })
  await expect(call).rejects.toThrow()
  expect(await money()).toEqual([0.002, 0, 0.998])
  expect(await differences(rowhouse, tenant)).toEqual([])
})

test('a database that is out of reach for a moment loses no settlement', needs('parallelBackends'), async () => {
  const { tenant, money } = await tenantWith()
  const proxy = await startProxy(database.url('app'))
  const through = createRowhouse({ connectionString: proxy.url })
  try {
    await through.tenant(tenant).budget.run(CALL, async (call) => {
      call.report({ inputTokens: 500 })
      await proxy.cut()
    })
    expect(await money()).toEqual([0.001, 0, 0.999])
  } finally {
    await through.close()
    await proxy.close()
  }
})

test('a process that is killed leaves a lease that runs out', needs('parallelBackends'), async () => {
  const { tenant, money } = await tenantWith()
  const child = fork(join(import.meta.dirname, 'killed-process.ts'), [database.url('app'), tenant])
  await new Promise((resolve) => child.once('message', resolve))
  expect(await money()).toEqual([0, 0.01, 0.99])
  child.kill('SIGKILL')
  await vi.waitFor(async () => expect(await money()).toEqual([0, 0, 1]), { timeout: 5000, interval: 100 })
  expect(await differences(rowhouse, tenant)).toEqual([])
})

describe('500 calls at once on 10 connections', { ...needs('parallelBackends'), timeout: 60_000 }, () => {
  test('leave none idle in a transaction', async () => {
    const { tenant, money } = await tenantWith({ money_per_month: 100, concurrency: 500 })
    const own = open({ poolOptions: { max: 10 } })
    const { budget } = own.tenant(tenant)
    let atOnce = 0
    let most = 0
    const idle = await idleInTransaction(async () => {
      const calls = Array.from({ length: 500 }, () =>
        budget.run({ ...CALL, leaseMs: 30_000 }, async (call) => {
          most = Math.max(most, ++atOnce)
          await sleep(5000)
          atOnce--
          call.report({ inputTokens: 500 })
        }),
      )
      await Promise.all(calls)
    })
    expect(idle).toEqual([])
    expect(most).toBe(500)
    expect(await money()).toEqual([0.5, 0, 99.5])
    expect((await errorOf(own.tenant(tenant).budget.admit({ units: { nothing: 1 } }))).code).toBe('unknown_quota')
  })

  test('would be seen: a call inside of a transaction that stays open is', async () => {
    const { tenant } = await tenantWith()
    const idle = await idleInTransaction(() =>
      rowhouse.withTenant(tenant, async (_db, { budget }) => {
        const { requestId } = await budget.admit(CALL)
        await sleep(1500)
        await budget.settle(requestId, { inputTokens: 500 })
      }),
    )
    expect(idle).not.toEqual([])
  })
})

/** The backends that were seen idle in a transaction for half a second, while something runs. */
async function idleInTransaction(run: () => Promise<unknown>): Promise<unknown[]> {
  // The login whose connections they are: other logins are not shown what a backend does.
  const observer = await database.connect('app')
  const idle: unknown[] = []
  let done = false
  const watch = (async () => {
    while (!done) {
      const { rows } = await observer.query(
        `select pid from pg_stat_activity
          where datname = current_database() and state like 'idle in transaction%' and state_change < clock_timestamp() - interval '500 ms'`,
      )
      idle.push(...rows)
      await sleep(50)
    }
  })()
  await run().finally(() => {
    done = true
  })
  await watch
  await observer.end()
  return idle
}
