// Runs statements of one tenant as fast as it can, refused or not:
// node suspended-process.ts <url> <tenant> <connections> checked|unchecked
import { type RawBuilder, sql } from 'kysely'
import pg from 'pg'
import { createRowhouse, TenantSuspendedError } from '../../src/index.ts'
import type { Seen } from './suspended-processes.ts'

/** By the clock of the server, in milliseconds. */
interface Times {
  /** When the transaction began. */
  readonly begun: number
  /** When this statement of it began. */
  readonly stated: number
}

const [connectionString, tenantId, connections, mode] = process.argv.slice(2) as [string, string, string, string]
const pool = new pg.Pool({ connectionString, max: Number(connections) })
pool.on('error', () => {})
const rowhouse = createRowhouse<{ notes: { v: number } }>({ pool })
const nothing: Seen = { accepted: 0, refused: 0, lastBegin: 0, lastStatement: 0, errors: [] }
let seen = nothing

const times = sql.raw<Times>(`extract(epoch from transaction_timestamp())::float8 * 1000 as begun,
  extract(epoch from statement_timestamp())::float8 * 1000 as stated`)
const read: RawBuilder<Times> = sql`select ${times} from (select count(*) from notes) n`
const write: RawBuilder<Times> = sql`insert into notes (v) values (1) returning ${times}`

/** Each is a transaction of its own. */
const checked: readonly (() => Promise<readonly Times[]>)[] = [
  () => rowhouse.query(tenantId, () => read),
  () => rowhouse.query(tenantId, () => write),
  async () => (await read.execute(rowhouse.kysely(tenantId))).rows,
  () =>
    rowhouse.withTenant(tenantId, async (db) => [...(await read.execute(db)).rows, ...(await write.execute(db)).rows]),
]

/** What somebody writes by hand, without asking whether the tenant may work. */
async function unchecked(): Promise<readonly Times[]> {
  const client = await pool.connect()
  try {
    await client.query(`begin; set local role rowhouse_app; set local app.tenant_id = '${tenantId}'`)
    const { sql: text } = read.compile(rowhouse.kysely(tenantId))
    const { rows } = await client.query<Times>(text)
    await client.query('commit')
    return rows
  } finally {
    client.release()
  }
}

async function call(statement: () => Promise<readonly Times[]>): Promise<void> {
  try {
    for (const { begun, stated } of await statement()) {
      seen.accepted++
      seen.lastBegin = Math.max(seen.lastBegin, begun)
      seen.lastStatement = Math.max(seen.lastStatement, stated)
    }
  } catch (error) {
    if (error instanceof TenantSuspendedError) seen.refused++
    else seen.errors.push(String(error))
  }
}

process.on('message', (message) => {
  if (message === 'report') process.send!(seen)
  seen = { ...nothing, errors: [] }
})
// Nobody is left to report to.
process.on('disconnect', () => process.exit())
const statements = mode === 'checked' ? checked : [unchecked]
await Promise.all(
  Array.from({ length: Number(connections) }, async (_, index) => {
    for (;;) await call(statements[index % statements.length]!)
  }),
)
