import pg from 'pg'
import { asColumnText, type GeneratedValue, plainValue, recognizableValue } from './generate-value.ts'
import { ownTableValues } from './own-rows.ts'
import type { ColumnShape, TableShape } from './table-shape.ts'

/** Values of columns that the caller knows better, by column name. `undefined` leaves the column to its default. */
export type RowValues = Readonly<Record<string, unknown>>

export interface InsertedRow {
  /** Text by which the row is recognized. */
  readonly canaries: readonly string[]
  /** What was written to each column that was named. */
  readonly values: RowValues
}

/** Tables of rowhouse that only its functions write are filled as their owner, who is bound by the policies as well. */
async function asWriter<T>(client: pg.ClientBase, table: TableShape, write: () => Promise<T>): Promise<T> {
  const { rows } = await client.query<{ role: string; stranger: boolean }>(
    `select quote_ident(current_user) as role, c.relowner = 'rowhouse_owner'::regrole
        and not has_any_column_privilege(c.oid, 'insert') as stranger
      from pg_class c where c.oid = $1::regclass`,
    [table.name],
  )
  const { role, stranger } = rows[0]!
  if (!stranger) return write()
  await client.query('set local role rowhouse_owner')
  const result = await write()
  await client.query(`set local role ${role}`)
  return result
}

/** How a value is chosen: each refusal of a row moves the columns that may be to blame one step on. */
const STEPS = ['recognizable', 'literal', 'plain', 'omitted'] as const
type Step = (typeof STEPS)[number]

/** Constraint failures, values out of range, and triggers that raise. */
const MAY_BE_MENDED = /^(22|23|P0)/

/**
 * Inserts a row with made-up values, as the role and tenant of the transaction; the tenant column is left to its
 * default. Rejects with the error of the last attempt.
 */
export async function insertGeneratedRow(
  client: pg.ClientBase,
  table: TableShape,
  prefix: string,
  known: RowValues = {},
): Promise<InsertedRow> {
  const given = { ...(await referencedValues(client, table)), ...ownTableValues(table.name), ...known }
  const columns = table.columnShapes.filter(({ name, isTenant }) => name in given || !isTenant)
  const choices = new Map(
    columns.filter(({ name }) => !(name in given)).map((column) => [column.name, choiceOf(column)]),
  )
  for (;;) {
    const row = new Map<ColumnShape, GeneratedValue & { readonly value: unknown }>()
    for (const column of columns) {
      if (column.name in given) {
        // No canary: it may be the same for both tenants.
        const value = given[column.name]
        if (value !== undefined) row.set(column, { text: '', value })
      } else {
        const generated = choices.get(column.name)!.value(prefix)
        if (generated !== undefined) row.set(column, { ...generated, value: asColumnText(column, generated.text) })
      }
    }
    await client.query('savepoint generated_row')
    try {
      await asWriter(client, table, () =>
        client.query(
          insertStatement(table, [...row.keys()]),
          [...row.values()].map(({ value }) => value),
        ),
      )
      await client.query('release savepoint generated_row')
      return {
        canaries: [...row.values()].flatMap(({ canary }) => canary ?? []),
        values: Object.fromEntries([...row].map(([{ name }, { value }]) => [name, value])),
      }
    } catch (error) {
      await client.query('rollback to savepoint generated_row; release savepoint generated_row')
      const { code, constraint, dataType } = error as pg.DatabaseError
      if (code === undefined || !MAY_BE_MENDED.test(code)) throw error
      const check = await findCheck(client, table, constraint)
      const ofDomains = columns.filter(({ isDomain }) => isDomain).map(({ name }) => name)
      const blamed = check?.columns ?? (dataType === undefined ? [] : ofDomains)
      // Nothing says which column: first those that had no reason to change yet.
      const suspects = [
        blamed,
        [...choices].filter(([, choice]) => choice.untouched).map(([name]) => name),
        [...choices.keys()],
      ]
      // Every round moves a choice on, and each has only few steps.
      const moved = suspects.some(
        (names) =>
          names.flatMap((name) => choices.get(name) ?? []).filter((choice) => choice.next(check?.word)).length > 0,
      )
      if (!moved) throw error
    }
  }
}

