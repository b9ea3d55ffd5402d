import type pg from 'pg'
import { beforeAll } from 'vitest'
import type { TestDatabase } from '../../setup/database.ts'
import { inTenant } from './in-tenant.ts'

/** The two tenants of the suite: acme asks, globex must not be seen. */
export const ACME = 'acme'
export const GLOBEX = 'globex'
export const TENANTS = [ACME, GLOBEX] as const

/** Text that occurs in the rows of one tenant only: where it turns up, a row of that tenant did. */
export function canary(tenantId: string, place: string): string {
  return `canary:${tenantId}:${place}`
}

/** What to search for when nothing of a tenant may be seen. */
export function canariesOf(tenantId: string): string {
  return `canary:${tenantId}:`
}

/** Tables of an application: keys with the tenant, a foreign key with it, one of them partitioned by tenant. */
const SCHEMA = `
  create table public.customers (
    tenant_id text not null,
    id uuid not null default gen_random_uuid(),
    email text not null,
    profile jsonb not null default '{}',
    visits integer not null default 0,
    primary key (tenant_id, id),
    unique (tenant_id, email)
  );
  create table public.invoices (
    tenant_id text not null,
    id integer not null,
    customer_id uuid not null,
    note text not null,
    total numeric(12, 2) not null check (total >= 0),
    tags text[] not null default '{}',
    primary key (tenant_id, id),
    foreign key (tenant_id, customer_id) references public.customers on delete cascade
  );
  create table public.events (
    tenant_id text not null,
    id integer not null,
    kind text not null,
    payload jsonb not null,
    primary key (tenant_id, id)
  );`

/** The tables of {@link useAppTables}, without their schema, which is public. */
export const APP_TABLES = ['customers', 'invoices', 'events'] as const

/** A text column of each of them, which holds canaries. */
export const TEXT_COLUMN = { customers: 'email', invoices: 'note', events: 'kind' } as const

/**
 * Gives the database of the file the application's tables, protected, with rows of both tenants full of canaries.
 * Call it after `useDatabase()`.
 */
export function useAppTables(database: TestDatabase): void {
  beforeAll(async () => {
    const owner = await database.connect('owner')
    await owner.query(SCHEMA)
    for (const table of APP_TABLES) await protect(owner, `public.${table}`, { partition: table === 'events' })
    await provision(await database.connect('operator'), ...TENANTS)
    const app = await database.connect('app')
    for (const tenantId of TENANTS) await inTenant(app, tenantId, () => fillAppTables(app, tenantId), { commit: true })
  })
}

/** Puts a table under protection, as its owner. */
export async function protect(
  owner: pg.ClientBase,
  table: string,
  { column = 'tenant_id', partition = false }: { column?: string; partition?: boolean } = {},
): Promise<{ findings: { level: string; kind: string; object: string; detail: string }[] }> {
  const { rows } = await owner.query('select rowhouse.protect_table($1::regclass, $2, p_partition => $3) as report', [
    table,
    column,
    partition,
  ])
  return rows[0].report
}

/** Creates tenants, as an operator. */
export async function provision(operator: pg.ClientBase, ...tenantIds: readonly string[]): Promise<void> {
  await operator.query('begin; set local role rowhouse_admin')
  for (const tenantId of tenantIds) await operator.query('select rowhouse.provision_tenant($1)', [tenantId])
  await operator.query('commit')
}

/** Rows of the tenant of the current transaction. Values are parameters: literals would show in pg_stat_activity. */
export async function fillAppTables(app: pg.ClientBase, tenantId: string): Promise<void> {
  for (let number = 1; number <= 3; number++) {
    const email = `${canary(tenantId, `customer-${number}`)}@example.org`
    const profile = JSON.stringify({ secret: canary(tenantId, `profile-${number}`), number })
    const { rows } = await app.query(
      'insert into customers (email, profile, visits) values ($1, $2, $3) returning id',
      [email, profile, number],
    )
    for (let invoice = 1; invoice <= 3; invoice++) {
      const id = (number - 1) * 3 + invoice
      await app.query('insert into invoices (id, customer_id, note, total, tags) values ($1, $2, $3, $4, $5)', [
        id,
        rows[0].id,
        canary(tenantId, `invoice-${id}`),
        id * 10,
        [canary(tenantId, `tag-${id}`)],
      ])
      await app.query('insert into events (id, kind, payload) values ($1, $2, $3)', [
        id,
        canary(tenantId, `kind-${invoice}`),
        JSON.stringify({ secret: canary(tenantId, `event-${id}`) }),
      ])
    }
  }
}
