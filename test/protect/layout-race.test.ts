// Partitioning replaces the table: a row that another transaction wrote meanwhile must not be lost.

import type pg from 'pg'
import { beforeAll, expect, test } from 'vitest'
import { useDatabase } from '../setup/database.ts'
import { openSessions, waitUntilBlocked } from '../setup/sessions.ts'
import { asTenant, failure, protect, provision } from './support.ts'

const database = useDatabase({ needs: ['parallelBackends'] })
let owner: pg.Client

beforeAll(async () => {
  owner = await database.connect('owner')
  await provision(owner, 'acme')
})

const count = async (table: string) =>
  (await asTenant(owner, 'acme', (c) => c.query(`select count(*)::int as n from ${table}`))).rows[0].n

test('a writer that has not committed is waited for', async () => {
  await owner.query('create table waits (tenant_id text not null, v int)')
  const { writer, builder } = await openSessions(database, { writer: 'owner', builder: 'owner' })
  await writer.run("begin; insert into waits values ('acme', 1)")
  const building = protect(builder.client, 'waits', { partition: true })
  await waitUntilBlocked(builder)
  await writer.run('commit')
  await building
  expect(await count('waits')).toBe(1)
})

test.each(['repeatable read', 'serializable'])(
  'an older snapshot (%s) does not partition a table with rows',
  async (level) => {
    const table = `older_${level.length}`
    await owner.query(`create table ${table} (tenant_id text not null, v int); insert into ${table} values ('acme', 1)`)
    const builder = await database.connect('owner')
    await builder.query(`begin isolation level ${level}`)
    await builder.query('select')
    // The negative control: the snapshot does not see this row, so a copy of what it sees would lose it.
    await builder.query('select 1 from pg_class limit 1')
    await owner.query(`insert into ${table} values ('acme', 2)`)
    expect((await builder.query(`select from ${table}`)).rowCount).toBe(1)
    expect((await failure(protect(builder, table, { partition: true }))).code).toBe('25000')
    await builder.query('rollback')
    await protect(builder, table, { partition: true })
    expect(await count(table)).toBe(2)
  },
)

test('an empty table is partitioned in any isolation level', async () => {
  await owner.query('begin isolation level repeatable read; create table empty (tenant_id text not null, v int)')
  await protect(owner, 'empty', { partition: true })
  await owner.query('commit')
  expect(await count('empty')).toBe(0)
})
