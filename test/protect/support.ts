import type pg from 'pg'
import { inTenant } from '../isolation/support/in-tenant.ts'

/** What `protect_table` returns. */
export interface Report {
  readonly table: string
  readonly column: string
  readonly dryRun: boolean
  readonly steps: readonly {
    readonly step: number
    readonly statement: string
    readonly purpose: string
    readonly transactional: boolean
    readonly done: boolean
  }[]
  readonly findings: readonly Finding[]
}

export interface Finding {
  readonly level: string
  readonly kind: string
  readonly object: string
  readonly detail: string
  readonly mend: string
}

export interface ProtectArguments {
  readonly column?: string
  readonly existingRows?: string
  readonly partition?: boolean
  readonly dryRun?: boolean
}

/** Calls `rowhouse.protect_table`; `table` is a name as SQL writes it. */
export async function protect(client: pg.ClientBase, table: string, options: ProtectArguments = {}): Promise<Report> {
  const { column = 'tenant_id', existingRows = null, partition = false, dryRun = false } = options
  const { rows } = await client.query<{ report: Report }>(
    `select rowhouse.protect_table($1::regclass, $2, p_existing_rows => $3, p_partition => $4, p_dry_run => $5) as report`,
    [table, column, existingRows, partition, dryRun],
  )
  return rows[0]!.report
}

/** Creates tenants; the client may act as rowhouse_admin. */
export async function provision(client: pg.ClientBase, ...tenantIds: readonly string[]): Promise<void> {
  for (const tenantId of tenantIds) await client.query('select rowhouse.provision_tenant($1)', [tenantId])
}

/** Runs `work` in a transaction of rowhouse_app for the tenant, and commits. */
export async function asTenant<T>(
  client: pg.ClientBase,
  tenantId: string,
  work: (client: pg.ClientBase) => Promise<T>,
): Promise<T> {
  return inTenant(client, tenantId, () => work(client), { commit: true })
}

/** The error of a promise that must fail. */
export async function failure(
  promise: Promise<unknown>,
): Promise<Error & { code?: string; hint?: string; detail?: string }> {
  try {
    await promise
  } catch (error) {
    return error as Error & { code?: string; hint?: string; detail?: string }
  }
  throw new Error('should have failed')
}

/**
 * Everything that the catalogs say about the tables of a schema, with the name of the schema left out, so that two
 * schemas can be compared.
 */
export async function describeSchema(client: pg.ClientBase, schema: string): Promise<unknown> {
  const { rows } = await client.query(
    `with tables as (
       select c.*, n.nspname from pg_class c join pg_namespace n on n.oid = c.relnamespace
         where n.nspname = $1 and c.relkind in ('r', 'p', 'v', 'm', 'S')
     )
     select t.relname, t.relkind, t.relrowsecurity, t.relforcerowsecurity, t.relispartition, t.reloptions,
       pg_get_userbyid(t.relowner) as owner,
       obj_description(t.oid, 'pg_class') as comment,
       array(select a::text from aclexplode(t.relacl) a order by a::text) as privileges,
       array(select format('%s %s %s %s %s %s %s', a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
             pg_get_expr(d.adbin, d.adrelid), a.attidentity, a.attgenerated, a.attacl)
           from pg_attribute a left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
           where a.attrelid = t.oid and a.attnum > 0 and not a.attisdropped order by a.attname) as columns,
       array(select format('%s %s %s %s', k.conname, pg_get_constraintdef(k.oid), k.convalidated, obj_description(k.oid, 'pg_constraint'))
           from pg_constraint k where k.conrelid = t.oid and k.contype <> 'n' and k.conparentid = 0 order by 1) as constraints,
       array(select format('%s %s %s', i.indisvalid, pg_get_indexdef(i.indexrelid), obj_description(i.indexrelid, 'pg_class'))
           from pg_index i where i.indrelid = t.oid order by 1) as indexes,
       array(select format('%s %s %s %s %s %s', p.polname, p.polpermissive, p.polcmd, p.polroles, pg_get_expr(p.polqual, p.polrelid),
             pg_get_expr(p.polwithcheck, p.polrelid)) from pg_policy p where p.polrelid = t.oid order by 1) as policies,
       array(select format('%s %s %s', g.tgenabled, pg_get_triggerdef(g.oid), obj_description(g.oid, 'pg_trigger'))
           from pg_trigger g where g.tgrelid = t.oid and not g.tgisinternal order by 1) as triggers,
       (select format('%s %s', p.tenant_column, p.layout) from rowhouse.protected_tables p where p.relation = t.oid) as registered
     from tables t order by t.relname`,
    [schema],
  )
  return JSON.parse(JSON.stringify(rows).replaceAll(`${schema}.`, ''))
}
