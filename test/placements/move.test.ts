// A tenant moves to another database and back: everything arrives, callers are sent to where it is, no two copies can be
// written, and a process that dies anywhere leaves nothing that calling it again does not mend.

import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { sql } from 'kysely'
import type pg from 'pg'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import {
  createRowhouse,
  type MoveStep,
  type Rowhouse,
  TenantMovedError,
  TenantMovingError,
  TenantSuspendedError,
} from '../../src/index.ts'
import { failure, protect } from '../protect/support.ts'
import { useDatabase } from '../setup/database.ts'
import { needs } from '../setup/needs.ts'
import { openSessions, waitUntilBlocked } from '../setup/sessions.ts'

const homeDatabase = useDatabase({ needs: ['parallelBackends'] })
const euDatabase = useDatabase({ needs: ['parallelBackends'] })
const opened: Rowhouse[] = []
let rowhouse: Rowhouse
let owners: { home: pg.Client; eu: pg.Client }

function open(placements = true): Rowhouse {
  const made = createRowhouse({
    pool: homeDatabase.pool('app', { max: 4 }),
    admin: { pool: homeDatabase.pool('operator', { max: 4 }) },
    ...(placements && {
      placements: {
        eu: { pool: euDatabase.pool('app', { max: 4 }), admin: { pool: euDatabase.pool('operator', { max: 4 }) } },
      },
    }),
  })
  opened.push(made)
  return made
}

beforeAll(async () => {
  owners = { home: await homeDatabase.connect('owner'), eu: await euDatabase.connect('owner') }
  for (const owner of Object.values(owners)) {
    await owner.query('create table notes (tenant_id text not null, id int, body text, primary key (tenant_id, id))')
    await protect(owner, 'notes')
  }
  rowhouse = open()
})
afterAll(async () => {
  for (const made of opened) await made.close()
})

let number = 0
/** A tenant with rows, settings, a trail and a key. */
async function tenant(rows = 3): Promise<string> {
  const id = `t${++number}`
  await rowhouse.tenants.provision(id, { name: `Tenant ${number}`, tier: 'professional' })
  await rowhouse.withTenant(id, async (db, { audit }) => {
    await sql`insert into notes (id, body) select g, 'note ' || g from generate_series(1, ${rows}::int) g`.execute(db)
    await audit.append({ action: 'note.write' })
  })
  await rowhouse.auditLog.seal()
  return id
}

const notesOf = (id: string, at = rowhouse) =>
  at.query(id, (db) => db.selectFrom('notes').select(['id', 'body']).orderBy('id'))
const write = (id: string, noteId: number, at = rowhouse) =>
  at.withTenant(id, (db) => db.insertInto('notes').values({ id: noteId, body: 'new' }).execute())

/** The status that each registry says, and the rows that are there. */
async function statuses(id: string) {
  const found: Record<string, [string | undefined, number]> = {}
  for (const [name, owner] of Object.entries(owners)) {
    await owner.query(`begin; set local role rowhouse_owner; set local app.tenant_id = '${id}'`)
    const { rows } = await owner.query('select status from rowhouse.tenants where tenant_id = $1', [id])
    const { rows: counts } = await owner.query('select count(*)::int as count from notes')
    await owner.query('commit')
    found[name] = [rows[0]?.status, counts[0].count]
  }
  return found
}

