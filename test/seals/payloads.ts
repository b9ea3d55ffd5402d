import { GLOBEX } from '../isolation/support/app-tables.ts'

/** What an attacker gets into a tenant's transaction: statements that run one after the other. */
export interface Payload {
  readonly name: string
  readonly statements: readonly string[]
}

const SETTING = 'app.tenant_id'
const quoted = (text: string) => `'${text.replaceAll("'", "''")}'`

/** Expressions that set the tenant, as text, where SQL wants a value. */
const SWITCHES: Readonly<Record<string, string>> = {
  set_config: `set_config('${SETTING}', '${GLOBEX}', true)`,
  'set_config for the session': `set_config('${SETTING}', '${GLOBEX}', false)`,
  'qualified set_config': `pg_catalog.set_config('${SETTING}', '${GLOBEX}', true)`,
  'quoted set_config': `"pg_catalog"."set_config"('${SETTING}', '${GLOBEX}', true)`,
  'set_config in Unicode escapes': `U&"\\0073et\\005fconfig"('${SETTING}', '${GLOBEX}', true)`,
  'set_config in capitals': `SET_CONFIG('APP.TENANT_ID', '${GLOBEX}', TRUE)`,
  'set_config in an array': `(array[set_config('${SETTING}', '${GLOBEX}', true)])[1]`,
  'set_config with comments in it': `set_config/* ' */('app.' /* -- */ || 'tenant_id', '${GLOBEX}', true)`,
  'a name of characters': `set_config(${[...SETTING].map((character) => `chr(${character.charCodeAt(0)})`).join(' || ')}, '${GLOBEX}', true)`,
  'a value of bytes': `set_config('${SETTING}', convert_from('\\x${Buffer.from(GLOBEX).toString('hex')}', 'UTF8'), true)`,
  'a value in base64': `set_config('${SETTING}', convert_from(decode('${Buffer.from(GLOBEX).toString('base64')}', 'base64'), 'LATIN1'), true)`,
  'escape strings': `set_config(E'app.tenant\\x5fid', E'\\147lobex', true)`,
  'dollar quotes': `set_config($a$${SETTING}$a$, $$${GLOBEX}$$, true)`,
  query_to_xml: `query_to_xml(${quoted(`select set_config('${SETTING}', '${GLOBEX}', true)`)}, true, false, '')::text`,
  ts_stat: `(select word from ts_stat(${quoted(`select to_tsvector('simple', set_config('${SETTING}', '${GLOBEX}', true))`)}) limit 1)`,
  ts_rewrite: `ts_rewrite('a'::tsquery, ${quoted(`select 'a'::tsquery, set_config('${SETTING}', '${GLOBEX}', true)::tsquery`)})::text`,
  'both settings': `(set_config('${SETTING}', '${GLOBEX}', true) || set_config('app.seal', current_setting('app.seal', true), true))`,
  'the work of rowhouse, pretended': `(set_config('${SETTING}', '${GLOBEX}', true) || set_config('app.work_seal', current_setting('app.seal', true), true) || set_config('rowhouse.holds_tenant_lock', 'on', true))`,
}

