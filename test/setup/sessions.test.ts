import { beforeAll, describe, expect, test } from 'vitest'
import { useDatabase } from './database.ts'
import { needs } from './needs.ts'
import { interleavings, openSessions, schedule, waitUntilBlocked } from './sessions.ts'

const database = useDatabase({ migrated: false })

beforeAll(async () => {
  const owner = await database.connect('owner')
  await owner.query('create table counters (id int primary key, value int not null default 0)')
  await owner.query('insert into counters values (1), (2)')
})

describe('sessions', needs('parallelBackends'), () => {
  test('waitUntilBlocked returns when the second waits for the first', async () => {
    const { first, second } = await openSessions(database, { first: 'owner', second: 'owner' })
    await first.run('begin; update counters set value = value + 1 where id = 1')
    const waiting = second.run('update counters set value = value + 1 where id = 1')
    const blockers = await waitUntilBlocked(second)
    const { rows } = await first.client.query('select pg_backend_pid() as pid')
    expect(blockers).toEqual([rows[0].pid])
    await first.run('rollback')
    await waiting
  })

  test('waitUntilBlocked fails when nobody waits', async () => {
    const { idle } = await openSessions(database, { idle: 'owner' })
    await expect(waitUntilBlocked(idle, { timeoutMs: 50 })).rejects.toThrow('did not wait for a lock')
  })

  test('schedule says who waited, and keeps the order of the rest', async () => {
    const { a, b } = await openSessions(database, { a: 'owner', b: 'owner' })
    const outcomes = await schedule([
      a.step('begin'),
      a.step('update counters set value = 10 where id = 1'),
      b.step('update counters set value = value + 1 where id = 1'),
      b.step('select value from counters where id = 2'),
      a.step('commit'),
    ])
    expect(outcomes.map(({ label, waited }) => `${label}${waited ? ' (waited)' : ''}`)).toEqual([
      'a: begin',
      'a: update counters set value = 10 where id = 1',
      'b: update counters set value = value + 1 where id = 1 (waited)',
      'a: commit',
      'b: select value from counters where id = 2',
    ])
    const { rows } = await a.client.query('select value from counters where id = 1')
    expect(rows[0].value).toBe(11)
  })

  test('a deadlock is the outcome of the step that lost', async () => {
    const { a, b } = await openSessions(database, { a: 'owner', b: 'owner' })
    const lock = (id: number) => `select from counters where id = ${id} for update`
    const outcomes = await schedule([
      ...[a.step('begin'), b.step('begin'), a.step(lock(1)), b.step(lock(2))],
      ...[a.step(lock(2)), b.step(lock(1)), a.step('rollback'), b.step('rollback')],
    ])
    expect(outcomes.filter(({ error }) => error).map(({ error }) => (error as { code?: string }).code)).toEqual([
      '40P01',
    ])
  })

  test('interleavings are all orders that keep each session in order', async () => {
    const { a, b } = await openSessions(database, { a: 'owner', b: 'owner' })
    const increment = 'update counters set value = value + 1 where id = 2'
    const orders = interleavings([a.step('begin'), a.step(increment), a.step('commit')], [b.step(increment)])
    expect(orders).toHaveLength(4)
    const waited: boolean[] = []
    for (const order of orders) waited.push((await schedule(order)).some((outcome) => outcome.waited))
    // b waits only where it comes between a's update and a's commit.
    expect(waited).toEqual([false, true, false, false])
  })
})
