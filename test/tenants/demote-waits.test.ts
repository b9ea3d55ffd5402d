// Between the steps of a demotion nobody reads half of the rows of the tenant: whoever enters it waits for the last step,
// by whatever way, and a demotion waits for those who entered before.

import { setTimeout as delay } from 'node:timers/promises'
import type pg from 'pg'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { createRowhouse, type Rowhouse } from '../../src/index.ts'
import { asTenant, failure, protect, provision } from '../protect/support.ts'
import { useDatabase } from '../setup/database.ts'
import { openSessions, type Session, waitUntilBlocked } from '../setup/sessions.ts'

const ROWS = 50
const database = useDatabase({ needs: ['parallelBackends'] })
let owner: pg.Client
let mover: Session
let reader: Session
let rowhouse: Rowhouse<{ notes: { id: number } }>
let number = 0
let acme: string

beforeAll(async () => {
  owner = await database.connect('owner')
  ;({ mover, reader } = await openSessions(database, { mover: 'operator', reader: 'app' }))
  rowhouse = createRowhouse({
    connectionString: database.url('app'),
    admin: { connectionString: database.url('operator') },
    poolOptions: { max: 20 },
  })
  await owner.query('create table notes (tenant_id text not null, id int, primary key (tenant_id, id))')
  await protect(owner, 'notes', { partition: true })
  await rowhouse.queues.define('gpu', { slots: 8 })
})
afterAll(() => rowhouse.close())

beforeEach(async () => {
  await reader.run('rollback')
  await mover.run('rollback')
  acme = `acme_${number++}`
  await provision(owner, acme)
  await asTenant(owner, acme, (c) => c.query(`insert into notes (id) select generate_series(1, ${ROWS})`))
  await owner.query('select rowhouse.promote_tenant($1)', [acme])
})

const enter = (mode: string) =>
  `begin ${mode}; set local role rowhouse_app; set local app.tenant_id = '${acme}'; select rowhouse.enter_tenant()`
const begin = () => mover.run(`select rowhouse.begin_demotion('${acme}')`)
const next = async () => (await mover.client.query('select rowhouse.demote_next($1) as moved', [acme])).rows[0].moved
const finish = async () => {
  while ((await next()) !== null);
}
const readAll = async () => (await reader.client.query('select count(*)::int as n from notes')).rows[0].n as number

test('every module waits for the rows, and then works', async () => {
  const tenant = rowhouse.tenant(acme, { userId: 'u_1' })
  const { id } = await tenant.sessions.create()
  await tenant.sessions.append(id, [{ role: 'user', content: 'Hello' }])
  const { key } = await rowhouse.apiKeys.issue(acme, { name: 'key' })
  await begin()
  const calls: Record<string, () => Promise<unknown>> = {
    query: () => rowhouse.query(acme, (db) => db.selectFrom('notes').select('id')),
    read: () => rowhouse.withTenant(acme, (db) => db.selectFrom('notes').select('id').execute(), { readOnly: true }),
    write: () => rowhouse.query(acme, (db) => db.insertInto('notes').values({ id: 0 })),
    kysely: () => rowhouse.kysely(acme).selectFrom('notes').select('id').execute(),
    messages: () => tenant.sessions.messages(id),
    append: () => tenant.sessions.append(id, [{ role: 'user', content: 'Still there?' }]),
    state: () => tenant.state.set('key', 1),
    audit: () => tenant.audit.append({ action: 'note' }),
    settings: () => tenant.settings.get(),
    budget: () => tenant.budget.admit({ rateLimit: null }),
    rateLimiter: () => tenant.rateLimiter.allow('user', { windows: [{ limit: 5, windowMs: 1000 }] }),
    queue: () => tenant.queue('gpu').enqueue(),
    lock: () => tenant.locks.withLock('nightly', async () => 'locked'),
    key: () => rowhouse.apiKeys.authenticate(key),
    operator: () => mover2.query('select rowhouse.rows_of_tenant($1)', [acme]),
    seal: () => rowhouse.auditLog.seal(acme),
  }
  const mover2 = await database.connect('operator')
  const settled: string[] = []
  const running = Object.entries(calls).map(async ([name, call]) => {
    const outcome = await call().then(
      () => 'done',
      (error: Error) => `${error.message} ${error.stack}`,
    )
    settled.push(name)
    return [name, outcome]
  })
  await delay(300)
  expect(settled).toEqual([])
  await finish()
  expect(await Promise.all(running)).toEqual(Object.keys(calls).map((name) => [name, 'done']))
  expect((await tenant.sessions.messages(id)).messages).toHaveLength(2)
})

describe('a transaction that entered before', () => {
  beforeEach(() => mover.run(`select rowhouse.begin_relocation('${acme}')`))

  test.each(['read only', 'read write', 'isolation level repeatable read'])(
    '%s: is waited for, and reads all',
    async (mode) => {
      if (mode.startsWith('isolation')) await mover.run(`select rowhouse.end_relocation('${acme}')`)
      await reader.run(enter(mode))
      if (mode.startsWith('isolation')) {
        await mover.run(`select rowhouse.begin_relocation('${acme}')`)
        expect((await mover.client.query('select rowhouse.await_entries(100) as ended')).rows).toEqual([
          { ended: false },
        ])
        expect(await readAll()).toBe(ROWS)
        await reader.run('commit')
        return finish()
      }
      const beginning = begin()
      await waitUntilBlocked(mover)
      expect(await readAll()).toBe(ROWS)
      await reader.run('commit')
      await beginning
      await finish()
    },
  )

  test('a demotion waits for its end', async () => {
    await mover.run(`select rowhouse.end_relocation('${acme}')`)
    await reader.run(enter('read only'))
    const demoting = rowhouse.tenants.demote(acme)
    await delay(200)
    expect(await readAll()).toBe(ROWS)
    await reader.run('commit')
    expect((await demoting).tables['public.notes']).toBe(ROWS)
  })
})

test.each([
  'isolation level repeatable read',
  'isolation level repeatable read read only',
  'isolation level serializable',
])('%s: a snapshot from before the end is told to try again, at the end', async (mode) => {
  await begin()
  const entering = failure(reader.run(enter(mode)))
  await delay(50)
  await finish()
  expect(await entering).toMatchObject({ code: '40001' })
  await reader.run('rollback')
  await reader.run(enter(mode))
  expect(await readAll()).toBe(ROWS)
  await reader.run('commit')
})

test('a snapshot from before it all, in which the tenant was open, is told to try again', async () => {
  await mover.run(`select rowhouse.begin_relocation('${acme}')`)
  for (const mode of ['', 'read only']) {
    await reader.run(`begin isolation level repeatable read ${mode}; select from rowhouse.applied_functions`)
    if (mode === '') await begin()
    expect(await failure(reader.run(enter('read write').replace(/^begin read write; /, '')))).toMatchObject({
      code: '40001',
    })
    await reader.run('rollback')
  }
  await finish()
})

test('negative control: without the first step, one that only reads is not waited for, and finds nothing', async () => {
  await reader.run(enter('read only'))
  await begin()
  expect(await readAll()).toBe(0)
  await reader.run('commit')
  await finish()
})