/** Where an expression can stand in a statement that reads invoices, or writes them. */
const PLACES: Readonly<Record<string, (expression: string) => string>> = {
  'select list': (e) => `select ${e}, i.* from invoices i`,
  'select list before rows of a sub-select': (e) =>
    `select ${e}, (select string_agg(note, ',') from invoices) as notes`,
  where: (e) => `select * from invoices where ${e} is not null`,
  'order by': (e) => `select * from invoices order by ${e}`,
  'materialized part': (e) => `with s as materialized (select ${e} as v) select * from s, invoices`,
  'recursive part': (e) =>
    `with recursive s as (select ${e} as v, 1 as n union all select ${e}, n + 1 from s where n < 2) select * from s, invoices`,
  'lateral scan after it': (e) =>
    `select i.* from generate_series(1, 3) g, lateral (select ${e} || g as v offset 0) s, lateral (select * from invoices where s.v is not null and g > 0) i`,
  'second scan of a union': (e) =>
    `select note from invoices union all select ${e} union all select note from invoices`,
  'set operation order': (e) => `(select ${e}) union all (select note from invoices)`,
  values: (e) => `select i.* from (values (${e})) v (x), invoices i`,
  case: (e) => `select case when ${e} <> '' then (select min(note) from invoices) end`,
  'aggregate filter': (e) => `select array_agg(note) filter (where ${e} is not null) from invoices`,
  'group by': (e) => `select count(*) from invoices group by ${e}`,
  limit: (e) => `select * from invoices limit length(${e})`,
  insert: (e) => `insert into events (id, kind, payload) values (900, ${e}, '{}')`,
  'insert for the other': (e) =>
    `insert into events (tenant_id, id, kind, payload) values ('${GLOBEX}', 901, ${e}, '{}') returning 'canary:${GLOBEX}:'`,
  update: (e) => `update invoices set note = note where ${e} is not null returning *`,
  returning: (e) => `update invoices set note = note returning ${e}, (select string_agg(note, ',') from invoices)`,
  delete: (e) => `delete from events where ${e} is not null returning *`,
}

/** Every expression in every place would be 340; each in some of the places, and each place with some expressions. */
function expressions(): Payload[] {
  const payloads: Payload[] = []
  const switches = Object.entries(SWITCHES)
  const places = Object.entries(PLACES)
  for (const [row, [name, expression]] of switches.entries()) {
    for (const [column, [place, statement]] of places.entries()) {
      if (name === 'set_config' || place === 'lateral scan after it' || (row + column) % 2 === 0) {
        payloads.push({ name: `${name} in: ${place}`, statements: [statement(expression)] })
      }
    }
  }
  return payloads
}

const one = (name: string, ...statements: string[]): Payload => ({ name, statements })

const SET_LOCAL = `set local ${SETTING} = '${GLOBEX}'`
const CALL = `select set_config('${SETTING}', '${GLOBEX}', true)`

