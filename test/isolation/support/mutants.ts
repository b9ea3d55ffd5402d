import type pg from 'pg'
import { beforeAll, expect } from 'vitest'
import type { TestDatabase } from '../../setup/database.ts'
import { protect, provision, useAppTables } from './app-tables.ts'
import { useClients } from './clients.ts'
import { catalogDetectors, type Detector, firstToNotice, PROBES } from './detectors.ts'
import { privilegeManifest } from './privilege-manifest.ts'

export type Detectors = Readonly<Record<string, Detector>>

/** Tables of an application, tenants that may not work, and everything that can notice a mutant. */
export function useMutants(database: TestDatabase) {
  useAppTables(database)
  const clients = useClients(database, 'owner', 'operator')
  const found = { clients, detectors: {} as Detectors }
  beforeAll(async () => {
    await clients.owner.query(`
      create table by_uuid (tenant_id uuid not null, id int, primary key (tenant_id, id));
      create table by_day (tenant_id text not null, day date, primary key (tenant_id, day)) partition by range (day);
      create table by_day_2026 partition of by_day for values from ('2026-01-01') to ('2027-01-01')`)
    for (const table of ['by_uuid', 'by_day']) await protect(clients.owner, table)
    await provision(clients.operator, 'suspended', 'erased')
    await clients.operator.query(
      "begin; set local role rowhouse_admin; select rowhouse.suspend_tenant('suspended'), rowhouse.erase_tenant('erased'); commit",
    )
    found.detectors = { ...catalogDetectors(await privilegeManifest(clients.owner)), ...PROBES }
  })
  return found
}

/** A protection that is taken away or weakened. */
export interface Mutant {
  readonly name: string
  readonly sql: string
}

/** Names of the mutants that nobody noticed. The detector that is likely to notice comes first, which saves time. */
export async function survivors(
  detectors: Detectors,
  client: pg.ClientBase,
  mutants: readonly Mutant[],
  likely = 'gaps',
): Promise<string[]> {
  expect(mutants.length).toBeGreaterThan(0)
  const ordered = { [likely]: detectors[likely]!, ...detectors }
  const found: string[] = []
  for (const { name, sql } of mutants) {
    await client.query('begin')
    try {
      await client.query(`set local client_min_messages = warning; ${sql}; set local role none`)
      if ((await firstToNotice(client, ordered)) === undefined) found.push(name)
    } finally {
      await client.query('rollback')
    }
  }
  return found
}

/** A mutant of each object: statements with %s for its name. The login may do what the owners of the objects may. */
export function ofEach(names: readonly string[], ...statements: readonly string[]): Mutant[] {
  return names.flatMap((name) => statements.map((statement) => mutant(statement.replaceAll('%s', () => name))))
}

export const mutant = (sql: string): Mutant => ({ name: sql, sql })

export async function readNames(client: pg.ClientBase, sql: string): Promise<string[]> {
  return (await client.query<{ name: string }>(sql)).rows.map(({ name }) => name)
}

/** Registered tables and their partitions; of many that are alike, the first few. */
export const RELATIONS = `
  select format('%I.%I', n.nspname, c.relname) as name
    from rowhouse.protected_tables p
    cross join lateral (
      select p.relation as relid
      union (select t.relid from pg_partition_tree(p.relation) t order by t.level, t.relid limit 5)
    ) t
    join pg_class c on c.oid = t.relid
    join pg_namespace n on n.oid = c.relnamespace`
export const TABLES = `${RELATIONS} where c.oid = p.relation`
export const PARTITIONS = `${RELATIONS} where c.oid <> p.relation`
export const FUNCTIONS = `
  select p.oid::regprocedure::text as name
    from pg_proc p where p.pronamespace = 'rowhouse'::regnamespace`

/** A mutant takes half a second on a machine that does other things, and there are hundreds. */
export const TIMEOUT = { timeout: 300_000 }
