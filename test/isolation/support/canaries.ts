import type pg from 'pg'
import { insertGeneratedRow } from '../../../src/testing/insert-row.ts'
import { describeRegisteredTables, type TableShape } from '../../../src/testing/table-shape.ts'
import { inTenant } from './in-tenant.ts'

/** Columns of every type that values can be made up for, so that each kind of value is looked for. */
export const EVERY_TYPE = `
  create type public.mood as enum ('happy', 'sad');
  create domain public.short as varchar(12) check (length(value) > 2);
  create table public.every_type (tenant_id text not null, id uuid not null default gen_random_uuid(), a_text text, a_varchar varchar(40),
    a_char char(20), a_name name, a_short public.short, a_json json, a_jsonb jsonb, a_bytea bytea, a_uuid uuid, an_int int,
    a_bigint bigint, some_texts text[], a_mood public.mood, a_date date, a_time timestamptz, a_number numeric(8, 2),
    a_range int4range, an_address inet, an_xml xml, a_vector tsvector, primary key (tenant_id, id))`

/** Fills every registered table, as the catalog has them, with rows of each tenant; returns what to look for. */
export async function fillWithCanaries(
  owner: pg.ClientBase,
  app: pg.ClientBase,
  tenantIds: readonly string[],
): Promise<{ tables: readonly TableShape[]; canaries: ReadonlyMap<string, readonly string[]> }> {
  const registered = await describeRegisteredTables(owner)
  const { rows: readable } = await app.query<{ name: string }>(
    `select t.name from unnest($1::text[]) t (name) where has_any_column_privilege('rowhouse_app', t.name::regclass, 'select')`,
    [registered.map(({ name }) => name)],
  )
  // What the application may not read at all could not be seen by the tenant itself.
  const tables = registered.filter((table) => readable.some(({ name }) => name === table.name))
  const canaries = new Map<string, readonly string[]>()
  for (const tenantId of tenantIds) {
    const written: string[] = []
    for (const table of tables) {
      // Tables that only functions write are filled by the login that owns them.
      const { rows } = await app.query<{ may: boolean }>(
        `select has_any_column_privilege('rowhouse_app', $1::regclass, 'insert') as may`,
        [table.name],
      )
      const client = rows[0]!.may ? app : owner
      const fill = async () => {
        for (let row = 1; row <= 2; row++) {
          try {
            written.push(...(await insertGeneratedRow(client, table, `canary-${tenantId}`)).canaries)
          } catch (error) {
            // A table of one row for each tenant.
            if (row === 1 || (error as { code?: string }).code !== '23505') throw error
          }
        }
      }
      await inTenant(client, tenantId, fill, { commit: true })
    }
    canaries.set(tenantId, written)
  }
  return { tables, canaries }
}