/** Statements of their own. */
const STATEMENTS: readonly Payload[] = [
  one('set local', SET_LOCAL),
  one('set', `set ${SETTING} = '${GLOBEX}'`),
  one('set session', `set session ${SETTING} to ${GLOBEX}`),
  one('set behind a comment', `/* harmless /* nested */ */ set local ${SETTING} = '${GLOBEX}'`),
  one('set behind a line comment', `-- harmless\nset local ${SETTING} = '${GLOBEX}'`),
  one('set behind semicolons', `;;; set local ${SETTING} = '${GLOBEX}'`),
  one('set with quoted names', `set local "app"."tenant_id" = '${GLOBEX}'`),
  one('set with escaped names', `set local U&"\\0061pp".tenant_id = '${GLOBEX}'`),
  one('set with capitals', `SET LOCAL APP.TENANT_ID = '${GLOBEX}'`),
  one('stacked', `select 1; ${SET_LOCAL}`),
  one('stacked behind a quote', `select 1 where '' = ''; ${SET_LOCAL}; --`),
  one('stacked with a commit', `commit; begin; ${SET_LOCAL}`),
  one('reset', `reset ${SETTING}`),
  one('reset all', 'reset all'),
  one('discard all', 'discard all'),
  one('set role', 'set role rowhouse_owner'),
  one('set local role', 'set local role rowhouse_owner'),
  one('set role of operators', 'set local role rowhouse_admin'),
  one('reset role', 'reset role'),
  one('role by set_config', "select set_config('role', 'rowhouse_owner', true)"),
  one('no role by set_config', `select set_config('role', 'none', true), set_config('${SETTING}', '${GLOBEX}', true)`),
  one('set session authorization', 'set session authorization postgres'),
  one('session authorization by set_config', "select set_config('session_authorization', 'postgres', true)"),
  one('row_security off', 'set local row_security = off'),
  one('row_security by set_config', "select set_config('row_security', 'off', true)", 'select * from invoices'),
  one('update of pg_settings', `update pg_settings set setting = '${GLOBEX}' where name = '${SETTING}'`),
  one('insert into pg_settings', `insert into pg_settings (name, setting) values ('${SETTING}', '${GLOBEX}')`),
  one('alter role', `alter role current_user set ${SETTING} = '${GLOBEX}'`),
  one(
    'alter database',
    `do $$ begin execute format('alter database %I set ${SETTING} = ${GLOBEX}', current_database()); end $$`,
  ),
  one('alter system', `alter system set ${SETTING} = '${GLOBEX}'`),
  one('do', `do $$ begin perform set_config('${SETTING}', '${GLOBEX}', true); end $$`),
  one('do with set', `do $$ begin ${SET_LOCAL}; end $$`),
  one('do with dynamic SQL', `do $$ begin execute 'set local ' || 'app.' || 'tenant_id = ${GLOBEX}'; end $$`),
  one('do with commit', `do $$ begin commit; set ${SETTING} = '${GLOBEX}'; end $$`),
  one(
    'do with an exception block',
    `do $$ begin perform set_config('${SETTING}', '${GLOBEX}', true); perform * from invoices; exception when others then null; end $$`,
  ),
  one('prepare', `prepare p as ${CALL}`, 'execute p'),
  one(
    'prepare for the query after it',
    'prepare q as select * from invoices',
    'execute q',
    CALL,
    'execute q',
    'deallocate q',
  ),
  one(
    'prepared with a generic plan',
    "set local plan_cache_mode = 'force_generic_plan'",
    'prepare generic as select * from invoices',
    CALL,
    'execute generic',
  ),
  one('cursor', 'declare c cursor for select * from invoices', CALL, 'fetch all from c'),
  one(
    'cursor begun before',
    'declare c scroll cursor for select * from invoices',
    'fetch 1 from c',
    CALL,
    'fetch all from c',
    'move absolute 0 in c',
    'fetch all from c',
  ),
  one('cursor held', 'declare c cursor with hold for select * from invoices', CALL, 'fetch all from c'),
  one('savepoint around it', 'savepoint s', CALL, 'release savepoint s'),
  one('rolled back to a savepoint', CALL, 'savepoint s', 'rollback to savepoint s'),
  one('explain analyze', `explain (analyze, verbose) select ${SWITCHES.set_config}, * from invoices`),
  one('create table as', `create temporary table t as select ${SWITCHES.set_config} as v, i.* from invoices i`),
  one(
    'create view',
    `create temporary view v as select ${SWITCHES.set_config} as v, i.* from invoices i`,
    'select * from v',
  ),
  one(
    'create function',
    `create function pg_temp.f() returns text language sql as $$ ${CALL} $$`,
    'select pg_temp.f()',
  ),
  one(
    'function with a setting',
    `create function pg_temp.g() returns setof invoices language sql set ${SETTING} = '${GLOBEX}' as $$ select * from invoices $$`,
    'select * from pg_temp.g()',
  ),
  one(
    'definer function',
    `create function pg_temp.h() returns setof invoices language sql security definer as $$ select * from invoices $$`,
    CALL,
    'select * from pg_temp.h()',
  ),
  one('create rule', `create rule r as on insert to invoices do also ${CALL}`),
  one(
    'create trigger',
    'create trigger t before insert on invoices for each statement execute function rowhouse.guard_tenant_write()',
  ),
  one('alter table', 'alter table invoices disable row level security'),
  one('drop policy', 'drop policy rowhouse_isolation on invoices'),
  one('create policy', 'create policy p on invoices using (true)'),
  one('copy to program', `copy (select ${SWITCHES.set_config}) to program 'cat'`),
  one('copy from program', "copy invoices from program 'cat /etc/passwd'"),
  one('large object', `select lo_from_bytea(0, convert_to(${SWITCHES.set_config}, 'UTF8'))`),
  one(
    'cursor_to_xml',
    `declare c cursor for select ${SWITCHES.set_config}, i.* from invoices i`,
    "select cursor_to_xml('c', 10, true, false, '')::text",
  ),
  one('table_to_xml after it', CALL, "select table_to_xml('invoices', true, false, '')::text"),
  one(
    'query_to_xml of both',
    `select query_to_xml($q$select set_config('${SETTING}', '${GLOBEX}', true), note from invoices$q$, true, false, '')::text`,
  ),
  one(
    'merge',
    `merge into invoices i using (select ${SWITCHES.set_config} as v) s on true when matched then update set note = i.note`,
  ),
  one(
    'upsert',
    `insert into invoices (id, customer_id, note, total) select id, customer_id, note, total from invoices on conflict (tenant_id, id) do update set note = ${SWITCHES.set_config}`,
  ),
  one('select for update after it', CALL, 'select * from invoices for update'),
  one('truncate', 'truncate invoices'),
  one('lock', 'lock table invoices in access exclusive mode'),
  one('listen', `listen "${GLOBEX}"`),
]

