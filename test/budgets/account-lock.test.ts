// Two calls that race for what is left of a quota: the lock on the account decides, the table itself is the second wall.
import { setTimeout as sleep } from 'node:timers/promises'
import { beforeAll, expect, test } from 'vitest'
import type { Rowhouse } from '../../src/index.ts'
import { provision, rowhouseFor } from '../rate-limits/support.ts'
import { useDatabase } from '../setup/database.ts'
import { openSessions, waitUntilBlocked } from '../setup/sessions.ts'
import { differences, standing } from './support.ts'

const database = useDatabase({ needs: ['parallelBackends', 'superuser'] })
const open = rowhouseFor(database)
let rowhouse: Rowhouse
beforeAll(async () => {
  rowhouse = open()
  await provision(database, 'acme', 'globex')
  await rowhouse.quotas.define('pages', { metric: 'pages', period: 'total' })
})

/** Two calls for 6 of 10 pages: the second one is asked while the first one's transaction is open. */
async function race(tenant: string): Promise<unknown> {
  await rowhouse.quotas.set(tenant, 'pages', { limit: 10 })
  // An account that is there already: the second one would wait for its row to be inserted, too.
  const { budget } = rowhouse.tenant(tenant)
  const { requestId } = await budget.admit({ units: { pages: 1 }, rateLimit: null })
  await budget.release(requestId)
  const sessions = await openSessions(database, { first: 'app', second: 'app' })
  const enter = `begin; set local role rowhouse_app; set local app.tenant_id = '${tenant}'`
  const admit = (request: string) =>
    `select rowhouse.admit('${request}', '{"pages": 6}', p_rate_limit => null) as answer`
  await sessions.first.run(enter)
  await sessions.first.run(admit('first'))
  await sessions.second.run(enter)
  const second = sessions.second.client.query(admit('second')).then(
    ({ rows }) => rows[0].answer,
    (error: unknown) => error,
  )
  await waitUntilBlocked(sessions.second)
  await sessions.first.run('commit')
  const answer = await second
  await sessions.second.run('commit')
  return answer
}

test('the second call waits for the first, and is denied by what is left then', async () => {
  expect(await race('acme')).toMatchObject({
    admitted: false,
    reason: 'quota_exceeded',
    quota: 'pages',
    limit: 10,
    reserved: 6,
  })
  expect(await standing(rowhouse, 'acme', 'pages')).toEqual([0, 6, 4])
  expect(await differences(rowhouse, 'acme')).toEqual([])
})

test('a call waits for its account as long as the timeouts of its tenant say', async () => {
  await rowhouse.timeouts.set('acme', { statementMs: 60_000, lockMs: 200 })
  const { budget } = rowhouse.tenant('acme')
  const sessions = await openSessions(database, { holder: 'app' })
  await sessions.holder.run("begin; set local role rowhouse_app; set local app.tenant_id = 'acme'")
  await sessions.holder.run(`select rowhouse.admit('holds the account', '{}', p_rate_limit => null)`)
  try {
    await expect(budget.admit({ rateLimit: null })).rejects.toThrow('lock timeout')
    // The control: without them it waits until the account is free.
    await rowhouse.timeouts.set('acme', {})
    const waiting = budget.admit({ rateLimit: null })
    expect(await Promise.race([waiting, sleep(600, 'still waiting')])).toBe('still waiting')
    await sessions.holder.run('commit')
    expect(await waiting).toMatchObject({ duplicate: false })
  } finally {
    await rowhouse.timeouts.set('acme', {})
  }
})

test('negative control: without the lock it is admitted by what was left before, and only the constraint stops it', async () => {
  const superuser = await database.connect('superuser')
  const { rows } = await superuser.query<{ source: string }>(
    `select pg_get_functiondef('rowhouse.lock_account(text[], boolean)'::regprocedure) as source`,
  )
  const { source } = rows[0]!
  expect(source).toContain('for update')
  await superuser.query(source.replace('for update', ''))
  expect(await race('globex')).toMatchObject({ code: '23514', constraint: 'quota_counters_within_allowance' })
  expect(await standing(rowhouse, 'globex', 'pages')).toEqual([0, 6, 4])
})
