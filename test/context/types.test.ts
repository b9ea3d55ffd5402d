/** What the compiler knows. Checked by `npm run types`; here it only has to run. */
import { type DeleteResult, type Generated, type InsertResult, type Kysely, sql } from 'kysely'
import { expectTypeOf, test } from 'vitest'
import { createRowhouse, type TenantContext } from '../../src/index.ts'

interface Tables {
  invoices: { tenant_id: Generated<string>; id: number; note: string | null }
}

test('types', () => {
  const { withTenant, query, tenant, kysely } = createRowhouse<Tables>({ connectionString: 'postgres://localhost/x' })

  const check = async () => {
    expectTypeOf(await withTenant('acme', async () => 7)).toEqualTypeOf<number>()
    expectTypeOf(await withTenant('acme', () => 'sync')).toEqualTypeOf<string>()
    await withTenant('acme', async (db, context) => {
      expectTypeOf(db).toEqualTypeOf<Kysely<Tables>>()
      expectTypeOf(context).toEqualTypeOf<TenantContext<Tables>>()
      // @ts-expect-error no such table
      db.selectFrom('nowhere')
    })
    const rows = await query('acme', (db) => db.selectFrom('invoices').select(['id', 'note']))
    expectTypeOf(rows).toEqualTypeOf<{ id: number; note: string | null }[]>()
    const all = await query('acme', (db) => db.selectFrom('invoices').selectAll())
    expectTypeOf(all).toEqualTypeOf<{ tenant_id: string; id: number; note: string | null }[]>()
    const inserted = await query('acme', (db) => db.insertInto('invoices').values({ id: 1, note: null }))
    expectTypeOf(inserted).toEqualTypeOf<InsertResult[]>()
    const returned = await query('acme', (db) =>
      db.insertInto('invoices').values({ id: 1, note: null }).returning('id'),
    )
    expectTypeOf(returned).toEqualTypeOf<{ id: number }[]>()
    expectTypeOf(await query('acme', (db) => db.deleteFrom('invoices'))).toEqualTypeOf<DeleteResult[]>()
    const compiled = await query('acme', (db) => db.selectFrom('invoices').select('id').compile())
    expectTypeOf(compiled).toEqualTypeOf<{ id: number }[]>()
    expectTypeOf(await query('acme', () => sql<{ n: number }>`select 1 as n`)).toEqualTypeOf<{ n: number }[]>()
    // @ts-expect-error a query that was executed already
    await query('acme', (db) => db.selectFrom('invoices').selectAll().execute())
    // @ts-expect-error no such isolation level
    await withTenant('acme', async () => 1, { isolationLevel: 'chaos' })
    expectTypeOf(tenant('acme')).toEqualTypeOf<TenantContext<Tables>>()
    expectTypeOf(kysely('acme')).toEqualTypeOf<Kysely<Tables>>()
    // Without a type for the tables, everything is allowed.
    const untyped = createRowhouse({ connectionString: 'postgres://localhost/x' })
    await untyped.withTenant('acme', (db) => db.selectFrom('anything').selectAll().execute())
    // @ts-expect-error an option that does not exist
    createRowhouse({ connectionString: 'postgres://localhost/x', rol: 'x' })
  }
  expectTypeOf(check).toBeFunction()
})