/** Seals the transaction as the other tenant, on a login that may become the owner of the secret. */
export const FORGE_SEAL = `do $$ begin
  perform set_config('role', 'rowhouse_owner', true);
  perform set_config('app.tenant_id', '${GLOBEX}', true),
      set_config('app.seal', rowhouse.seal_digest(s.inner_secret, s.outer_secret, '${GLOBEX}'), true)
    from rowhouse.seals s;
  perform set_config('role', 'rowhouse_app', true);
end $$`

/** What only a sealed context has: the secrets, and the ways in. */
const SEALS: readonly Payload[] = [
  one('read the secrets', 'select * from rowhouse.seals'),
  one('read the keys', 'select * from rowhouse.seal_keys'),
  one('forge a seal as the owner of the secret', FORGE_SEAL),
  one('compute a seal', `select rowhouse.seal_digest('', '', '${GLOBEX}')`),
  one('enter with the own seal', CALL, "select rowhouse.enter_sealed_tenant(current_setting('app.seal', true))"),
  one('enter with no proof', CALL, 'select rowhouse.enter_sealed_tenant(null)'),
  one('call the entry with no proof', CALL, 'call rowhouse.enter_sealed(null, true, true)'),
  one('ask for the seal of the other', `select rowhouse.has_seal(false, '', '', '${GLOBEX}')`),
  one(
    'enter with a forged proof',
    CALL,
    `select rowhouse.enter_sealed_tenant('0000000000000000.1700000000000.${'0'.repeat(64)}')`,
  ),
  one(
    'enter with an empty key',
    CALL,
    "select rowhouse.enter_sealed_tenant(k.key_id || '.1700000000000.' || repeat('0', 64)) from rowhouse.seal_keys k",
  ),
  one('enter without proof', CALL, 'select rowhouse.enter_tenant()'),
  one(
    'add a key',
    "select rowhouse.add_seal_key('\\x000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f')",
  ),
  one('no seals any more', 'select rowhouse.set_seals_required(false)'),
  one('write the registry policy', 'select rowhouse.write_registry_policy()'),
  one('work as the other', `select rowhouse.work_as('${GLOBEX}', true)`),
  one(
    'proofs of others in pg_stat_activity',
    `select ${SWITCHES.set_config}`,
    'select rowhouse.enter_sealed_tenant(substring(query from $$[0-9a-f]{16}\\.[0-9]{13}\\.[0-9a-f]{64}$$)) from pg_stat_activity',
  ),
  one('the other tenant in the registry', CALL, 'select * from rowhouse.tenants'),
  one('the status of the other, by a write', CALL, 'update invoices set note = note where false'),
]

export const PAYLOADS: readonly Payload[] = [...expressions(), ...STATEMENTS, ...SEALS]
