// Several lifecycles at once: everything ends, no deadlock surfaces, and no row stays.

import type pg from 'pg'
import { beforeAll, describe, expect, test } from 'vitest'
import { asTenant, failure, protect, provision } from '../protect/support.ts'
import { useDatabase } from '../setup/database.ts'
import { openSessions, type Session, waitUntilBlocked } from '../setup/sessions.ts'
import { brokenReceipts, erase, rowsOf } from './support.ts'

const database = useDatabase({ needs: ['parallelBackends'] })
const TABLES = ['notes', 'entries', 'plain']
let owner: pg.Client
let one: Session
let two: Session
let number = 0

beforeAll(async () => {
  owner = await database.connect('owner')
  ;({ one, two } = await openSessions(database, { one: 'operator', two: 'operator' }))
  await owner.query(`
    create table notes (tenant_id text not null, id int, primary key (tenant_id, id));
    create table entries (tenant_id text not null, id int, note int, foreign key (tenant_id, note) references notes on delete cascade);
    create table plain (tenant_id text not null, v int)`)
  await protect(owner, 'notes', { partition: true })
  await protect(owner, 'entries', { partition: true })
  await protect(owner, 'plain')
})

async function newTenant({ promoted = false } = {}): Promise<string> {
  const tenantId = `tenant_${number++}`
  await provision(owner, tenantId)
  await asTenant(owner, tenantId, (c) =>
    c.query(`insert into notes (id) select generate_series(1, 20); insert into entries (id, note) select g, g from generate_series(1, 20) g;
      insert into plain (v) select generate_series(1, 5)`),
  )
  if (promoted) await owner.query('select rowhouse.promote_tenant($1)', [tenantId])
  return tenantId
}

const promote = (client: pg.ClientBase, tenantId: string) =>
  client.query('select rowhouse.promote_tenant($1)', [tenantId])
const demote = (client: pg.ClientBase, tenantId: string) =>
  client.query('select rowhouse.demote_tenant($1)', [tenantId])

async function expectErased(...tenantIds: readonly string[]): Promise<void> {
  for (const tenantId of tenantIds) {
    for (const table of TABLES) expect(await rowsOf(owner, table, tenantId), tenantId).toEqual([])
  }
  expect(await brokenReceipts(owner)).toEqual([])
}

