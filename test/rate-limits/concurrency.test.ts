// Exactly as many calls as the limit has, whoever makes them and however many at once.
import { setTimeout as sleep } from 'node:timers/promises'
import { beforeAll, describe, expect, test, vi } from 'vitest'
import type { RateLimitWindow } from '../../src/index.ts'
import { useDatabase } from '../setup/database.ts'
import { needs } from '../setup/needs.ts'
import { count, HOUR_MS, hourly, inTenant, provision, rowhouseFor } from './support.ts'

const database = useDatabase()
const open = rowhouseFor(database)
beforeAll(() => provision(database, 'acme', 'globex'))

const LIMITS: Record<string, RateLimitWindow[]> = {
  'a sliding window': hourly(1000),
  gcra: hourly(1000, 'gcra'),
  'several windows': [
    { limit: 5000, windowMs: HOUR_MS },
    { limit: 1000, windowMs: 50 * HOUR_MS },
    { limit: 1000, windowMs: 100 * HOUR_MS, algorithm: 'gcra' },
  ],
}

describe.for(Object.entries(LIMITS))('%s of 1000', ([name, windows]) => {
  test('admits exactly 1000 of 4000 concurrent calls of one process', async () => {
    const { rateLimiter } = open().tenant('acme')
    const results = await Promise.all(Array.from({ length: 4000 }, () => rateLimiter.consume(name, { windows })))
    expect(count(results, ({ allowed }) => allowed)).toBe(1000)
    // Each call has its own answer: the n-th that was admitted left what was left after n.
    const remaining = results.filter(({ allowed }) => allowed).map((result) => result.remaining)
    expect(remaining.sort((one, other) => other - one)).toEqual(Array.from({ length: 1000 }, (_, index) => 999 - index))
    expect(results.filter(({ allowed }) => !allowed).every(({ retryAfterMs }) => retryAfterMs > 0)).toBe(true)
  })

  test('admits exactly 1000 of 4000 from several pools and plain connections', needs('parallelBackends'), async () => {
    const limiters = [open(), open(), open()].map((rowhouse) => rowhouse.tenant('globex').rateLimiter)
    const clients = await Promise.all(Array.from({ length: 10 }, () => database.connect('app')))
    const plain = clients.map(async (client) => {
      const rows = []
      for (let call = 0; call < 100; call++) {
        const sql = "select rowhouse.rate_limit($1, p_windows => $2) ->> 'allowed' = 'true' as allowed"
        rows.push(...(await inTenant<{ allowed: boolean }>(client, 'globex', sql, [name, JSON.stringify(windows)])))
      }
      return rows.map(({ allowed }) => allowed)
    })
    const pooled = limiters.map((limiter) =>
      Promise.all(Array.from({ length: 1000 }, () => limiter.allow(name, { windows }))),
    )
    const answers = (await Promise.all([...plain, ...pooled])).flat()
    expect(answers).toHaveLength(4000)
    expect(count(answers)).toBe(1000)
  })
})

test('negative control: deciding without the lock on the counter admits more', needs('parallelBackends'), async () => {
  const owner = await database.connect('owner')
  await owner.query(`
    create table unlocked (state bigint[]);
    insert into unlocked values ('{0}');
    grant select, update on unlocked to public;
    create function decide_unlocked() returns integer language plpgsql security definer as $$
    declare v_state bigint[]; v_decision record;
    begin
      select state into v_state from unlocked;
      v_decision := rowhouse.decide_rate_limit(v_state, 1000000, '{200}', '{3600000}', '{200}', 1, 1, 0);
      update unlocked set state = v_decision.state where v_decision.admitted = 1;
      return v_decision.admitted;
    end $$`)
  const clients = await Promise.all(Array.from({ length: 10 }, () => database.connect('app')))
  const admitted = await Promise.all(
    clients.map(async (client) => {
      let sum = 0
      for (let call = 0; call < 80; call++) {
        const { rows } = await client.query<{ admitted: number }>('select decide_unlocked() as admitted')
        sum += rows[0]!.admitted
      }
      return sum
    }),
  )
  expect(admitted.reduce((sum, each) => sum + each)).toBeGreaterThan(200)
})

