import type pg from 'pg'
import { reachableRelations } from './catalog.ts'

/** Why a relation of the schema rowhouse may be reached without the two policies. */
export const REGISTRIES: Readonly<Record<string, string>> = {
  'rowhouse.tenants': 'a policy of its own shows a tenant its own row; only some columns, and nothing may be written',
  'rowhouse.protected_tables': 'names of tables and columns; read only',
  'rowhouse.applied_functions': 'versions of SQL files; read only',
  'rowhouse.collections': 'names and dimensions of collections; read only',
  'rowhouse.rate_limit_defaults': 'rate limits of tiers; read only',
  'rowhouse.prices': 'prices of models; read only',
  'rowhouse.quotas': 'what is counted; read only',
  'rowhouse.quota_defaults': 'limits of tiers; read only',
  'rowhouse.tier_models': 'models of tiers; read only',
}

const READ_ONLY = ['select']
const ROWS_ONLY = ['delete', 'insert', 'select', 'update']

/**
 * What keeps the relations that `role` can touch from being closed: each is a table with row-level security enabled and
 * forced that carries exactly one permissive and one restrictive policy of ours on itself and on each of its
 * partitions, with no privilege around the policies and none on a partition; or one of the registries above.
 */
export async function exposures(client: pg.ClientBase, role = 'rowhouse_app'): Promise<string[]> {
  const found: string[] = []
  for (const { name, schema, kind, isPartition, privileges } of await reachableRelations(client, role)) {
    if (kind === 'S') {
      const beyond = privileges.filter((privilege) => privilege !== 'usage')
      if (beyond.length > 0) found.push(`${name}: ${beyond.join(', ')} on a sequence`)
      continue
    }
    if (schema === 'rowhouse' && name in REGISTRIES) {
      const beyond = privileges.filter((privilege) => !READ_ONLY.includes(privilege))
      if (beyond.length > 0) found.push(`${name}: ${beyond.join(', ')} on a registry`)
      continue
    }
    if (isPartition) {
      found.push(`${name}: ${privileges.join(', ')} on a partition`)
      continue
    }
    if (kind !== 'r' && kind !== 'p') {
      found.push(`${name}: no table (${kind}), so no policies`)
      continue
    }
    const beyond = privileges.filter((privilege) => !ROWS_ONLY.includes(privilege))
    if (beyond.length > 0) found.push(`${name}: ${beyond.join(', ')} is not subject to policies`)
    found.push(...(await policyGaps(client, name)))
  }
  return found
}

/** What is missing on a table, or on one of its partitions, to be as protect_table leaves it. */
async function policyGaps(client: pg.ClientBase, table: string): Promise<string[]> {
  const { rows } = await client.query<{ gap: string }>(
    `with relations as (
        select t.relid from pg_partition_tree($1) t union select $1::regclass
      ), registered as (
        select p.tenant_column, p.column_type from rowhouse.protected_tables p where p.relation = $1::regclass
      )
      select format('%s: %s', r.relid::regclass, g.gap) as gap
        from relations r
        join pg_class c on c.oid = r.relid
        left join registered on true
        cross join lateral (
          select 'not registered' as gap where registered.tenant_column is null
          union all select 'row-level security is off' where not c.relrowsecurity
          union all select 'row-level security is not forced' where not c.relforcerowsecurity
          union all select format('policy %I differs', expected.name)
            from (values ('rowhouse_tenant'::name, true), ('rowhouse_isolation', false)) expected (name, permissive)
            where registered.tenant_column is not null and not rowhouse.has_tenant_policy(
              r.relid::regclass, expected.name, expected.permissive, registered.tenant_column, registered.column_type::regtype)
          union all select format('further policy %I', p.polname)
            from pg_policy p where p.polrelid = r.relid and p.polname not in ('rowhouse_tenant', 'rowhouse_isolation')
        ) g
      order by 1`,
    [table],
  )
  return rows.map((row) => row.gap)
}
