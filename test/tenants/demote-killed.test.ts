// The process that demotes a tenant is killed at random moments, while the tenant and others read and write. Nobody ever
// finds half of the rows, none is lost or there twice, and the next call goes on.

import { fork } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { sql } from 'kysely'
import type pg from 'pg'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { createRowhouse, type Rowhouse, TenantMovingError } from '../../src/index.ts'
import { statusOf } from '../erase/support.ts'
import { asTenant, protect, provision } from '../protect/support.ts'
import { poll } from '../setup/connection.ts'
import { useDatabase } from '../setup/database.ts'

interface Tables {
  notes: { id: number; text: string }
  entries: { id: number; note: number }
  written: { id: number }
}

const ROWS = 4000
const KILLS = 6
const database = useDatabase({ needs: ['parallelBackends', 'superuser'] })
let owner: pg.Client
let rowhouse: Rowhouse<Tables>

beforeAll(async () => {
  owner = await database.connect('owner')
  rowhouse = createRowhouse<Tables>({
    connectionString: database.url('app'),
    admin: { connectionString: database.url('operator') },
    poolOptions: { max: 10 },
  })
  await owner.query(`
    create table notes (tenant_id text not null, id int, text text, primary key (tenant_id, id));
    create table entries (tenant_id text not null, id int, note int, primary key (tenant_id, id), foreign key (tenant_id, note) references notes);
    create table written (tenant_id text not null, id int, primary key (tenant_id, id));
    create function watch() returns trigger language plpgsql as $$ begin return new; end $$;
    create trigger watch before update on notes for each row execute function watch()`)
  for (const table of ['notes', 'entries', 'written']) await protect(owner, table, { partition: true })
  await provision(owner, 'acme', 'globex')
  for (const tenantId of ['acme', 'globex']) {
    await asTenant(owner, tenantId, (c) =>
      c.query(`insert into notes (id, text) select g, 'note ' || g from generate_series(1, ${ROWS}) g;
        insert into entries (id, note) select g, g from generate_series(1, ${ROWS}) g`),
    )
  }
})
afterAll(() => rowhouse.close())

/** Starts a demotion in a process of its own and kills it; whether it had ended before. */
async function demoteKilled(afterMs: number): Promise<boolean> {
  const child = fork(join(import.meta.dirname, 'demote-process.ts'), [database.url('owner'), 'acme'], {
    execArgv: [],
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  })
  const ended = once(child, 'exit')
  let done = false
  child.on('message', (message) => {
    done ||= message === 'done'
  })
  await once(child, 'message')
  await delay(afterMs)
  child.kill('SIGKILL')
  await ended
  await poll(
    async () => {
      const { rowCount } = await owner.query("select from pg_stat_activity where application_name = 'demotes'")
      return rowCount === 0 || undefined
    },
    { message: () => 'the backend did not end', timeoutMs: 30_000 },
  )
  return done
}

/** What the tenant finds in one transaction that only reads, in several statements. */
const read = (tenantId: string) =>
  rowhouse.withTenant(
    tenantId,
    async (db) => {
      const counts: number[] = []
      for (const table of ['notes', 'entries'] as const) {
        const { rows } = await sql<{ n: number }>`select count(*)::int as n from ${sql.table(table)}`.execute(db)
        counts.push(rows[0]!.n)
      }
      return counts
    },
    { readOnly: true },
  )

test('killed time and again, it ends with every row in its place', { timeout: 240_000 }, async () => {
  const hashes = async () =>
    Promise.all(
      ['notes', 'entries'].map(async (table) => {
        const { rows } = await asTenant(owner, 'acme', (c) =>
          c.query(`select count(*)::int as n, md5(string_agg(t::text, ',' order by id)) as hash from ${table} t`),
        )
        return rows[0]
      }),
    )
  const before = await hashes()
  const errors: unknown[] = []
  const written = { acme: 0, globex: 0 }
  let stopped = false
  const work = async (tenantId: keyof typeof written, run: (id: number) => Promise<void>) => {
    for (let id = 1; !stopped; id++) {
      await run(id).catch(async (error) => {
        // Only the tenant that is left half moved is told to come back.
        if (tenantId === 'acme' && error instanceof TenantMovingError) {
          await delay(5)
        } else errors.push(error)
      })
    }
  }
  const write = (tenantId: keyof typeof written) => async (id: number) => {
    await rowhouse.query(tenantId, (db) => db.insertInto('written').values({ id }))
    written[tenantId]++
  }
  const expectAll = (tenantId: string) => async () => {
    const counts = await read(tenantId)
    if (counts.some((count) => count !== ROWS)) errors.push(`${tenantId} found ${counts} rows`)
  }
  const working = [
    work('acme', write('acme')),
    work('acme', expectAll('acme')),
    work('globex', write('globex')),
    work('globex', expectAll('globex')),
  ]
  const cutOff = { closed: 0, before: 0 }
  let spanMs = 1200
  try {
    await rowhouse.tenants.promote('acme')
    for (let kills = 0; kills < KILLS; ) {
      if (await demoteKilled(Math.random() * spanMs)) {
        spanMs *= 0.8
        await rowhouse.tenants.promote('acme')
        continue
      }
      kills++
      const status = await statusOf(owner, 'acme')
      if (status === 'relocating') {
        cutOff.closed++
        // What was moved so far goes on from there, at the latest here.
        if (cutOff.closed % 2 === 0) await rowhouse.tenants.demote('acme')
      } else cutOff.before++
      if ((await statusOf(owner, 'acme')) === 'active') await rowhouse.tenants.promote('acme')
      expect(errors).toEqual([])
    }
    await rowhouse.tenants.demote('acme')
  } finally {
    stopped = true
    await Promise.all(working)
  }
  expect(errors).toEqual([])
  expect(cutOff.closed + cutOff.before).toBe(KILLS)
  expect(await statusOf(owner, 'acme')).toBe('active')
  expect(await hashes()).toEqual(before)
  for (const tenantId of ['acme', 'globex'] as const) {
    const found = await rowhouse.query(tenantId, (db) => db.selectFrom('written').select('id'))
    expect(found).toHaveLength(written[tenantId])
    expect(written[tenantId]).toBeGreaterThan(20)
  }
  expect(
    (
      await owner.query(
        "select from pg_namespace where nspname like 'rowhouse\\_p%' and nspname <> 'rowhouse_partitions'",
      )
    ).rowCount,
  ).toBe(0)
})
