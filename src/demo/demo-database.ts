import { randomBytes } from 'node:crypto'
import pg from 'pg'
import { startEmbeddedPostgres } from '../embedded/index.ts'
import { createRowhouseError } from '../errors.ts'
import { connect } from '../migrate/connect.ts'
import { ARCHIVES } from './archives.ts'

/** Schema of the application's own table. */
export const DEMO_SCHEMA = 'rowhouse_demo'
/** The application's own table. */
export const DEMO_TABLE = `${DEMO_SCHEMA}.annotations` as const
/** The collection of documents. */
export const DEMO_COLLECTION = 'rowhouse_demo_speeches'

/** The tenant ids of the three archives. */
export type TenantIds = Readonly<Record<keyof typeof ARCHIVES, string>>

/** Where the demo runs. */
export interface DemoDatabase {
  /** Whether it lives in this process and is gone afterwards. */
  readonly embedded: boolean
  readonly connectionString: string
  /** The application's login. */
  readonly pool: pg.Pool
  readonly tenantIds: TenantIds
  close(): Promise<void>
}

/** Starts the embedded Postgres, or connects to the given server. */
export async function openDemoDatabase(databaseUrl: string | undefined): Promise<DemoDatabase> {
  // What is wrong with a connection is best said before anything else.
  if (databaseUrl !== undefined) await connect(databaseUrl).then((client) => client.end())
  const postgres = databaseUrl === undefined ? await startEmbeddedPostgres() : undefined
  const connectionString = databaseUrl ?? postgres!.connectionString
  const pool = new pg.Pool({ connectionString, max: 4, application_name: 'rowhouse demo' })
  // A connection that breaks while it is idle shows in the next statement.
  pool.on('error', () => {})
  return {
    embedded: postgres !== undefined,
    connectionString,
    pool,
    tenantIds: makeTenantIds(postgres !== undefined),
    async close() {
      await pool.end()
      await postgres?.close()
    },
  }
}

/** An id is never used again after its erasure, so on a server that stays each run needs ids of its own. */
function makeTenantIds(embedded: boolean): TenantIds {
  const suffix = embedded ? '' : `-${randomBytes(3).toString('hex')}`
  const entries = Object.keys(ARCHIVES).map((key) => [key, embedded ? key : `demo-${key}${suffix}`])
  return Object.fromEntries(entries) as TenantIds
}

/** Refuses to touch what another run left behind or is using. */
export async function refuseLeftovers(pool: pg.Pool): Promise<void> {
  const { rowCount } = await pool.query('select from pg_namespace where nspname = $1', [DEMO_SCHEMA])
  if (rowCount === 0) return
  throw createRowhouseError(
    'invalid_argument',
    `The schema ${DEMO_SCHEMA} exists already: another demo is running, or one was interrupted.`,
    { hint: `When none is running: drop schema ${DEMO_SCHEMA} cascade` },
  )
}
