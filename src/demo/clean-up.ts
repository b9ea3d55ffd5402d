import { RowhouseError, type RowhouseErrorCode } from '../errors.ts'
import { DEMO_COLLECTION, DEMO_SCHEMA, DEMO_TABLE } from './demo-database.ts'
import type { DemoRun } from './demo-run.ts'

/** Removes what the demo added to a server: the data of its tenants, its collection and its schema. */
export async function cleanUp({ show, database, pool, rowhouse }: DemoRun): Promise<void> {
  show.section('Clean up')
  const attempt = async (what: string, done: readonly RowhouseErrorCode[], work: () => Promise<unknown>) => {
    try {
      await work()
    } catch (error) {
      if (error instanceof RowhouseError && done.includes(error.code)) return
      show.failure(`${what} could not be removed`, error)
    }
  }
  for (const id of Object.values(database.tenantIds)) {
    await attempt(`Tenant ${id}`, ['tenant_not_found', 'tenant_inactive'], () => rowhouse.tenants.erase(id))
  }
  await attempt(`Collection ${DEMO_COLLECTION}`, ['collection_not_found'], () =>
    rowhouse.collections.drop(DEMO_COLLECTION),
  )
  await attempt(`Schema ${DEMO_SCHEMA}`, [], async () => {
    const isProtected = (await rowhouse.protectedTables()).some(({ table }) => table === DEMO_TABLE)
    if (isProtected) await rowhouse.unprotectTable(DEMO_TABLE)
    await pool.query(`drop schema if exists ${DEMO_SCHEMA} cascade`)
  })
  const { rows } = await pool.query(
    `select to_regnamespace($1)::text as schema, to_regclass('rowhouse.documents_' || $2)::text as collection`,
    [DEMO_SCHEMA, DEMO_COLLECTION],
  )
  show.claim('The schema and the collection of the demo are gone, and its tenants are erased', rows, [
    { schema: null, collection: null },
  ])
  show.text(
    'rowhouse itself stays installed: the schemas rowhouse and rowhouse_partitions and four roles. ' +
      'So do the ids of the erased tenants and the receipts of their erasure.',
  )
}
