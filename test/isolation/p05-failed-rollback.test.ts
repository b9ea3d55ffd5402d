// P05: when the rollback itself fails, the connection must not be reused. Kysely before 0.29.8, Drizzle and others
// release it without an error. Closed: only a server that confirmed the end of the transaction gets its client reused.
import { CompiledQuery, type DatabaseConnection, Kysely, PostgresDialect, PostgresDriver, sql } from 'kysely'
import type pg from 'pg'
import { test } from 'vitest'
import { poll } from '../setup/connection.ts'
import { useDatabase } from '../setup/database.ts'
import { GLOBEX, useAppTables } from './support/app-tables.ts'
import { tracesOn, useClients, useOneConnection } from './support/clients.ts'
import { expectClosed } from './support/expect-closed.ts'
import { rowsInTenant } from './support/in-tenant.ts'

const database = useDatabase({ needs: ['parallelBackends'] })
useAppTables(database)
const clients = useClients(database, 'app')
const one = useOneConnection(database, { pool: { query_timeout: 200, application_name: 'failing rollback' } })

/** As it was in Kysely 0.28. */
class OlderPostgresDriver extends PostgresDriver {
  override async rollbackTransaction(connection: DatabaseConnection): Promise<void> {
    await connection.executeQuery(CompiledQuery.raw('rollback'))
  }
}

class OlderPostgresDialect extends PostgresDialect {
  readonly #pool: pg.Pool
  constructor(pool: pg.Pool) {
    super({ pool })
    this.#pool = pool
  }
  override createDriver() {
    return new OlderPostgresDriver({ pool: this.#pool })
  }
}

async function work(db: Kysely<any>): Promise<void> {
  await sql`select 1`.execute(db)
  await sql`select pg_sleep(0.5)`.execute(db)
}

const stockRequest = () =>
  new Kysely<any>({ dialect: new OlderPostgresDialect(one.pool) }).transaction().execute(async (trx) => {
    await sql`set local role rowhouse_app`.execute(trx)
    await sql`select set_config('app.tenant_id', ${GLOBEX}, true)`.execute(trx)
    await work(trx)
  })

/** What the next request, which forgot its tenant, finds. */
async function nextRequest(): Promise<unknown[]> {
  await poll(
    async () => {
      const { rowCount } = await clients.app.query(
        "select from pg_stat_activity where application_name = 'failing rollback' and state = 'active'",
      )
      return rowCount === 0 ? true : undefined
    },
    { message: () => 'the statement did not end' },
  )
  const client = await one.pool.connect()
  try {
    return [...(await tracesOn(client)), ...(await rowsInTenant(client, null, 'select id from invoices'))]
  } finally {
    client.release(true)
  }
}

test('a connection whose rollback got no answer is not reused', async () => {
  const ours = () => one.rowhouse.withTenant(GLOBEX, work)
  let request: () => Promise<void> = ours
  await expectClosed({
    probe: async () => {
      await request().catch(() => {})
      return nextRequest()
    },
    removeProtection: async () => {
      request = stockRequest
    },
    restoreProtection: async () => {
      request = ours
    },
  })
})
