import type pg from 'pg'

const SCHEMAS = "('rowhouse', 'rowhouse_partitions')"

/** Why a function may be executed by everybody. */
export const PUBLIC_FUNCTIONS: Readonly<Record<string, string>> = {
  current_tenant: 'tells a session what it set itself',
  require_tenant: 'default of every tenant column, which is evaluated with the rights of whoever inserts',
  raise_no_tenant: 'called by require_tenant',
  sealed_tenant: 'what policies compare with where seals are required; tells a session what it proved itself',
  sealed_tenant_uuid: 'the same, for other tenant columns',
  sealed_tenant_bigint: 'the same, for other tenant columns',
  clean_connection: 'runs as whatever role a transaction left, and everybody may do what it does',
}

/** Why a function that runs with the rights of rowhouse_owner may be called by the application, on purpose or not. */
const DEFINER_FUNCTIONS_OF_THE_APPLICATION: Readonly<Record<string, string>> = {
  seals_required: 'tells whether proofs are needed, and nothing of the secrets',
  lock_on_entry: 'takes the lock that every write of the tenant of the transaction takes',
  sealed_tenant: 'reads the secret of the database, and returns the tenant that the caller set',
  enter_sealed: 'reads the keys, and answers whether a proof is valid',
  take_rate_limit: 'writes counters, which the application may not; its tenant is the one of the transaction',
  admit: 'the same, for reservations',
  settle: 'the same, for usage events',
  call_for_tenant: 'both, for a tenant that it is told; refuses transactions in which one is set',
  release: 'the same, for reservations',
  give_back: 'the same, for usage events with negative amounts',
  extend_lease: 'the same, for reservations',
  authenticate_api_key: 'reads digests, which the application may not; works as the tenant of the transaction',
  refuse_unknown_key:
    'counts refusals of keys of tenants that do not work; says how long the caller waits, nothing else',
  change_settings: 'a tenant changes its own settings, and nothing else of its row in the registry',
  lock_settings: 'locks the row of the tenant of the transaction in the registry, and returns what it may read of it',
  add_credential_key: 'writes encrypted keys of the tenant of the transaction, and records it',
  delete_credential: 'deletes a credential of the tenant of the transaction, and records it',
  drop_credential_keys: 'deletes keys of the tenant of the transaction that nothing needs, and records it',
  put_credential: 'writes an encrypted credential of the tenant of the transaction, and records it',
  reseal_credential: 'replaces an encrypted credential of the tenant of the transaction that the caller has seen',
  append_audit:
    'the application appends to its trail and may not write the table; works as the tenant of the transaction',
  append_late_audit: 'the same, also when the tenant was suspended since',
  find_words: 'searches by the index of words as rowhouse_search, which sees less than the application',
  record_usage: 'the same, for usage events',
  rollup_usage: 'the same, for rollups',
  sweep_usage_events: 'deletes usage events of the tenant of the transaction that are older than it keeps them',
  join_queue: 'reads and writes the schedule of queues, which no tenant may; works with the tenant of the transaction',
  renew_tickets: 'the same',
  leave_queue: 'the same',
  queue_position: 'the same; tells the tenant how many will get a slot before it, and nothing of whose they are',
  queue_utilization: 'reads the tickets of the tenant of the transaction',
  send_wake_ups: 'wakes up workers for jobs of the tenant of the transaction, by the tables of a queue library',
  sweep_queue_requests: 'deletes requests of the tenant of the transaction whose tickets are gone',
}

/** Functions that belong to another role than rowhouse_owner, and to which; and why. */
const FUNCTIONS_OF_OTHERS: Readonly<Record<string, string>> = {
  // Sees what a search looks for, of the tenant of the transaction: search-role.test.ts.
  find_words: 'rowhouse_search',
}

/** The source of a function `p`. */
const SOURCE = 'coalesce(pg_get_function_sqlbody(p.oid), p.prosrc)'

/** In a quoted text, such as that of a policy, the quote would be doubled. */
const READS_SETTING = "'current_setting\\s*\\(\\s*''[^'']'"

/** Condition that holds for functions `p` whose result depends on the tenant that is set. */
export const READS_TENANT = `${SOURCE} ~ ${READS_SETTING}`

export type Gap =
  | 'has no comment'
  | 'search_path is not pinned'
  | 'everybody may execute it'
  | 'runs with the rights of its owner'
  | 'belongs to a role that policies do not hold for'
  | 'does not belong to rowhouse_owner'
  | 'is leakproof'
  | 'is immutable and reads a setting'
  | 'is a view of its owner'
  | 'has row-level security that is not enabled and forced'

