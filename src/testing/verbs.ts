import pg from 'pg'
import type { TableShape } from './table-shape.ts'

/** The tenant that attacks, and the one that is attacked. */
export interface Sides {
  readonly own: string
  readonly other: string
}

/** Statements of one attempt, in the order in which they run. */
export type Verb = (table: TableShape, sides: Sides) => readonly string[]

/** The key of another tenant's row is as good as known: all rows of the application are numbered alike. */
const others = ({ tenantColumn }: TableShape, { other }: Sides) => `${tenantColumn} = '${other}'`

/** `columns` with the tenant column replaced by a literal. */
const asTenant = (table: TableShape, tenantId: string | null) =>
  table.columns
    .map((column) => (column !== table.tenantColumn ? `t.${column}` : tenantId === null ? 'null' : `'${tenantId}'`))
    .join(', ')

const columnList = ({ columns }: TableShape) => columns.join(', ')

const conflictTarget = ({ primaryKey }: TableShape) => `(${primaryKey.join(', ')})`

const same = (table: TableShape, left: string, right: string) =>
  table.key.map((column) => `${left}.${column} = ${right}.${column}`).join(' and ') || 'true'

/** Rows `t` of one tenant whose key the other one has not, so that no key stands in the way of moving them. */
const onlyOf = ({ name, tenantColumn, key }: TableShape, tenantId: string, other: string) =>
  key.length === 0
    ? `t.${tenantColumn} = '${tenantId}'`
    : `t.${tenantColumn} = '${tenantId}' and (${key.map((column) => `t.${column}`).join(', ')}) not in
        (select ${key.join(', ')} from ${name} where ${tenantColumn} = '${other}')`

/** A change that leaves a trace even where the value is the same: the row is gone and back, or has a new one. */
const touch = ({ plainColumn, tenantColumn }: TableShape) =>
  plainColumn === tenantColumn ? `${tenantColumn} = ${tenantColumn}` : `${plainColumn} = ${plainColumn}`

