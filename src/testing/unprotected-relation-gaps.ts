import pg from 'pg'
import { createRowhouseError } from '../errors.ts'
import type { IsolationGap } from './isolation-gap.ts'
import { type ReachableRelation, reachableRelations } from './reachable-relations.ts'

/** Tables of rowhouse that the application reads without the two policies, and why that is safe. */
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
  'rowhouse.circuit_rules': 'rules of tiers; read only',
}

/** Tables of rowhouse that span tenants or outlive them, and that only its functions read. */
export const OPERATORS_TABLES: Readonly<Record<string, string>> = {
  'rowhouse.erasures': 'receipts, which name erased tenants; operators read them by a function',
  'rowhouse.audit_heads': 'digests of audit trails, which outlive them',
  'rowhouse.audit_pending': 'digests of audit trails, which outlive them',
  'rowhouse.audit_segments': 'digests of audit trails, which outlive them',
  'rowhouse.queue_tenants': 'how tenants stand to each other in queues; removed with the tenant',
  'rowhouse.queue_tickets': 'numbers of requests that wait; removed with the tenant',
  'rowhouse.audit_signatures': 'signatures of audit trails, which outlive them',
}

/** The names with their schema. */
export async function sharedTableNames(client: pg.ClientBase, tables: readonly string[]): Promise<string[]> {
  const { rows } = await client.query<{ given: string; name: string | null }>(NAMES, [[...tables]])
  const unknown = rows.filter(({ name }) => name === null).map(({ given }) => given)
  if (unknown.length > 0) {
    throw createRowhouseError('invalid_argument', `There is no table ${unknown.join(', ')}.`)
  }
  return rows.map(({ name }) => name!)
}

/** Gaps of everything that `role` reaches without being a protected table, and of tables that look like tenants'. */
export async function unprotectedRelationGaps(
  client: pg.ClientBase,
  role: string,
  sharedTables: readonly string[],
): Promise<IsolationGap[]> {
  const { rows: registered } = await client.query<{ name: string }>(PROTECTED)
  const protectedNames = new Set(registered.map(({ name }) => name))
  const sharedNames = new Set([...Object.keys(REGISTRIES), ...sharedTables])
  const gaps: IsolationGap[] = []
  const reached = new Set<string>()
  for (const relation of await reachableRelations(client, role)) {
    if (protectedNames.has(relation.name)) continue
    reached.add(relation.name)
    const gap = sharedNames.has(relation.name) ? writableGap(relation, role) : reachableGap(relation, role)
    if (gap !== undefined) gaps.push(gap)
  }
  const { rows: lookalikes } = await client.query<{ name: string }>(LOOKALIKES)
  for (const { name } of lookalikes) {
    if (reached.has(name) || sharedNames.has(name) || name in OPERATORS_TABLES) continue
    gaps.push({
      level: 'warning',
      kind: 'unprotected_table',
      table: name,
      object: name,
      detail: `has a tenant column and no policies; ${role} has no privilege on it yet`,
      mend: protectOrExempt(name),
    })
  }
  return gaps
}

function reachableGap({ name, kind, privileges }: ReachableRelation, role: string): IsolationGap | undefined {
  const gap = { level: 'error', table: name, object: name } as const
  const may = `${role} may ${privileges.join(', ')}`
  switch (kind) {
    case 'r':
    case 'p':
      return { ...gap, kind: 'unprotected_table', detail: `no policies, and ${may}`, mend: protectOrRevoke(name, role) }
    case 'm':
      return {
        ...gap,
        kind: 'materialized_view',
        detail: `row-level security does not exist for materialized views, and ${may}`,
        mend: revokeAll(name, role),
      }
    case 'f':
      return {
        ...gap,
        kind: 'foreign_table',
        detail: `row-level security does not exist for foreign tables, and ${may}`,
        mend: revokeAll(name, role),
      }
    case 'S': {
      const beyond = privileges.filter((privilege) => privilege !== 'usage').join(', ')
      if (beyond === '') return undefined
      return {
        ...gap,
        kind: 'sequence_privilege',
        detail: `${role} may ${beyond}: it sees, or sets, what all tenants draw numbers from`,
        mend: `revoke ${beyond} on sequence ${name} from public, "${role}"`,
      }
    }
    // A view runs with the rights of its owner or of its caller: what it reads is looked at, not the view.
    default:
      return undefined
  }
}

function writableGap({ name, kind, privileges }: ReachableRelation, role: string): IsolationGap | undefined {
  const beyond = privileges.filter((privilege) => privilege !== 'select' && !(kind === 'S' && privilege === 'usage'))
  if (beyond.length === 0) return undefined
  return {
    level: 'error',
    kind: 'shared_table_writable',
    table: name,
    object: name,
    detail: `every tenant reads it, and ${role} may ${beyond.join(', ')}`,
    mend: `revoke ${beyond.join(', ')} on ${name} from public, "${role}"`,
  }
}

const protectOrRevoke = (name: string, role: string) =>
  `select rowhouse.protect_table(${pg.escapeLiteral(name)}), or, when it belongs to no tenant: ${revokeAll(name, role)}`
const protectOrExempt = (name: string) =>
  `select rowhouse.protect_table(${pg.escapeLiteral(name)}), or: select rowhouse.exempt_table(${pg.escapeLiteral(name)}, '<why>')`
const revokeAll = (name: string, role: string) => `revoke all on ${name} from public, "${role}"`

/** The registered tables and their partitions. */
const PROTECTED = `
  select format('%I.%I', n.nspname, c.relname) as name
    from rowhouse.protected_tables p
    cross join lateral (select t.relid from pg_partition_tree(p.relation) t union select p.relation) t
    join pg_class c on c.oid = t.relid
    join pg_namespace n on n.oid = c.relnamespace`

const NAMES = `
  select given, quote_ident(n.nspname) || '.' || quote_ident(c.relname) as name
    from unnest($1::text[]) given
    left join pg_class c on c.oid = to_regclass(given)
    left join pg_namespace n on n.oid = c.relnamespace`

/** Tables with a column named as tenant columns are, that nobody registered or exempted. */
const LOOKALIKES = `
  select format('%I.%I', n.nspname, c.relname) as name
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    where c.relkind in ('r', 'p') and not c.relispartition and c.relpersistence <> 't'
      and n.nspname not in ('pg_catalog', 'information_schema') and rowhouse.holds_tenants(c.oid::regclass)
      and not exists (select from rowhouse.protected_tables p where p.relation = c.oid)
      and not exists (select from rowhouse.exempt_tables e where e.relation = c.oid)
      and not exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')`