describe('a move', () => {
  test('waits for nobody, and a call that ends meanwhile is booked where the tenant is then', async () => {
    const id = await tenant()
    const { budget } = rowhouse.tenant(id)
    const ended = Promise.withResolvers<void>()
    const begun = Promise.withResolvers<void>()
    const call = budget.run({ requestId: 'moving', units: { money: '2' } }, async () => {
      begun.resolve()
      await ended.promise
      return 'the answer'
    })
    await begun.promise
    // The copy waits for this lock, so the tenant is closed when the call ends.
    await owners.eu.query('begin; lock table notes in exclusive mode')
    const copying = Promise.withResolvers<void>()
    const moved = rowhouse.tenants.move(id, 'eu', { onStep: (step) => step === 'copy' && copying.resolve() })
    await copying.promise
    await expect(budget.admit({ requestId: 'refused', units: {} })).rejects.toThrow(TenantMovingError)
    ended.resolve()
    // Longer than a refusal is repeated by itself.
    await new Promise((resolve) => setTimeout(resolve, 2500))
    await owners.eu.query('commit')
    expect((await moved).to).toBe('eu')
    expect(await call).toBe('the answer')
    const { rows } = await sql`select cost::float from rowhouse.usage_events where request_id = 'moving'`.execute(
      rowhouse.kysely(id),
    )
    expect(rows).toEqual([{ cost: 2 }])
    expect((await budget.checkQuotas()).every(({ reserved }) => reserved === 0)).toBe(true)
  })

  test('brings everything, and erases the source with a receipt', async () => {
    const id = await tenant()
    const before = await rowhouse.tenants.contentHash(id)
    const { key } = await rowhouse.apiKeys.issue(id, { name: 'k', scopes: ['*'] })
    const steps: MoveStep[] = []
    const receipt = await rowhouse.tenants.move(id, 'eu', { onStep: (step) => steps.push(step) })
    expect(steps).toEqual(['close', 'copy', 'switch', 'open', 'erase'])
    expect(receipt).toMatchObject({ tenantId: id, from: 'home', to: 'eu', contentHash: before })
    expect(receipt.erasure).toMatchObject({ movedTo: 'eu', contentHash: before, residue: { rows: 0 } })
    expect(receipt.erasure.tables['public.notes']).toBe(3)
    expect(await statuses(id)).toEqual({ home: ['moved', 0], eu: ['active', 3] })
    expect(await rowhouse.tenants.contentHash(id)).toBe(before)
    expect(await rowhouse.tenants.get(id)).toMatchObject({ status: 'active', placement: 'eu', tier: 'professional' })
    expect((await rowhouse.tenants.verifyErasures()).every(({ intact }) => intact)).toBe(true)
    // Everybody is sent on: this process, another one that never heard of it, modules, operators.
    expect(await notesOf(id)).toHaveLength(3)
    const other = open()
    await write(id, 4, other)
    expect(await notesOf(id, other)).toHaveLength(4)
    expect(
      await other
        .kysely(id)
        .transaction()
        .execute((trx) => trx.selectFrom('notes').selectAll().execute()),
    ).toHaveLength(4)
    expect((await other.apiKeys.authenticate(key)).tenantId).toBe(id)
    expect((await other.auditLog.verify(id)).intact).toBe(true)
    expect((await other.tenant(id).audit.query({ action: 'rowhouse.tenant.import' }))[0]?.detail).toMatchObject({
      placement: 'home',
    })
    await other.tenants.suspend(id)
    expect(await failure(notesOf(id))).toBeInstanceOf(TenantSuspendedError)
    await other.tenants.resume(id)
    const ids: string[] = []
    for await (const found of rowhouse.tenants.all({ status: 'active' })) ids.push(found.id)
    expect(ids).toContain(id)
  })

  test('costs no round trip where the tenant is known', async () => {
    const id = await tenant()
    await rowhouse.tenants.move(id, 'eu')
    const other = open()
    await notesOf(id, other)
    // Its registry at home is not asked any more.
    await owners.home.query(
      'begin; set local role rowhouse_owner; lock table rowhouse.tenants in access exclusive mode',
    )
    try {
      expect(await notesOf(id, other)).toHaveLength(3)
    } finally {
      await owners.home.query('rollback')
    }
  })

  test('back home, and forth again', async () => {
    const id = await tenant()
    await rowhouse.tenants.move(id, 'eu')
    const stale = open()
    await write(id, 4, stale)
    await rowhouse.tenants.move(id, 'home')
    expect(await statuses(id)).toEqual({ home: ['active', 4], eu: ['moved', 0] })
    await write(id, 5, stale)
    expect(await notesOf(id)).toHaveLength(5)
    expect((await rowhouse.auditLog.verify(id)).intact).toBe(true)
    await rowhouse.tenants.move(id, 'eu')
    await write(id, 6, stale)
    expect(await statuses(id)).toEqual({ home: ['moved', 0], eu: ['active', 6] })
    expect((await rowhouse.auditLog.verify(id)).intact).toBe(true)
    expect((await rowhouse.tenants.verifyErasures()).every(({ intact }) => intact)).toBe(true)
  })

  test('of a suspended tenant leaves it suspended', async () => {
    const id = await tenant()
    await rowhouse.tenants.suspend(id)
    await rowhouse.tenants.move(id, 'eu')
    expect(await rowhouse.tenants.get(id)).toMatchObject({ status: 'suspended', placement: 'eu' })
  })

  test('who does not know the other database is told so', async () => {
    const id = await tenant()
    await rowhouse.tenants.move(id, 'eu')
    const error = (await failure(notesOf(id, open(false)))) as unknown as TenantMovedError
    expect(error).toBeInstanceOf(TenantMovedError)
    expect(error).toMatchObject({ code: 'tenant_moved', placement: 'eu', retryable: true, httpStatus: 503 })
    const known = await open(false).tenants.get(id)
    expect(known).toMatchObject({ status: 'moved', placement: 'eu' })
    expect((await failure(rowhouse.tenants.move(id, 'us'))).message).toMatch(/no placement "us"/)
    expect((await failure(rowhouse.tenants.move(id, 'eu'))).message).toMatch(/is in "eu" already/)
  })
})

