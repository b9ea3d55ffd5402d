// An erasure that is cut off at any point erased everything or nothing, and is resumed by calling it again.

import type pg from 'pg'
import { beforeAll, describe, expect, test } from 'vitest'
import { createRowhouse } from '../../src/index.ts'
import { asTenant, failure, protect, provision } from '../protect/support.ts'
import { poll } from '../setup/connection.ts'
import { backendOf, useDatabase } from '../setup/database.ts'
import { needs } from '../setup/needs.ts'
import { brokenReceipts, erase, rowsIn, statusOf } from './support.ts'

const TABLES = ['notes', 'entries']

async function createTables(owner: pg.Client): Promise<void> {
  await owner.query(`
    create table notes (tenant_id text not null, id int, primary key (tenant_id, id));
    create table entries (tenant_id text not null, id int, note int, primary key (tenant_id, id),
      foreign key (tenant_id, note) references notes on delete cascade)`)
  await protect(owner, 'notes', { partition: true })
  await protect(owner, 'entries')
}

async function fill(owner: pg.Client, tenantId: string): Promise<void> {
  await provision(owner, tenantId)
  await asTenant(owner, tenantId, (c) =>
    c.query(`insert into notes (id) select generate_series(1, 300);
      insert into entries (id, note) select g, 1 + g % 300 from generate_series(1, 600) g`),
  )
}

/** Everything or nothing is there; then nothing. */
async function expectResumable(owner: pg.Client, tenantId: string, before: Record<string, string[]>): Promise<string> {
  const status = await statusOf(owner, tenantId)
  expect(['erasing', 'erased']).toContain(status)
  const rows = await rowsIn(owner, TABLES, tenantId)
  if (status === 'erasing') {
    expect(rows).toEqual(before)
    expect((await erase(owner, tenantId)).rows).toBe(900)
  }
  expect(await rowsIn(owner, TABLES, tenantId)).toEqual({ notes: [], entries: [] })
  expect(await brokenReceipts(owner)).toEqual([])
  return status!
}

describe('a backend that is ended', () => {
  const database = useDatabase()
  let owner: pg.Client

  beforeAll(async () => {
    owner = await database.connect('owner')
    await createTables(owner)
  })

  test('at any point', needs('parallelBackends', 'superuser'), async () => {
    const superuser = await database.connect('superuser')
    const statuses: string[] = []
    for (let round = 0; round < 12; round++) {
      const tenantId = `gone_${round}`
      await fill(owner, tenantId)
      if (round % 3 === 0) await owner.query('select rowhouse.promote_tenant($1)', [tenantId])
      const before = await rowsIn(owner, TABLES, tenantId)
      const eraser = await database.connect('operator')
      await eraser.query('select rowhouse.begin_erasure($1)', [tenantId])
      const erasing = erase(eraser, tenantId).then(
        () => 'erased',
        () => 'cut off',
      )
      // The first is cut off at once, the last one when it is done, or nearly.
      await new Promise((resolve) => setTimeout(resolve, round * 5))
      await superuser.query('select pg_terminate_backend($1)', [backendOf(eraser)])
      await erasing
      await poll(
        async () =>
          (await superuser.query('select from pg_stat_activity where pid = $1', [backendOf(eraser)])).rowCount === 0 ||
          undefined,
        { message: () => 'the backend did not end' },
      )
      statuses.push(await expectResumable(owner, tenantId, before))
    }
    expect(statuses).toContain('erasing')
  })

  test(
    'in a transaction that had finished erasing, but not committed',
    needs('parallelBackends', 'superuser'),
    async () => {
      await fill(owner, 'uncommitted')
      const before = await rowsIn(owner, TABLES, 'uncommitted')
      const eraser = await database.connect('operator')
      await eraser.query("select rowhouse.begin_erasure('uncommitted')")
      await eraser.query('begin')
      await erase(eraser, 'uncommitted')
      const superuser = await database.connect('superuser')
      await superuser.query('select pg_terminate_backend($1)', [backendOf(eraser)])
      await failure(eraser.query('commit'))
      expect(await expectResumable(owner, 'uncommitted', before)).toBe('erasing')
    },
  )

  test('negative control: deletes that are committed one by one leave a part', async () => {
    await fill(owner, 'partly')
    await asTenant(owner, 'partly', (c) => c.query('delete from entries'))
    const rows = await rowsIn(owner, TABLES, 'partly')
    expect([rows.entries!.length, rows.notes!.length]).toEqual([0, 300])
  })
})

describe('a server that crashes', () => {
  const database = useDatabase({ ownServer: true, needs: ['superuser'] })

  test('in the middle of an erasure (kill -9)', { timeout: 60_000 }, async () => {
    let owner = await database.connect('owner')
    const rowhouse = createRowhouse({ connectionString: database.url('owner') })
    await rowhouse.migrate()
    await rowhouse.close()
    await createTables(owner)
    for (const [index, delay] of [0, 15].entries()) {
      const tenantId = `gone_${index}`
      await fill(owner, tenantId)
      const before = await rowsIn(owner, TABLES, tenantId)
      await owner.query('select rowhouse.begin_erasure($1)', [tenantId])
      const eraser = await database.connect('owner')
      const erasing = erase(eraser, tenantId).catch(() => {})
      await new Promise((resolve) => setTimeout(resolve, delay))
      process.kill(backendOf(eraser), 'SIGKILL')
      await erasing
      // The server ends every connection when it notices, and takes new ones when it has recovered.
      await poll(
        () =>
          owner.query('select 1').then(
            () => undefined,
            () => true,
          ),
        { message: () => 'the server did not notice', timeoutMs: 20_000, everyMs: 20 },
      )
      owner = await poll(() => database.connect('owner').catch(() => undefined), {
        message: () => 'the server did not come back',
        timeoutMs: 20_000,
        everyMs: 100,
      })
      await expectResumable(owner, tenantId, before)
    }
  })
})