/** Every way in which SQL reads and writes rows. Each tries to reach rows of `other`. */
export const VERBS: Readonly<Record<string, Verb>> = {
  select: ({ name }) => [`select * from ${name}`],
  'select by the tenant': (table, sides) => [`select * from ${table.name} where ${others(table, sides)}`],
  'select for update': ({ name }) => [`select * from ${name} for update`],
  'select for key share': ({ name }) => [`select * from ${name} for key share`],
  'select of the whole row': ({ name }) => [`select to_jsonb(t) as row from ${name} t`],
  'select of system columns': ({ name }) => [`select tableoid::regclass, ctid, xmin, t.* from ${name} t`],
  'table command': ({ name }) => [`table ${name}`],
  aggregate: ({ name, tenantColumn }) => [`select array_agg(distinct ${tenantColumn}) as tenants from ${name}`],
  window: ({ name, tenantColumn }) => [
    `select ${tenantColumn}, lag(${tenantColumn}) over (order by ${tenantColumn}), count(*) over () from ${name}`,
  ],
  'self join': (table) => [
    `select a.* , b.${table.tenantColumn} as b from ${table.name} a full join ${table.name} b on ${same(table, 'a', 'b')}`,
  ],
  'lateral join': (table) => [
    `select l.* from ${table.name} a, lateral (select b.* from ${table.name} b where b.${table.tenantColumn} <> a.${table.tenantColumn}) l`,
  ],
  'correlated subquery': (table) => [
    `select (select string_agg(b.${table.tenantColumn}, ',') from ${table.name} b) as tenants from ${table.name} a limit 1`,
  ],
  exists: (table, sides) => [
    `select '${sides.other}' as found where exists (select from ${table.name} where ${others(table, sides)})`,
  ],
  union: ({ name, tenantColumn }) => [`select ${tenantColumn} from ${name} union select ${tenantColumn} from ${name}`],
  'recursive query': ({ name, tenantColumn }) => [
    `with recursive r as (select ${tenantColumn} from ${name} union select t.${tenantColumn} from ${name} t join r on true) select * from r`,
  ],
  tablesample: ({ name }) => [`select * from ${name} tablesample system (100)`],
  'grouping sets': ({ name, tenantColumn }) => [
    `select ${tenantColumn}, count(*) from ${name} group by grouping sets ((${tenantColumn}), ())`,
  ],
  'query to xml': ({ name }) => [
    `select query_to_xml(${pg.escapeLiteral(`select * from ${name}`)}, true, false, '')::text as xml`,
  ],
  cursor: ({ name }) => [`declare c cursor for select * from ${name}`, 'fetch all from c', 'close c'],
  'cursor opened before': ({ name, tenantColumn }, { own }) => [
    `declare c scroll cursor for select * from ${name} order by ${tenantColumn}`,
    'move last in c',
    'fetch backward all from c',
    `set local app.tenant_id = '${own}'`,
    'fetch forward all from c',
    'close c',
  ],
  'update where current of': (table, sides) => [
    `declare c cursor for select * from ${table.name} where ${others(table, sides)} for update`,
    'fetch 1 from c',
    `update ${table.name} set ${touch(table)} where current of c returning *`,
    'close c',
  ],
  'delete where current of': (table, sides) => [
    `declare c cursor for select * from ${table.name} where ${others(table, sides)} for update`,
    'fetch 1 from c',
    `delete from ${table.name} where current of c returning *`,
    'close c',
  ],
  update: (table) => [`update ${table.name} set ${touch(table)} returning *`],
  'update by the tenant': (table, sides) => [
    `update ${table.name} set ${touch(table)} where ${others(table, sides)} returning *`,
  ],
  'update from': (table) => [
    `update ${table.name} t set ${touch(table).replace('= ', '= s.')} from ${table.name} s where ${same(table, 't', 's')} returning t.*, s.${table.tenantColumn} as s`,
  ],
  'update to the own tenant': (table, sides) => [
    `update ${table.name} t set ${table.tenantColumn} = '${sides.own}' where ${onlyOf(table, sides.other, sides.own)} returning *`,
  ],
  'update to the other tenant': (table, sides) => [
    `update ${table.name} t set ${table.tenantColumn} = '${sides.other}' where ${onlyOf(table, sides.own, sides.other)} returning *`,
  ],
  delete: (table) => [`delete from ${table.name} returning *`],
  'delete by the tenant': (table, sides) => [`delete from ${table.name} where ${others(table, sides)} returning *`],
  'delete using': (table) => [
    `delete from ${table.name} t using ${table.name} s where ${same(table, 't', 's')} returning t.*, s.${table.tenantColumn} as s`,
  ],
  'insert for the other tenant': (table, sides) => [
    `insert into ${table.name} (${columnList(table)}) select ${asTenant(table, sides.other)} from ${table.name} t
      where ${onlyOf(table, sides.own, sides.other)} returning *`,
  ],
  // A row that is returned, or looked for, is checked as one that is read as well; these only write.
  // The newest row, whose key the other tenant has not: with the policies in force its keys can't be looked up.
  'insert for the other tenant, unread': (table, sides) => [
    `insert into ${table.name} (${columnList(table)}) select ${asTenant(table, sides.other)}
      from (select * from ${table.name} where ${table.tenantColumn} = '${sides.own}' order by ctid desc limit 1) t`,
  ],
  'update to the other tenant, unread': (table, sides) => [
    `delete from ${table.name} where ctid <> (select max(ctid) from ${table.name} where ${table.tenantColumn} = '${sides.own}')
      and ${table.tenantColumn} = '${sides.own}'`,
    `update ${table.name} set ${table.tenantColumn} = '${sides.other}'`,
  ],
  // A row of no tenant, which the other one would see: its state is compared before and after.
  'insert for no tenant': (table, sides) => [
    `insert into ${table.name} (${columnList(table)}) select ${asTenant(table, null)} from ${table.name} t
      where t.${table.tenantColumn} = '${sides.own}'`,
  ],
  'update to no tenant': (table, sides) => [
    `update ${table.name} set ${table.tenantColumn} = null where ${table.tenantColumn} = '${sides.own}'`,
  ],
  'insert of everything, into the own tenant': (table, sides) => [
    `delete from ${table.name} where ${table.tenantColumn} = '${sides.own}'`,
    `insert into ${table.name} (${columnList(table)}) select ${asTenant(table, sides.own)} from ${table.name} t on conflict do nothing returning *, (select string_agg(distinct ${table.tenantColumn}, ',') from ${table.name}) as tenants`,
  ],
  'upsert that does nothing': (table, sides) => [
    `insert into ${table.name} (${columnList(table)}) select ${asTenant(table, sides.other)} from ${table.name} t on conflict do nothing returning *`,
    `select string_agg(distinct ${table.tenantColumn}, ',') as tenants from ${table.name}`,
  ],
  'upsert that updates': (table, sides) =>
    table.key.length === 0
      ? []
      : [
          `insert into ${table.name} (${columnList(table)}) select distinct on (${table.key.map((k) => `t.${k}`).join(', ')}) ${asTenant(table, sides.other)} from ${table.name} t
      on conflict ${conflictTarget(table)} do update set ${touch(table).replace('= ', '= excluded.')} returning *`,
        ],
  merge: (table) => [
    `merge into ${table.name} t using (select * from ${table.name}) s on ${same(table, 't', 's')} and t.${table.tenantColumn} = s.${table.tenantColumn}
      when matched then delete`,
  ],
  'merge that updates': (table, sides) => [
    `merge into ${table.name} t using (select * from ${table.name} t where ${onlyOf(table, sides.other, sides.own)}) s
      on ${same(table, 't', 's')} and t.${table.tenantColumn} = s.${table.tenantColumn}
      when matched then update set ${table.tenantColumn} = '${sides.own}'`,
    `select string_agg(distinct ${table.tenantColumn}, ',') as tenants from ${table.name}`,
  ],
  'merge that inserts': (table, sides) => [
    `merge into ${table.name} t using (select * from ${table.name} t where ${onlyOf(table, sides.own, sides.other)}) s on false
      when not matched then insert (${columnList(table)}) values (${asTenant(table, sides.other).replaceAll('t.', 's.')})`,
  ],
  'parts of a query that write': (table) => [`with gone as (delete from ${table.name} returning *) select * from gone`],
  'a part that updates and a part that reads': (table) => [
    `with touched as (update ${table.name} set ${touch(table)} returning ${table.tenantColumn})
      select array_agg(distinct t.${table.tenantColumn}) as seen, (select array_agg(distinct ${table.tenantColumn}) from touched) as touched from ${table.name} t`,
  ],
  truncate: ({ name }) => [`truncate ${name} cascade`],
  'do block': ({ name, tenantColumn }, { own }) => [
    `do $$ declare r record; begin for r in select * from ${name} where ${tenantColumn} <> '${own}' loop raise exception using errcode = '21000', message = r::text; end loop; end $$`,
    `select string_agg(distinct ${tenantColumn}, ',') as tenants from ${name}`,
  ],
  'function of its own': ({ name, tenantColumn }) => [
    `create function pg_temp.peek() returns setof text language sql security definer as $$ select ${tenantColumn} from ${name} $$`,
    'select * from pg_temp.peek()',
  ],
  'temporary view': ({ name }) => [`create temporary view peek as select * from ${name}`, 'select * from peek'],
  'prepared statement': ({ name }) => [
    'deallocate all',
    `prepare peek as select * from ${name}`,
    'execute peek',
    'deallocate peek',
  ],
  // As on a pooled connection that the other tenant used before. What it reads meanwhile is its own, and not looked at.
  'statement prepared for the other tenant': ({ name }, { own, other }) => [
    `set local plan_cache_mode = force_generic_plan; set local app.tenant_id = '${other}'; deallocate all; prepare peek as select * from ${name}`,
    "do $$ begin execute 'execute peek'; end $$",
    `set local app.tenant_id = '${own}'`,
    'execute peek',
    'deallocate peek; reset plan_cache_mode',
  ],
  'explain analyze of a write': (table, sides) => [
    `explain (analyze, costs off, timing off, summary off) delete from ${table.name} where ${table.tenantColumn} <> '${sides.own}'`,
    `select string_agg(distinct ${table.tenantColumn}, ',') as tenants from ${table.name}`,
  ],
}
