import type pg from 'pg'
import type { IsolationGap } from './isolation-gap.ts'

/** What protect_table reports and this check looks at in another way. */
const LEFT_OUT = {
  // A later partition without policies is a gap by itself, as soon as it is there.
  future_partitions: true,
  // Whether anybody reaches it decides: unprotected-relation-gaps.ts.
  materialized_view: true,
}

/**
 * Gaps of the registered tables: what is missing of what protect_table makes, on the table and on each partition, and
 * what it reports as beyond its reach (keys, foreign keys, views, policies, rules, grants, publications).
 */
export async function protectedTableGaps(client: pg.ClientBase, role: string): Promise<IsolationGap[]> {
  const gaps: IsolationGap[] = []
  gaps.push(...(await client.query<IsolationGap>(REPORTED, [Object.keys(LEFT_OUT)])).rows)
  gaps.push(...(await client.query<IsolationGap>(PRIVILEGES, [role])).rows)
  gaps.push(...(await client.query<IsolationGap>(INCOMPLETE)).rows)
  return gaps
}

const REPORTED = `
  select f.level, f.kind, format('%I.%I', n.nspname, c.relname) as "table", f.object, f.detail, f.mend
    from rowhouse.protected_tables p
    join pg_class c on c.oid = p.relation
    join pg_namespace n on n.oid = c.relnamespace
    cross join lateral rowhouse.protection_findings(p.relation, p.tenant_column) f
    where f.level <> 'info' and f.kind <> all ($1::text[])`

/** Each registered table and each of its partitions. */
const RELATIONS = `
  relations as (
    select p.relation, p.tenant_column, p.column_type, format('%I.%I', rn.nspname, r.relname) as name,
        c.oid, c.relkind, c.relrowsecurity, c.relforcerowsecurity, c.oid <> p.relation as is_partition,
        format('%I.%I', n.nspname, c.relname) as relation_name
      from rowhouse.protected_tables p
      join pg_class r on r.oid = p.relation
      join pg_namespace rn on rn.oid = r.relnamespace
      cross join lateral (select t.relid from pg_partition_tree(p.relation) t union select p.relation) t
      join pg_class c on c.oid = t.relid
      join pg_namespace n on n.oid = c.relnamespace
  )`

/** Privileges on the whole and on single columns, of the role itself and by way of PUBLIC or of another role. */
const PRIVILEGES = `
  with ${RELATIONS}, held as (
    select r.name, r.relation_name, r.is_partition, string_agg(h.privilege, ', ' order by h.privilege) as privileges
      from relations r
      cross join unnest(array['DELETE', 'INSERT', 'REFERENCES', 'SELECT', 'TRIGGER', 'TRUNCATE', 'UPDATE']) h (privilege)
      where (r.is_partition or h.privilege in ('REFERENCES', 'TRIGGER', 'TRUNCATE'))
        and (has_table_privilege($1::name, r.oid, h.privilege)
          or h.privilege in ('INSERT', 'REFERENCES', 'SELECT', 'UPDATE') and has_any_column_privilege($1::name, r.oid, h.privilege))
      group by r.name, r.relation_name, r.is_partition
  )
  select 'error' as level, 'privilege_on_partition' as kind, name as "table", relation_name as object,
      format('%s may use the partition directly: %s', $1::name, privileges) as detail,
      format('revoke all on %s from public, %I', relation_name, $1::name) as mend
    from held where is_partition
  union all
  select 'error', 'privilege_around_policies', name, format('%s on %s', privileges, relation_name),
      format('%s may use it on rows of every tenant', $1::name),
      format('revoke %s on %s from public, %I', privileges, relation_name, $1::name)
    from held where not is_partition
  union all
  select 'warning', 'tenant_updatable', name, relation_name, format('%s may update the tenant of a row', $1::name),
      format('select rowhouse.protect_table(%L, %L)', name, tenant_column)
    from relations
    where not is_partition and has_column_privilege($1::name, oid, tenant_column, 'update')`

const INCOMPLETE = `
  with ${RELATIONS}
  select 'error' as level, g.kind, r.name as "table", r.relation_name as object, g.detail,
      format('select rowhouse.protect_table(%L, %L)', r.name, r.tenant_column) as mend
    from relations r
    cross join lateral (
      select 'row_security_off' as kind, 'row-level security is not enabled' as detail where not r.relrowsecurity
      union all
      select 'row_security_not_forced', 'row-level security does not hold for the owner' where not r.relforcerowsecurity
      union all
      select 'policy_differs', format('the policy %I is missing, or not as rowhouse writes it', expected.name)
        from (values ('rowhouse_tenant'::name, true), ('rowhouse_isolation', false)) expected (name, permissive)
        where not rowhouse.has_tenant_policy(r.oid::regclass, expected.name, expected.permissive, r.tenant_column, r.column_type)
      union all
      select 'foreign_partition', 'is a foreign table, for which row-level security does not exist' where r.relkind = 'f'
      union all
      select 'tenant_nullable', 'rows need not have a tenant'
        from pg_attribute a
        where a.attrelid = r.oid and a.attname = r.tenant_column and not a.attnotnull
      union all
      select 'tenant_without_default', 'the tenant of a new row is not that of the transaction by itself'
        where not r.is_partition and not exists (
          select from pg_attribute a join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
            where a.attrelid = r.oid and a.attname = r.tenant_column
              and pg_get_expr(d.adbin, d.adrelid) ~ '^\\(?rowhouse\\.require_tenant\\(\\)\\)?(::[a-z ]+)?$')
      union all
      select 'write_guard_missing', 'rows could be written while or after their tenant is erased'
        where not r.is_partition and not rowhouse.has_write_guard(r.oid::regclass)
          and not rowhouse.is_written_by_functions_only(r.oid::regclass)
    ) g`
