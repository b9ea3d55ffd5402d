// P06: code that commits inside the callback ends the context; what follows runs on its own, outside of any tenant and
// without a rollback. Closed: such statements are refused, however they are spelled, and the connection is not reused.
import { Kysely, PostgresDialect, sql } from 'kysely'
import { expect, test } from 'vitest'
import { ConnectionTaintedError } from '../../src/index.ts'
import { useDatabase } from '../setup/database.ts'
import { ACME, useAppTables } from './support/app-tables.ts'
import { tracesOn, useClients, useOneConnection } from './support/clients.ts'
import { expectClosed } from './support/expect-closed.ts'
import { rowsInTenant } from './support/in-tenant.ts'

const database = useDatabase()
useAppTables(database)
const clients = useClients(database, 'app')
const one = useOneConnection(database)

const INSERT = "insert into events (id, kind, payload) values (100, 'half of a request', '{}')"

/** These end the transaction, and the half before them stays. */
const ENDINGS = [
  'COMMIT WORK',
  'end transaction',
  'commit and chain',
  '/* a comment /* nested */ */ commit',
  '-- a line\ncommit',
  ';commit',
  '\t\n\f commit',
]

const SPELLINGS = ['commit', 'end', 'rollback', 'abort', 'begin', 'start transaction', "prepare transaction 'later'"]

/** A request writes, ends the transaction, then fails: a half of it that stays is the leak. */
async function halfOfARequest(transaction: typeof ours, spelling: string): Promise<unknown[]> {
  const error = await transaction(async (db) => {
    await sql.raw(INSERT).execute(db)
    await sql.raw(spelling).execute(db)
    throw new Error('the request failed')
  }).then(
    () => undefined,
    (reason) => reason,
  )
  const client = await one.pool.connect()
  try {
    const found = await tracesOn(client)
    found.push(...(await rowsInTenant(clients.app, ACME, 'select id from events where id = 100')))
    await rowsInTenant(clients.app, ACME, 'delete from events where id = 100', { commit: true })
    if (transaction === ours && !(error instanceof ConnectionTaintedError)) found.push(`not refused: ${error}`)
    return found
  } finally {
    client.release(true)
  }
}

const ours = (work: (db: Kysely<any>) => Promise<void>): Promise<void> => one.rowhouse.withTenant(ACME, work)

const stock = (work: (db: Kysely<any>) => Promise<void>): Promise<void> =>
  new Kysely<any>({ dialect: new PostgresDialect({ pool: one.pool }) }).transaction().execute(async (trx) => {
    await sql`set local role rowhouse_app`.execute(trx)
    await sql`select set_config('app.tenant_id', ${ACME}, true)`.execute(trx)
    await work(trx)
  })

test('a commit inside the callback is refused, and nothing of the request stays', async () => {
  let transaction = ours
  await expectClosed({
    probe: () => halfOfARequest(transaction, 'commit'),
    removeProtection: async () => {
      transaction = stock
    },
    restoreProtection: async () => {
      transaction = ours
    },
  })
})

test.each(ENDINGS)('refused, and ends the transaction where it is not: %j', async (spelling) => {
  let transaction = ours
  await expectClosed({
    probe: () => halfOfARequest(transaction, spelling),
    removeProtection: async () => {
      transaction = stock
    },
    restoreProtection: async () => {
      transaction = ours
    },
  })
})

test.each(SPELLINGS)('refused: %j', async (spelling) => {
  expect(await halfOfARequest(ours, spelling)).toEqual([])
})

test('a procedure that commits, or a do block, can not end the transaction either', async () => {
  const owner = await database.connect('owner')
  await owner.query('create procedure ends_it() language plpgsql as $$ begin commit; end $$')
  await owner.query('grant execute on procedure ends_it to public')
  await owner.end()
  for (const statement of ['call ends_it()', 'do $$ begin commit; end $$']) {
    const request = ours(async (db) => {
      await sql.raw(INSERT).execute(db)
      await sql.raw(statement).execute(db)
    })
    await expect(request).rejects.toMatchObject({ code: '2D000' })
    expect(await rowsInTenant(clients.app, ACME, 'select from events where id = 100')).toEqual([])
  }
})