test('mixed costs of concurrent calls never pass the limit, and leave nothing that a denied call had room in', async () => {
  const { rateLimiter } = open().tenant('acme')
  const costs = Array.from({ length: 600 }, (_, index) => 1 + (index % 7))
  const answers = await Promise.all(costs.map((cost) => rateLimiter.allow('mixed', { cost, windows: hourly(500) })))
  const used = costs.reduce((sum, cost, index) => sum + (answers[index] ? cost : 0), 0)
  const cheapestDenied = Math.min(...costs.filter((_, index) => !answers[index]))
  expect(used).toBeLessThanOrEqual(500)
  expect(500 - used).toBeLessThan(cheapestDenied)
})

test('many subjects at once: each has a limit of its own', async () => {
  const { rateLimiter } = open().tenant('acme')
  const calls = Array.from({ length: 3000 }, (_, index) => `user:${index % 500}`)
  const answers = await Promise.all(calls.map((subject) => rateLimiter.allow(subject, { windows: hourly(4) })))
  for (let user = 0; user < 500; user++) {
    expect(count(answers.filter((_, index) => index % 500 === user))).toBe(4)
  }
})

test('statements over many subjects in any order do not deadlock', needs('parallelBackends'), async () => {
  const subjects = Array.from({ length: 50 }, (_, index) => `s${index}`)
  const clients = await Promise.all(Array.from({ length: 6 }, () => database.connect('app')))
  const sql = `select sum((d.decision ->> 0)::integer)::integer as admitted from json_array_elements(rowhouse.take_rate_limit(
    null, '{1000000}', '{3600000}', '{1000000}', $1, array_fill(1::bigint, array[50]), array_fill(1, array[50]))) d (decision)`
  const sums = await Promise.all(
    clients.map(async (client, number) => {
      let sum = 0
      for (let round = 0; round < 20; round++) {
        const order = number % 2 === 0 ? subjects : subjects.toReversed()
        sum += (await inTenant<{ admitted: number }>(client, 'acme', sql, [order]))[0]!.admitted
      }
      return sum
    }),
  )
  expect(sums.reduce((sum, each) => sum + each)).toBe(6 * 20 * 50)
})

test('a call waits for its counter as long as the timeouts of its tenant say', needs('parallelBackends'), async () => {
  const rowhouse = open()
  await provision(database, 'hurried')
  await rowhouse.timeouts.set('hurried', { statementMs: 60_000, lockMs: 200 })
  const { rateLimiter } = rowhouse.tenant('hurried')
  const windows = hourly(10)
  await rateLimiter.allow('s', { windows })
  const holder = await database.connect('app')
  await holder.query("begin; set local role rowhouse_app; set local app.tenant_id = 'hurried'")
  await holder.query(`select rowhouse.rate_limit('s', p_windows => '${JSON.stringify(windows)}')`)
  // A transaction that nothing entered has the timeout of its tenant from here on; what it said itself stays.
  expect((await holder.query('show lock_timeout')).rows).toEqual([{ lock_timeout: '200ms' }])
  await holder.query('set local lock_timeout = 700')
  await holder.query(`select rowhouse.rate_limit('s', p_windows => '${JSON.stringify(windows)}')`)
  expect((await holder.query('show lock_timeout')).rows).toEqual([{ lock_timeout: '700ms' }])
  await expect(rateLimiter.allow('s', { windows })).rejects.toThrow('lock timeout')
  // The control: without them it waits until the counter is free.
  await rowhouse.timeouts.set('hurried', {})
  const waiting = rateLimiter.allow('s', { windows })
  expect(await Promise.race([waiting, sleep(600, 'still waiting')])).toBe('still waiting')
  await holder.query('commit')
  expect(await waiting).toBe(true)
})

test('a client whose clock is an hour off changes nothing', async () => {
  const windows = hourly(10)
  const right = open().tenant('acme').rateLimiter
  expect(await right.allow('clock', { windows, cost: 9 })).toBe(true)
  for (const offset of [HOUR_MS, -HOUR_MS]) {
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + offset })
    try {
      const wrong = open().tenant('acme').rateLimiter
      const { allowed, remaining, resetMs } = await wrong.check('clock', { windows })
      expect({ allowed, remaining }).toEqual({ allowed: true, remaining: 1 })
      expect(resetMs).toBeGreaterThan(99 * HOUR_MS)
      expect(await wrong.allow('clock', { windows, cost: 2 })).toBe(false)
    } finally {
      vi.useRealTimers()
    }
  }
})