describe('two at once', () => {
  test.each([
    ['two that share partitions', false, false],
    ['a promoted one and one that shares', true, false],
    ['two promoted ones', true, true],
  ])('erasures of %s', async (_what, firstPromoted, secondPromoted) => {
    for (let round = 0; round < 3; round++) {
      const first = await newTenant({ promoted: firstPromoted })
      const second = await newTenant({ promoted: secondPromoted })
      const receipts = await Promise.all([erase(one.client, first), erase(two.client, second)])
      expect(receipts.map(({ rows }) => rows)).toEqual([45, 45])
      await expectErased(first, second)
    }
  })

  test('the same tenant twice: one erases, the other is refused', async () => {
    const tenantId = await newTenant()
    const outcomes = await Promise.allSettled([erase(one.client, tenantId), erase(two.client, tenantId)])
    expect(outcomes.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected'])
    expect(outcomes.find((outcome) => outcome.status === 'rejected')!.reason).toMatchObject({ code: 'RH004' })
    await expectErased(tenantId)
  })

  test.each([
    ['promotion', promote, false],
    ['demotion', demote, true],
  ])('erasure and %s of the same tenant, in either order', async (_what, move, promoted) => {
    for (const order of [0, 1]) {
      const tenantId = await newTenant({ promoted })
      const works = [() => erase(one.client, tenantId), () => move(two.client, tenantId)]
      const outcomes = await Promise.allSettled((order === 0 ? works : works.reverse()).map((work) => work()))
      const refused = outcomes.filter((outcome) => outcome.status === 'rejected').map(({ reason }) => reason.code)
      for (const code of refused) expect(code).toMatch(/^RH0(04|32)$/)
      // The erasure may have met a tenant that was promoted that very moment: it says so, and is called again.
      if (refused.includes('RH032')) await erase(one.client, tenantId)
      await expectErased(tenantId)
    }
  })

  test('erasures, promotions and demotions of several tenants', async () => {
    for (let round = 0; round < 3; round++) {
      const [gone, goneToo, grown, shrunk] = [
        await newTenant(),
        await newTenant({ promoted: true }),
        await newTenant(),
        await newTenant({ promoted: true }),
      ]
      const clients = await Promise.all([1, 2].map(() => database.connect('operator')))
      await Promise.all([
        erase(one.client, gone),
        erase(two.client, goneToo),
        promote(clients[0]!, grown),
        demote(clients[1]!, shrunk),
      ])
      await expectErased(gone, goneToo)
      for (const tenantId of [grown, shrunk]) expect(await rowsOf(owner, 'entries', tenantId)).toHaveLength(20)
    }
  })
})

describe('an erasure and the definition of tables', () => {
  test('a table that is being protected, with its rows', async () => {
    const tenantId = await newTenant()
    const builder = await database.connect('owner')
    await builder.query(`begin; create table fresh (tenant_id text not null, id int, note int, foreign key (tenant_id, note) references notes);
      insert into fresh values ('${tenantId}', 1, null)`)
    await builder.query(`select rowhouse.protect_table('fresh', p_partition => true)`)
    // The foreign key keeps deletes from notes waiting; the table itself nobody can know yet.
    const erasing = erase(one.client, tenantId)
    await waitUntilBlocked(one).catch(() => {})
    await builder.query('commit')
    const receipt = await erasing
    expect(receipt.tables).toMatchObject({ 'public.fresh': 1, 'public.notes': 20 })
    expect(await rowsOf(owner, 'fresh', tenantId)).toEqual([])
    await expectErased(tenantId)
    await owner.query('drop table fresh')
  })

  test('tables that are created, protected, altered and dropped all the time', async () => {
    const builder = await database.connect('owner')
    let stopped = false
    const gone: string[] = []
    const building = (async () => {
      for (let count = 0; !stopped; count++) {
        await builder.query(`create table busy (tenant_id text not null, id int, primary key (tenant_id, id));
          grant select on busy to rowhouse_owner`)
        await protect(builder, 'busy', { partition: count % 2 === 0 })
        await builder.query('alter table busy add column note int')
        await builder.query('alter table plain alter column v set statistics 10')
        await builder.query('drop table busy')
      }
    })()
    const refused: string[] = []
    for (let round = 0; round < 8; round++) {
      gone.push(await newTenant({ promoted: round % 2 === 0 }))
      await erase(one.client, gone.at(-1)!).catch((error) => refused.push(`${gone.at(-1)} ${error.code}`))
    }
    stopped = true
    await building
    // A table that vanishes while it is looked at may refuse the erasure, which then erased nothing and is called again.
    for (const refusal of refused) {
      expect(refusal).toMatch(/ RH03[02]$/)
      expect(await rowsOf(owner, 'entries', refusal.split(' ')[0]!)).toHaveLength(20)
      expect((await erase(one.client, refusal.split(' ')[0]!)).rows).toBe(45)
    }
    await expectErased(...gone)
  })

  test('who alters one table after the other does not deadlock with it', async () => {
    const tenantId = await newTenant()
    const builder = await database.connect('owner')
    await builder.query('begin; alter table plain add column extra int')
    const erasing = erase(one.client, tenantId)
    await waitUntilBlocked(one)
    await builder.query('alter table notes add column extra int; alter table entries add column extra int')
    await builder.query('commit')
    await erasing
    await expectErased(tenantId)
  })

  test('negative control: locks that are taken one by one do', async () => {
    const builder = await database.connect('owner')
    const other = await database.connect('owner')
    await builder.query('begin; alter table plain add column control int')
    await other.query('begin; lock table notes in row exclusive mode')
    const waiting = other.query('lock table plain in row exclusive mode').catch((error) => error)
    await waitUntilBlocked(other)
    const altering = builder.query('alter table notes add column control int').catch((error) => error)
    const errors = await Promise.all([
      waiting.then((error) => other.query('rollback').then(() => error)),
      altering.then((error) => builder.query('rollback').then(() => error)),
    ])
    expect(errors.map(({ code }) => code)).toContain('40P01')
  })
})

test('a transaction that erases two tenants, while another erases them the other way around', async () => {
  const [first, second] = [await newTenant(), await newTenant()]
  await one.run('begin')
  await erase(one.client, first)
  await two.run('begin')
  const waiting = failure(
    (async () => {
      await erase(two.client, second)
      await two.run('commit')
      throw new Error('done')
    })(),
  )
  await waitUntilBlocked(two)
  const outcome = await erase(one.client, second).then(
    () => 'done',
    (error) => error.code,
  )
  await one.run(outcome === 'done' ? 'commit' : 'rollback')
  const other = await waiting
  await two.run('rollback')
  for (const result of [outcome, other.message === 'done' ? 'done' : other.code])
    expect(result).toMatch(/^(done|RH032|RH004)$/)
})