describe('while it moves', () => {
  test('a transaction that began before is waited for, and what it wrote arrives', async () => {
    const id = await tenant()
    let moving: Promise<unknown> | undefined
    await rowhouse.withTenant(id, async (db) => {
      await db.insertInto('notes').values({ id: 7, body: 'late' }).execute()
      moving = rowhouse.tenants.move(id, 'eu')
      for (let status = ''; status !== 'moving'; ) {
        const { rows } = await owners.home
          .query(`begin; set local role rowhouse_owner`)
          .then(() => owners.home.query('select status from rowhouse.tenants where tenant_id = $1', [id]))
        status = rows[0].status
        await owners.home.query('commit')
      }
    })
    await moving
    expect((await notesOf(id)).map((row: any) => row.body)).toContain('late')
  })

  test('no write is lost or doubled, whoever writes', { timeout: 60_000 }, async () => {
    const id = await tenant(200)
    const done: number[] = []
    let next = 1000
    let stop = false
    const others = [rowhouse, open(), open()]
    const writers = others.map(async (at) => {
      while (!stop) {
        const noteId = next++
        try {
          await write(id, noteId, at)
          done.push(noteId)
        } catch (error) {
          expect(error).toBeInstanceOf(TenantMovingError)
          await new Promise((resolve) => setTimeout(resolve, 5))
        }
      }
    })
    for (const place of ['eu', 'home', 'eu']) await rowhouse.tenants.move(id, place)
    stop = true
    await Promise.all(writers)
    const ids = (await notesOf(id)).map((row: any) => row.id).filter((noteId: number) => noteId >= 1000)
    expect(ids).toEqual([...done].sort((left, right) => left - right))
    expect(ids.length).toBeGreaterThan(0)
  })
})

describe('a move that fails', () => {
  test('before it switched leaves the tenant where it was, and nothing at the other end', async () => {
    const id = await tenant()
    await owners.eu.query('alter table notes rename to other')
    const error = await failure(rowhouse.tenants.move(id, 'eu'))
    await owners.eu.query('alter table other rename to notes')
    expect(error.message).toMatch(/table public\.notes is missing/)
    expect(await statuses(id)).toEqual({ home: ['active', 3], eu: [undefined, 0] })
    await write(id, 4)
    await rowhouse.tenants.move(id, 'eu')
    expect(await notesOf(id)).toHaveLength(4)
  })

  test('because it takes too long', async () => {
    const id = await tenant(50_000)
    const error = await failure(rowhouse.tenants.move(id, 'eu', { maxPauseMs: 1 }))
    expect(error.message).toMatch(/not ready after 1 ms/)
    expect(await statuses(id)).toEqual({ home: ['active', 50_000], eu: [undefined, 0] })
    await write(id, 50_001)
  })

  test('two at once: one does it', { repeats: 4 }, async () => {
    const id = await tenant()
    const outcomes = await Promise.allSettled([rowhouse.tenants.move(id, 'eu'), open().tenants.move(id, 'eu')])
    expect(outcomes.some(({ status }) => status === 'fulfilled')).toBe(true)
    const { home, eu } = await statuses(id)
    expect([home, eu]).toEqual([
      ['moved', 0],
      ['active', 3],
    ])
  })
})