/** Functions that search no path, because every name, type and operator in them says its schema; and why. */
export const QUALIFIED_FUNCTIONS: Readonly<Record<string, string>> = {
  enter: 'part of every transaction, and a setting for the path takes a third of its time; p20 shadows its names',
  record_denial: 'part of every refusal, and a setting for the path takes a third of its time; its callers pin one',
  clean_connection: 'part of every transaction, and what it resets must not come back when it returns',
}

/** Functions that search the path of their caller, because a setting takes a tenth of their time, and who that is: nobody else may execute them. */
export const FUNCTIONS_WITH_THE_PATH_OF_THEIR_CALLER: Readonly<Record<string, string>> = {
  begin_tenant_write: 'functions that work for a tenant; part of every call that limits and budgets admit',
  check_tenant_write: 'the same',
  decide_rate_limit: 'take_rate_limit, for each subject',
  is_rate_counter_held: 'admit_call',
  lock_account: 'all that changes the counters of quotas',
  book_quotas: 'the same',
  admit_call: 'admit and call_for_tenant',
  settle_call: 'settle and call_for_tenant',
  add_usage_event: 'settle, record_usage and give_back',
}

export interface FunctionGap {
  readonly name: string
  readonly gap: Gap
}

/** Functions of the schema rowhouse that break a convention which isolation relies on. */
export async function functionGaps(client: pg.ClientBase): Promise<FunctionGap[]> {
  const { rows } = await client.query<FunctionGap>(
    `select p.oid::regprocedure::text as name, g.gap
      from pg_proc p
      join pg_roles o on o.oid = p.proowner
      cross join lateral (
        select 'has no comment' as gap where obj_description(p.oid, 'pg_proc') is null
        -- A body of the SQL standard is bound when the function is made; no path is searched when it runs.
        union all select 'search_path is not pinned'
          where p.prosqlbody is null and not (case when p.proname = any ($3) then p.proconfig is null
            else coalesce(p.proconfig, '{}') @> array['search_path=pg_catalog, pg_temp'] end)
        union all select 'search_path is not pinned'
          where p.proname = any ($5) and exists (
            select from aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a where a.grantee <> p.proowner)
        union all select 'everybody may execute it'
          where p.proname <> all ($1) and has_function_privilege('public', p.oid, 'execute')
        union all select 'runs with the rights of its owner'
          where p.prosecdef and p.proname <> all ($2)
            and (has_function_privilege('rowhouse_app', p.oid, 'execute') or has_function_privilege('public', p.oid, 'execute'))
        union all select 'belongs to a role that policies do not hold for' where o.rolsuper or o.rolbypassrls
        union all select 'does not belong to rowhouse_owner' where o.rolname <> coalesce($4::jsonb ->> p.proname, 'rowhouse_owner')
        union all select 'is leakproof' where p.proleakproof
        -- Folded into a cached plan, where the next tenant finds it.
        union all select 'is immutable and reads a setting'
          where p.provolatile = 'i' and ${READS_TENANT}
      ) g
      where p.pronamespace = 'rowhouse'::regnamespace
      order by 1, 2`,
    [
      Object.keys(PUBLIC_FUNCTIONS),
      Object.keys(DEFINER_FUNCTIONS_OF_THE_APPLICATION),
      [...Object.keys(QUALIFIED_FUNCTIONS), ...Object.keys(FUNCTIONS_WITH_THE_PATH_OF_THEIR_CALLER)],
      JSON.stringify(FUNCTIONS_OF_OTHERS),
      Object.keys(FUNCTIONS_WITH_THE_PATH_OF_THEIR_CALLER),
    ],
  )
  return rows
}

/** Relations of rowhouse that break a convention: views with the rights of their owner, policies that don't hold. */
export async function relationGaps(client: pg.ClientBase): Promise<{ name: string; gap: Gap }[]> {
  const { rows } = await client.query<{ name: string; gap: Gap }>(
    `select c.oid::regclass::text as name, g.gap
      from pg_class c
      cross join lateral (
        select 'is a view of its owner' as gap
          where c.relkind = 'v' and not coalesce((select o.option_value::boolean from pg_options_to_table(c.reloptions) o
            where o.option_name = 'security_invoker'), false)
        union all select 'has row-level security that is not enabled and forced'
          where c.relkind in ('r', 'p') and not (c.relrowsecurity and c.relforcerowsecurity)
            and (exists (select from pg_policy p where p.polrelid = c.oid)
              or exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped))
      ) g
      where c.relnamespace in (select oid from pg_namespace where nspname in ${SCHEMAS})
      order by 1, 2`,
  )
  return rows
}

