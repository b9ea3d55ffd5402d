// P12: node-postgres sends a query without values by the simple protocol, which runs several statements: injected text
// after a semicolon switches the tenant. Closed: every statement of the user's goes by the extended protocol.
import { Kysely, PostgresDialect, sql } from 'kysely'
import { expect, test } from 'vitest'
import { useDatabase } from '../setup/database.ts'
import { ACME, GLOBEX, useAppTables } from './support/app-tables.ts'
import { useOneConnection } from './support/clients.ts'
import { expectClosed, unlessRefused } from './support/expect-closed.ts'

const database = useDatabase()
useAppTables(database)
const one = useOneConnection(database)

/** What a careless application makes of an input. */
const STACKED = `select note from invoices where note = ''; set local app.tenant_id = '${GLOBEX}'`
const SYNTAX_ERROR = '42601'

type Run = (work: (db: Kysely<any>) => Promise<unknown>) => Promise<unknown>

/** Every path on which text of the user reaches the server. */
const PATHS: Record<string, Run> = {
  withTenant: (work) => one.rowhouse.withTenant(ACME, work),
  'a savepoint': (work) => one.rowhouse.withTenant(ACME, () => one.rowhouse.withTenant(ACME, work)),
  'the modules of a tenant': (work) => work(one.rowhouse.tenant(ACME).db as Kysely<any>),
  kysely: (work) => work(one.rowhouse.kysely(ACME)),
  'a transaction of kysely': (work) => one.rowhouse.kysely(ACME).transaction().execute(work),
  'a connection of kysely': (work) => one.rowhouse.kysely(ACME).connection().execute(work),
}

const stock: Run = (work) =>
  new Kysely<any>({ dialect: new PostgresDialect({ pool: one.pool }) }).transaction().execute(async (trx) => {
    await sql`set local role rowhouse_app`.execute(trx)
    await sql`select set_config('app.tenant_id', ${ACME}, true)`.execute(trx)
    return work(trx)
  })

test.each(Object.keys(PATHS))('%s refuses a second statement', async (path) => {
  let run = PATHS[path]!
  const otherTenantsRows = async (): Promise<readonly unknown[]> => {
    const found: unknown[] = []
    await run(async (db) => {
      await unlessRefused(SYNTAX_ERROR, async () => [await sql.raw(STACKED).execute(db)])
      // After the refusal the transaction has failed, so nothing more can be read in it.
      const { rows } = await sql<{ tenant_id: string }>`select tenant_id from invoices`.execute(db)
      found.push(...rows.filter((row) => row.tenant_id !== ACME))
    }).catch((error) => {
      if (!['25P02', 'aborted_transaction'].includes(error.code)) throw error
    })
    return found
  }
  await expectClosed({
    probe: otherTenantsRows,
    removeProtection: async () => {
      run = stock
    },
    restoreProtection: async () => {
      run = PATHS[path]!
    },
  })
})

test('rowhouse.query refuses a second statement', async () => {
  const request = one.rowhouse.query(ACME, () => sql.raw(STACKED) as any)
  await expect(request).rejects.toMatchObject({ code: SYNTAX_ERROR })
})

test('a stream refuses a second statement', async () => {
  const read = async () => {
    await one.rowhouse.withTenant(ACME, async (db) => {
      for await (const _row of db
        .selectFrom(sql.raw(`invoices; set local app.tenant_id = '${GLOBEX}' --`).as('i') as any)
        .selectAll()
        .stream());
    })
  }
  await expect(read()).rejects.toThrow()
})

/** Values that the client writes into the prelude itself. */
const HOSTILE = [
  `x'; set local app.tenant_id = '${GLOBEX}'; --`,
  `x\\'; set local app.tenant_id = '${GLOBEX}'; --`,
  `\\'; set local app.tenant_id = '${GLOBEX}' --`,
  `$$; set local app.tenant_id = '${GLOBEX}'`,
  "''''",
  '\\',
  'é\u2028\u{1F600}',
]

test.each(HOSTILE)('the user id and the request id %j are values, not text', async (value) => {
  for (const setting of ['on', 'off']) {
    const client = await one.pool.connect()
    await client.query(`set standard_conforming_strings = ${setting}`)
    client.release()
    const facts = await one.rowhouse.withTenant(
      ACME,
      async (db) => {
        const { rows } =
          await sql`select current_setting('app.user_id') as "user", current_setting('app.request_id') as request,
          current_setting('app.tenant_id') as tenant, current_user::text as role`.execute(db)
        return rows
      },
      { userId: value, requestId: value },
    )
    expect(facts).toEqual([{ user: value, request: value, tenant: ACME, role: 'rowhouse_app' }])
  }
  await one.pool.query('reset all')
})

test('a zero byte, which would end the text of a message, is refused before it is sent', async () => {
  const work = async () => 1
  await expect(one.rowhouse.withTenant(ACME, work, { userId: 'x\0y' })).rejects.toMatchObject({
    code: 'invalid_argument',
  })
  await expect(one.rowhouse.withTenant('acme\0', work)).rejects.toMatchObject({ code: 'invalid_tenant_id' })
  const request = one.rowhouse.withTenant(ACME, (db) =>
    sql.raw("select 1\0; set local app.tenant_id = 'globex'").execute(db),
  )
  await expect(request).rejects.toMatchObject({ code: 'invalid_argument' })
})
