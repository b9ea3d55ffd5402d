import type { ClientBase } from 'pg'

/** One of the roles of rowhouse, as the migrating login sees it. */
export interface RoleFacts {
  readonly name: string
  readonly superuser: boolean
  readonly bypassRls: boolean
  /** Whether the login may `set role` to it. */
  readonly canSet: boolean
  /** Whether the login may make itself a member. */
  readonly canGrant: boolean
}

/** What decides whether this login can migrate this database. */
export interface ServerFacts {
  /** For example 150020. */
  readonly versionNumber: number
  /** For example `15.20`. */
  readonly version: string
  readonly database: string
  readonly databaseOwner: string
  /** The role that the session works as. */
  readonly login: string
  readonly superuser: boolean
  readonly createRole: boolean
  /** A standby that replays another server. */
  readonly inRecovery: boolean
  /** `default_transaction_read_only`. */
  readonly readOnly: boolean
  /** Those of the roles that exist. */
  readonly roles: readonly RoleFacts[]
  /** Owner of the schema `rowhouse`, null when there is none. */
  readonly schemaOwner: string | null
  /** Whether `rowhouse.migrations` and `rowhouse.applied_functions` exist. */
  readonly tables: boolean
  /** Whether the login may grant CREATE on the database. */
  readonly canGrantCreate: boolean
  /** Whether rowhouse_owner may create schemas in the database. */
  readonly ownerCanCreate: boolean
}

/** The roles that the bootstrap creates, the owner first. */
export const ROLE_NAMES = ['rowhouse_owner', 'rowhouse_app', 'rowhouse_admin', 'rowhouse_search'] as const

// One JSON text, so that type parsers the application registered with pg don't touch it.
const FACTS = `
select json_build_object(
  'versionNumber', current_setting('server_version_num')::integer,
  'version', split_part(current_setting('server_version'), ' ', 1),
  'database', d.datname,
  'databaseOwner', pg_get_userbyid(d.datdba),
  'login', current_user,
  'superuser', l.rolsuper,
  'createRole', l.rolcreaterole,
  'inRecovery', pg_is_in_recovery(),
  'readOnly', current_setting('default_transaction_read_only') = 'on',
  'roles', (
    select coalesce(json_agg(json_build_object(
        'name', r.rolname,
        'superuser', r.rolsuper,
        'bypassRls', r.rolbypassrls,
        'canSet', pg_has_role(r.oid, case when v.per_grant then 'SET' else 'MEMBER' end),
        'canGrant', l.rolsuper or pg_has_role(r.oid, 'MEMBER WITH ADMIN OPTION')
          or (l.rolcreaterole and not v.per_grant and not r.rolsuper))
      order by array_position($1::text[], r.rolname::text)), '[]')
    from pg_roles r
    where r.rolname = any ($1::text[])),
  'schemaOwner', (select pg_get_userbyid(n.nspowner) from pg_namespace n where n.nspname = 'rowhouse'),
  'tables', (
    select count(*) = 2
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    where n.nspname = 'rowhouse' and c.relname in ('migrations', 'applied_functions') and c.relkind = 'r'),
  'canGrantCreate', pg_has_role(d.datdba, 'USAGE') or has_database_privilege(d.oid, 'CREATE WITH GRANT OPTION'),
  'ownerCanCreate', coalesce((
    select has_database_privilege(o.oid, d.oid, 'CREATE') from pg_roles o where o.rolname = $2::text), false)
)::text as facts
from pg_database d
cross join pg_roles l
cross join (select current_setting('server_version_num')::integer >= 160000 as per_grant) v
where d.datname = current_database() and l.rolname = current_user`

/** Reads the facts in one query. */
export async function readServerFacts(client: ClientBase): Promise<ServerFacts> {
  const { rows } = await client.query(FACTS, [ROLE_NAMES, ROLE_NAMES[0]])
  return JSON.parse(rows[0].facts) as ServerFacts
}