/** Functions that a policy of any table calls and that are not stable: immutable ones are folded into cached plans. */
export async function policyFunctionGaps(client: pg.ClientBase): Promise<unknown[]> {
  const { rows } = await client.query(
    `select d.refobjid::regprocedure as function, p.polrelid::regclass as table
      from pg_policy p
      join pg_depend d on d.classid = 'pg_policy'::regclass and d.objid = p.oid and d.refclassid = 'pg_proc'::regclass
      join pg_proc f on f.oid = d.refobjid
      where f.provolatile <> 's'`,
  )
  return rows
}

/** Objects of rowhouse without a comment: schemas, relations, columns, functions, types, policies, constraints' domains, roles. */
export async function uncommented(client: pg.ClientBase): Promise<string[]> {
  const { rows } = await client.query<{ object: string }>(
    `with ours as (select oid, nspname from pg_namespace where nspname in ${SCHEMAS})
      select 'schema ' || nspname as object from ours where obj_description(oid, 'pg_namespace') is null
      union all
      select 'relation ' || c.oid::regclass from pg_class c
        where c.relnamespace in (select oid from ours) and c.relkind in ('r', 'p', 'v', 'm', 'f', 'S')
          and obj_description(c.oid, 'pg_class') is null
      union all
      -- Columns of partitions are those of their table.
      select format('column %s.%I', c.oid::regclass, a.attname) from pg_class c join pg_attribute a on a.attrelid = c.oid
        where c.relnamespace in (select oid from ours) and c.relkind in ('r', 'p') and not c.relispartition
          and a.attnum > 0 and not a.attisdropped and col_description(c.oid, a.attnum) is null
      union all
      select 'function ' || p.oid::regprocedure from pg_proc p
        where p.pronamespace in (select oid from ours) and obj_description(p.oid, 'pg_proc') is null
      union all
      select 'type ' || t.oid::regtype from pg_type t
        where t.typnamespace in (select oid from ours) and t.typtype in ('d', 'e', 'r') and obj_description(t.oid, 'pg_type') is null
      union all
      select format('policy %I on %s', p.polname, p.polrelid::regclass) from pg_policy p
        where (p.polname in ('rowhouse_tenant', 'rowhouse_isolation')
            or p.polrelid in (select c.oid from pg_class c where c.relnamespace in (select oid from ours)))
          and obj_description(p.oid, 'pg_policy') is null
      union all
      select 'role ' || r.rolname from pg_roles r
        where r.rolname in ('rowhouse_owner', 'rowhouse_app', 'rowhouse_admin', 'rowhouse_search') and shobj_description(r.oid, 'pg_authid') is null
      order by 1`,
  )
  return rows.map(({ object }) => object)
}

/** Objects of rowhouse that somebody else owns, and what makes its roles more than they should be. */
export async function unownedObjects(client: pg.ClientBase): Promise<string[]> {
  const { rows } = await client.query<{ object: string }>(
    `with ours as (select oid from pg_namespace where nspname in ${SCHEMAS})
      select 'relation ' || c.oid::regclass as object from pg_class c
        where c.relnamespace in (select oid from ours) and c.relowner <> 'rowhouse_owner'::regrole
      union all
      select 'function ' || p.oid::regprocedure from pg_proc p
        where p.pronamespace in (select oid from ours) and pg_get_userbyid(p.proowner) <> coalesce($1::jsonb ->> p.proname, 'rowhouse_owner')
      union all
      select 'schema ' || n.nspname from pg_namespace n where n.oid in (select oid from ours) and n.nspowner <> 'rowhouse_owner'::regrole
      union all
      select format('role %s: exempt, or able to log in or to create', r.rolname) from pg_roles r
        where r.rolname in ('rowhouse_owner', 'rowhouse_app', 'rowhouse_admin', 'rowhouse_search')
          and (r.rolsuper or r.rolbypassrls or r.rolcanlogin or r.rolcreaterole or r.rolcreatedb or r.rolreplication)
      union all
      select format('role %s is a member of %s', m.member::regrole, m.roleid::regrole) from pg_auth_members m
        where m.member in ('rowhouse_owner'::regrole, 'rowhouse_app'::regrole, 'rowhouse_admin'::regrole, 'rowhouse_search'::regrole)
      order by 1`,
    [JSON.stringify(FUNCTIONS_OF_OTHERS)],
  )
  return rows.map(({ object }) => object)
}
