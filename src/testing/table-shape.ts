import type pg from 'pg'
import { createRowhouseError } from '../errors.ts'

/** A column, as far as a value for it has to be made up. */
export interface ColumnShape {
  /** As in the catalog, without quotes. */
  readonly name: string
  readonly quoted: string
  /** With its length or precision, such as `character varying(20)`: a parameter is cast to it. */
  readonly type: string
  /** The type below domains, and below the elements of an array, such as `integer`. */
  readonly baseType: string
  readonly isArray: boolean
  readonly isDomain: boolean
  /** Length or precision of the base type, as pg_attribute.atttypmod has it; -1 where there is none. */
  readonly typeModifier: number
  /** Labels of an enum; empty for other types. */
  readonly labels: readonly string[]
  readonly required: boolean
  readonly isTenant: boolean
}

/** A foreign key: which columns take their values from which row. */
export interface ReferenceShape {
  readonly columns: readonly string[]
  /** With its schema, quoted. */
  readonly table: string
  readonly referencedColumns: readonly string[]
}

/** What is needed to write statements for a table that is known from the catalogs only. */
export interface TableShape {
  /** With its schema, quoted. */
  readonly name: string
  /** Columns that can be inserted, quoted. */
  readonly columns: readonly string[]
  readonly columnShapes: readonly ColumnShape[]
  /** The columns of the primary key without the tenant column, quoted; empty where there is no primary key. */
  readonly key: readonly string[]
  /** All columns of the primary key, quoted. */
  readonly primaryKey: readonly string[]
  /** A column that is neither part of the key nor the tenant column; the first of the key where there is none. */
  readonly plainColumn: string
  /** Quoted. */
  readonly tenantColumn: string
  /** Such as `text` or `uuid`. */
  readonly tenantType: string
  readonly partitioned: boolean
  /** Partitions that hold rows, with their schemas, quoted. */
  readonly leaves: readonly string[]
  readonly references: readonly ReferenceShape[]
}

interface ColumnRow extends ColumnShape {
  readonly insertable: boolean
  readonly keyPlace: number | null
  readonly tenantType: string
  readonly partitioned: boolean
}

/** The shape of a registered table. */
export async function describeTable(client: pg.ClientBase, table: string): Promise<TableShape> {
  const { rows } = await client.query<ColumnRow>(COLUMNS, [table])
  const tenant = rows.find(({ isTenant }) => isTenant)
  if (tenant === undefined) {
    throw createRowhouseError('table_not_protected', `${table} is not protected.`)
  }
  const writable = rows.filter(({ insertable }) => insertable)
  const primaryKey = rows.filter(({ keyPlace }) => keyPlace !== null).sort((a, b) => a.keyPlace! - b.keyPlace!)
  const plain = writable.find(({ keyPlace, isTenant }) => keyPlace === null && !isTenant)
  const key = primaryKey.filter(({ isTenant }) => !isTenant).map(({ quoted }) => quoted)
  const { rows: references } = await client.query<ReferenceShape>(REFERENCES, [table])
  const { rows: leaves } = await client.query<{ name: string }>(LEAVES, [table])
  return {
    name: table,
    columns: writable.map(({ quoted }) => quoted),
    columnShapes: writable,
    key,
    primaryKey: primaryKey.map(({ quoted }) => quoted),
    plainColumn: plain?.quoted ?? key[0] ?? tenant.quoted,
    tenantColumn: tenant.quoted,
    tenantType: tenant.tenantType,
    partitioned: tenant.partitioned,
    leaves: leaves.map(({ name }) => name),
    references,
  }
}

/** The registered tables, referenced ones first where foreign keys allow it. */
export async function describeRegisteredTables(client: pg.ClientBase): Promise<TableShape[]> {
  const { rows } = await client.query<{ name: string }>(`
    select format('%I.%I', n.nspname, c.relname) as name
      from rowhouse.protected_tables p
      join pg_class c on c.oid = p.relation
      join pg_namespace n on n.oid = c.relnamespace
      order by 1`)
  const shapes = new Map<string, TableShape>()
  for (const { name } of rows) shapes.set(name, await describeTable(client, name))
  const sorted = new Set<TableShape>()
  const visiting = new Set<string>()
  const visit = (table: TableShape) => {
    if (visiting.has(table.name)) return
    visiting.add(table.name)
    for (const reference of table.references) {
      const referenced = shapes.get(reference.table)
      if (referenced !== undefined) visit(referenced)
    }
    sorted.add(table)
  }
  for (const shape of shapes.values()) visit(shape)
  return [...sorted]
}

const COLUMNS = `
  with recursive types as (
    select a.attnum, a.atttypid as type, a.atttypmod as modifier, false as is_domain
      from pg_attribute a
      where a.attrelid = $1::regclass and a.attnum > 0 and not a.attisdropped
    union all
    select b.attnum, t.typbasetype, case when b.modifier = -1 then t.typtypmod else b.modifier end, true
      from types b join pg_type t on t.oid = b.type and t.typtype = 'd'
  ), bases as (
    select b.attnum, b.modifier, b.is_domain, case when t.typcategory = 'A' and t.typelem <> 0 then t.typelem else t.oid end as type,
        t.typcategory = 'A' and t.typelem <> 0 as is_array
      from types b join pg_type t on t.oid = b.type
      where t.typtype <> 'd'
  )
  select a.attname as name, quote_ident(a.attname) as quoted, format_type(a.atttypid, a.atttypmod) as type,
      format_type(b.type, null) as "baseType", b.is_array as "isArray", b.is_domain as "isDomain", b.modifier as "typeModifier",
      array(select e.enumlabel::text from pg_enum e where e.enumtypid = b.type order by e.enumsortorder) as labels,
      a.attnotnull and not a.atthasdef and a.attidentity = '' as required, a.attname = p.tenant_column as "isTenant",
      a.attgenerated = '' and a.attidentity <> 'a' as insertable,
      array_position(i.indkey::smallint[], a.attnum) as "keyPlace",
      format_type(p.column_type, null) as "tenantType", c.relkind = 'p' as partitioned
    from rowhouse.protected_tables p
    join pg_class c on c.oid = p.relation
    join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
    join bases b on b.attnum = a.attnum
    left join pg_index i on i.indrelid = c.oid and i.indisprimary
    where p.relation = $1::regclass
    order by a.attnum`

const REFERENCES = `
  select format('%I.%I', n.nspname, c.relname) as "table",
      array(select a.attname::text from unnest(k.conkey) with ordinality u (number, place)
        join pg_attribute a on a.attrelid = k.conrelid and a.attnum = u.number order by place) as columns,
      array(select a.attname::text from unnest(k.confkey) with ordinality u (number, place)
        join pg_attribute a on a.attrelid = k.confrelid and a.attnum = u.number order by place) as "referencedColumns"
    from pg_constraint k
    join pg_class c on c.oid = k.confrelid
    join pg_namespace n on n.oid = c.relnamespace
    where k.conrelid = $1::regclass and k.contype = 'f' and k.conparentid = 0
    order by k.conname`

const LEAVES = `
  select format('%I.%I', n.nspname, c.relname) as name
    from pg_partition_tree($1::regclass) t
    join pg_class c on c.oid = t.relid
    join pg_namespace n on n.oid = c.relnamespace
    where t.isleaf and t.relid <> $1::regclass
    order by 1`