/** The databases in which a write for the tenant gets through; it is rolled back. */
async function writableEnds(id: string): Promise<string[]> {
  const found: string[] = []
  for (const [name, owner] of Object.entries(owners)) {
    await owner.query(`begin; set local role rowhouse_app; set local app.tenant_id = '${id}'`)
    await owner.query("insert into notes values ($1, -1, 'probe')", [id]).then(
      () => found.push(name),
      () => {},
    )
    await owner.query('rollback')
  }
  return found
}

describe('a process that is killed', () => {
  const killedBefore = async (id: string, step: string, to = 'eu') => {
    const program = join(import.meta.dirname, 'move-process.ts')
    const error = await promisify(execFile)(process.execPath, [
      program,
      homeDatabase.url('owner'),
      euDatabase.url('owner'),
      id,
      step,
      to,
    ]).then(
      () => undefined,
      (reason) => reason,
    )
    expect(error).toMatchObject({ signal: 'SIGKILL' })
  }

  test.each<[string, string, string | undefined]>([
    ['close', 'active', undefined],
    ['copy', 'moving', undefined],
    ['copying', 'moving', undefined],
    ['switch', 'moving', 'importing'],
    ['open', 'moved', 'importing'],
    ['erase', 'moved', 'active'],
  ])('before or while: %s', { timeout: 60_000, ...needs('parallelBackends') }, async (step, home, eu) => {
    const id = await tenant(30_000)
    const before = await rowhouse.tenants.contentHash(id)
    await killedBefore(id, step)
    // What the process had begun ends with its connections.
    await expect.poll(async () => (await statuses(id)).eu?.[0]).toBe(eu)
    expect((await statuses(id)).home?.[0]).toBe(home)
    const writable = await writableEnds(id)
    if (step === 'close') expect(writable).toEqual(['home'])
    else if (step === 'erase') expect(writable).toEqual(['eu'])
    else {
      expect(writable).toEqual([])
      for (const call of [() => notesOf(id), () => write(id, 9), () => rowhouse.tenants.suspend(id)]) {
        const refused = await failure(call())
        expect(refused).toBeInstanceOf(TenantMovingError)
        expect(refused).toMatchObject({ httpStatus: 503, retryable: true, retryAfterMs: 1000 })
      }
    }
    const receipt = await rowhouse.tenants.move(id, 'eu')
    expect(receipt.contentHash).toBe(before)
    expect(await statuses(id)).toEqual({ home: ['moved', 0], eu: ['active', 30_000] })
    expect(await rowhouse.tenants.contentHash(id)).toBe(before)
    expect((await rowhouse.auditLog.verify(id)).intact).toBe(true)
  })

  test.each<[string, string, string, string[]]>([
    ['close', 'moved', 'active', ['eu']],
    ['copy', 'moved', 'moving', []],
    ['copying', 'moved', 'moving', []],
    ['switch', 'importing', 'moving', []],
    ['open', 'importing', 'moved', []],
    ['erase', 'active', 'moved', ['home']],
  ])('on the way back, before or while: %s', { timeout: 60_000 }, async (step, home, eu, writable) => {
    const id = await tenant(30_000)
    const before = await rowhouse.tenants.contentHash(id)
    await rowhouse.tenants.move(id, 'eu')
    await killedBefore(id, step, 'home')
    await expect.poll(async () => (await statuses(id)).home?.[0]).toBe(home)
    expect((await statuses(id)).eu?.[0]).toBe(eu)
    expect(await writableEnds(id)).toEqual(writable)
    await open().tenants.move(id, 'home')
    expect(await statuses(id)).toEqual({ home: ['active', 30_000], eu: ['moved', 0] })
    expect(await rowhouse.tenants.contentHash(id)).toBe(before)
    expect((await rowhouse.auditLog.verify(id)).intact).toBe(true)
  })

  test.each(['copy', 'switch'])('on the way back, and is called off, before: %s', { timeout: 60_000 }, async (step) => {
    const id = await tenant()
    await rowhouse.tenants.move(id, 'eu')
    await killedBefore(id, step, 'home')
    expect(await open().tenants.cancelMove(id)).toBe(true)
    expect(await statuses(id)).toEqual({ home: ['moved', 0], eu: ['active', 3] })
    const other = open()
    await write(id, 4, other)
    expect(await notesOf(id, other)).toHaveLength(4)
    expect(await other.tenants.get(id)).toMatchObject({ status: 'active', placement: 'eu' })
    await other.tenants.move(id, 'home')
    expect(await statuses(id)).toEqual({ home: ['active', 4], eu: ['moved', 0] })
  })

  test.each(['copy', 'switch'])('and is called off, before: %s', { timeout: 60_000 }, async (step) => {
    const id = await tenant()
    await killedBefore(id, step)
    expect(await rowhouse.tenants.cancelMove(id)).toBe(true)
    expect(await rowhouse.tenants.cancelMove(id)).toBe(false)
    await write(id, 4)
    expect(await statuses(id)).toEqual({ home: ['active', 4], eu: [undefined, 0] })
    await rowhouse.tenants.move(id, 'eu')
    expect(await notesOf(id)).toHaveLength(4)
  })

  test('negative control: a copy that is opened before the switch can be written beside the source', async () => {
    const id = await tenant()
    await killedBefore(id, 'switch')
    expect(await writableEnds(id)).toEqual([])
    const asAdmin = (owner: pg.Client, call: string) =>
      owner.query(`begin; set local role rowhouse_admin; select rowhouse.${call}; commit`)
    await asAdmin(owners.eu, `open_moved('${id}', '{}')`)
    await asAdmin(owners.home, `cancel_move('${id}')`)
    expect(await writableEnds(id)).toEqual(['home', 'eu'])
    await rowhouse.tenants.erase(id)
  })

  test.each(['repeatable read', 'serializable'])(
    'a transaction with an older snapshot writes nothing: %s',
    async (level) => {
      const id = await tenant()
      const app = await homeDatabase.connect('app')
      await app.query(`begin isolation level ${level}; set local role rowhouse_app; set local app.tenant_id = '${id}'`)
      expect((await app.query('select from notes')).rows).toHaveLength(3)
      await killedBefore(id, 'switch')
      expect((await failure(app.query("insert into notes values ($1, 9, 'late')", [id]))).code).toBe('40001')
      await app.query('rollback')
      await rowhouse.tenants.move(id, 'eu')
      expect(await notesOf(id)).toHaveLength(3)
    },
  )

  test('a copy of an older move is not taken for the tenant', { timeout: 60_000 }, async () => {
    const id = await tenant()
    await killedBefore(id, 'switch')
    // Called off where the other database could not be reached.
    await owners.home.query('begin; set local role rowhouse_admin')
    await owners.home.query('select rowhouse.cancel_move($1)', [id])
    await owners.home.query('commit')
    await write(id, 4)
    await rowhouse.tenants.move(id, 'eu')
    expect(await notesOf(id)).toHaveLength(4)
  })
})

