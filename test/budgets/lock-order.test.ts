// Whoever joins rate limits and budgets in one transaction waits for others, and never with them in a circle.
import { beforeAll, expect, test } from 'vitest'
import type { Rowhouse } from '../../src/index.ts'
import { hourly, provision, rowhouseFor } from '../rate-limits/support.ts'
import { useDatabase } from '../setup/database.ts'
import { openSessions, waitUntilBlocked } from '../setup/sessions.ts'
import { differences } from './support.ts'

const database = useDatabase({ needs: ['parallelBackends'] })
const open = rowhouseFor(database)
let rowhouse: Rowhouse
beforeAll(async () => {
  rowhouse = open()
  for (const tenant of ['acme', 'globex', 'initech']) {
    await provision(database, tenant)
    await rowhouse.quotas.set(tenant, 'concurrency', { limit: null })
    await rowhouse.rateLimits.set(tenant, 'requests', hourly(1_000_000))
    // Account and counter are there already.
    await rowhouse.tenant(tenant).budget.admit()
  }
})

/** One transaction takes from the rate limit and then admits; meanwhile another call is admitted on its own. */
async function interleave(tenant: string, limiter: string): Promise<string[]> {
  const { joined, plain } = await openSessions(database, { joined: 'app', plain: 'app' })
  const enter = `begin; set local role rowhouse_app; set local app.tenant_id = '${tenant}'`
  await joined.run(enter)
  await plain.run(enter)
  await joined.run(limiter)
  const codeOf = (error: { code: string }) => error.code
  const alone = plain.client.query(`select rowhouse.admit('alone')`).then(() => 'admitted', codeOf)
  await waitUntilBlocked(plain)
  const both = await joined.client.query(`select rowhouse.admit('joined')`).then(() => 'admitted', codeOf)
  await joined.run('commit')
  const answers = [both, await alone]
  await plain.run('commit')
  return answers.sort()
}

test('the limiter of a transaction takes the account first', async () => {
  expect(await interleave('acme', `select rowhouse.rate_limit()`)).toEqual(['admitted', 'admitted'])
})

test('control: without that, one of the two is ended by the database', async () => {
  const limiter = `select rowhouse.take_rate_limit('requests', null, null, null, '{""}', '{1}', '{1}')`
  expect(await interleave('globex', limiter)).toEqual(['40P01', 'admitted'])
})

test('no error of a deadlock surfaces, in whatever order transactions and calls come', {
  timeout: 60_000,
}, async () => {
  const tenant = 'initech'
  const other = open()
  const outcomes: Record<string, number> = {}
  const count = (what: string) => {
    outcomes[what] = (outcomes[what] ?? 0) + 1
  }
  const repeat = async (times: number, what: string, run: () => Promise<unknown>) => {
    for (let turn = 0; turn < times; turn++) {
      await run().then(
        () => count(what),
        (error: { code?: string }) => count(String(error.code)),
      )
    }
  }
  const { budget, rateLimiter } = other.tenant(tenant)
  const limiterFirst = () =>
    rowhouse.withTenant(tenant, async (_, joined) => {
      await joined.rateLimiter.allow()
      await joined.budget.admit()
      await joined.rateLimiter.allow('ann')
    })
  const budgetFirst = () =>
    rowhouse.withTenant(tenant, async (_, joined) => {
      await joined.rateLimiter.allow('ann')
      await joined.budget.settle((await joined.budget.admit()).requestId, {})
      await joined.rateLimiter.allow()
    })
  const alone = async () => {
    const { requestId } = await budget.admit({ subject: 'ann' })
    await budget.extend(requestId)
    await budget.release(requestId)
  }
  await Promise.all([
    repeat(30, 'limiter first', limiterFirst),
    repeat(30, 'limiter first', limiterFirst),
    repeat(30, 'budget first', budgetFirst),
    repeat(30, 'alone', alone),
    repeat(30, 'alone', alone),
    repeat(60, 'limiter alone', () => rateLimiter.allow('ann')),
  ])
  expect(outcomes).toEqual({ 'limiter first': 60, 'budget first': 30, alone: 60, 'limiter alone': 60 })
  expect(await differences(rowhouse, tenant)).toEqual([])
})