/** The value of one column, from one attempt to the next. */
function choiceOf(column: ColumnShape) {
  let step: Step = 'recognizable'
  let literal: string | undefined
  const textual = /^(text|character|citext|name)/.test(column.baseType)
  return {
    get untouched(): boolean {
      return step === 'recognizable'
    },
    value(prefix: string): GeneratedValue | undefined {
      if (step === 'recognizable') return recognizableValue(column, prefix)
      if (step === 'literal' && literal !== undefined) return { text: literal }
      return step === 'omitted' ? undefined : plainValue(column)
    },
    /** Whether there was another step; `word` is one that a check accepts. */
    next(word: string | undefined): boolean {
      if (step === 'omitted' || (step === 'plain' && column.required)) return false
      if (textual) literal ??= word
      step = STEPS[STEPS.indexOf(step) + (step === 'recognizable' && literal === undefined ? 2 : 1)]!
      return true
    },
  }
}

function insertStatement(table: TableShape, columns: readonly ColumnShape[]): string {
  if (columns.length === 0) return `insert into ${table.name} default values`
  const names = columns.map(({ name }) => pg.escapeIdentifier(name)).join(', ')
  const values = columns.map(({ type }, index) => `$${index + 1}::${type}`).join(', ')
  return `insert into ${table.name} (${names}) values (${values})`
}

/** The columns of a check, and the first word that it mentions, such as 'open' of status in ('open', 'closed'). */
async function findCheck(
  client: pg.ClientBase,
  table: TableShape,
  constraint: string | undefined,
): Promise<{ columns: string[]; word: string | undefined } | undefined> {
  const { rows } = await client.query<{ columns: string[]; definition: string }>(
    `select array(select a.attname::text from pg_attribute a where a.attrelid = k.conrelid and a.attnum = any (k.conkey)) as columns,
        pg_get_constraintdef(k.oid) as definition
      from pg_constraint k
      where k.conrelid = $1::regclass and k.conname = $2 and k.contype = 'c'`,
    [table.name, constraint ?? ''],
  )
  return rows.map(({ columns, definition }) => ({
    columns,
    word: /'((?:[^']|'')+)'::/.exec(definition)?.[1]?.replaceAll("''", "'"),
  }))[0]
}

/** Values of columns of foreign keys: those of a row that the tenant has; null where there is none. */
async function referencedValues(client: pg.ClientBase, table: TableShape): Promise<RowValues> {
  const tenantColumn = table.columnShapes.find(({ isTenant }) => isTenant)?.name
  const values: Record<string, unknown> = {}
  for (const { columns, table: referenced, referencedColumns } of table.references) {
    const selected = referencedColumns.map((column) => `${pg.escapeIdentifier(column)}::text`).join(', ')
    const ofTenant = referencedColumns
      .filter((_, index) => columns[index] === tenantColumn)
      .map((column) => `where ${pg.escapeIdentifier(column)}::text = current_setting('app.tenant_id')`)
    // As the login: the role of requests may not read what is only referred to.
    await client.query('savepoint referenced_row; set local role none')
    const row = await client
      .query<unknown[]>({
        text: `select ${selected} from ${referenced} ${ofTenant} limit 1`,
        rowMode: 'array',
      } as pg.QueryArrayConfig)
      .then(
        ({ rows }) => rows[0] as unknown[] | undefined,
        () => undefined,
      )
    await client.query('rollback to savepoint referenced_row; release savepoint referenced_row')
    for (const [index, column] of columns.entries()) {
      if (column !== tenantColumn && !(column in values)) values[column] = row?.[index] ?? null
    }
  }
  return values
}