describe('between the ends of a move', () => {
  const asAdmin = async (sql_: string, values: unknown[], owner = owners.home) => {
    await owner.query('begin; set local role rowhouse_admin')
    try {
      const { rows } = await owner.query(sql_, values)
      await owner.query('commit')
      return Object.values(rows[0])[0]
    } catch (error) {
      await owner.query('rollback')
      return (error as { code?: string }).code
    }
  }

  test('one that was called off does not switch another one, or call it off', async () => {
    const id = await tenant()
    const first = await asAdmin("select rowhouse.begin_move($1, 'eu')", [id])
    expect(await asAdmin('select rowhouse.cancel_move($1)', [id])).toBe(true)
    await write(id, 9)
    const second = await asAdmin("select rowhouse.begin_move($1, 'eu')", [id])
    expect(await asAdmin("select rowhouse.begin_move($1, 'eu')", [id])).toBe(second)
    expect(await asAdmin("select rowhouse.switch_placement($1, 'eu', $2)", [id, first])).toBe('RH033')
    expect(await asAdmin('select rowhouse.cancel_move($1, $2)', [id, first])).toBe(false)
    expect(await asAdmin('select rowhouse.cancel_move($1, $2)', [id, second])).toBe(true)
    expect(await notesOf(id)).toHaveLength(4)
  })

  test('nothing is deleted by a transaction that was let in before', async () => {
    const id = await tenant()
    const app = await homeDatabase.connect('app')
    await app.query(
      `begin; set local role rowhouse_app; set local app.tenant_id = '${id}'; select rowhouse.enter_tenant()`,
    )
    await asAdmin("select rowhouse.begin_move($1, 'eu')", [id])
    await asAdmin('select rowhouse.await_writers($1)', [id])
    expect((await failure(app.query('delete from notes where id = 1'))).code).toBe('RH033')
    await app.query('rollback')
    await rowhouse.tenants.move(id, 'eu')
    expect(await notesOf(id)).toHaveLength(3)
  })

  test('an erasure that waited for a move excludes writers all the same', async () => {
    const id = await tenant()
    const { mover, eraser, writer } = await openSessions(homeDatabase, {
      mover: 'operator',
      eraser: 'operator',
      writer: 'app',
    })
    for (const operator of [mover, eraser]) await operator.run('begin; set local role rowhouse_admin')
    await mover.run(`select rowhouse.begin_move('${id}', 'eu'), rowhouse.await_writers('${id}')`)
    const erasing = eraser.client.query(`select rowhouse.erase_tenant('${id}')`)
    await waitUntilBlocked(eraser)
    await mover.run(`select rowhouse.cancel_move('${id}')`)
    await mover.run('commit')
    await erasing
    await writer.run(`begin; set local role rowhouse_app; set local app.tenant_id = '${id}'`)
    const writing = failure(writer.client.query("insert into notes values ($1, 9, 'survivor')", [id]))
    await waitUntilBlocked(writer)
    await eraser.run('commit')
    expect((await writing).code).toBe('RH004')
    await writer.run('rollback')
  })

  test('an archive makes no second copy of a tenant that has moved', async () => {
    const id = await tenant()
    await rowhouse.tenants.move(id, 'eu')
    const facts = { id, name: id, tier: 'free', settings: {}, settingsVersion: 0, timeouts: null }
    expect(await asAdmin('select rowhouse.begin_import($1, $2, $3)', [id, facts, '[]'])).toBe('RH034')
    expect(await writableEnds(id)).toEqual(['eu'])
  })

  test('what SQL of a tenant raises sends nobody to another database', async () => {
    const id = await tenant()
    const other = open()
    const raised = other.withTenant(id, (db) =>
      sql`do $$ begin raise exception using errcode = 'RH034', detail = 'eu', message = 'moved'; end $$`.execute(db),
    )
    expect((await failure(raised)).code).toBe('tenant_moved')
    expect(await notesOf(id, other)).toHaveLength(3)
  })

  test('a trail with a tenant of its own is not taken away by an import that is called off', async () => {
    const id = await tenant(0)
    const facts = { id: 'other', name: 'x', tier: 'free', settings: {}, settingsVersion: 0, timeouts: null }
    expect(await asAdmin('select rowhouse.begin_import($1, $2, $3)', [id, facts, '[]'])).toEqual([])
    expect(await asAdmin('select rowhouse.discard_import($1)', [id])).toBe('RH035')
  })
})
