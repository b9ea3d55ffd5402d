import pg from 'pg'
import { Seal, type SealKey } from '../context/seal.ts'
import { assertInspectable, runDoctor } from '../doctor/doctor.ts'
import { createRowhouseError } from '../errors.ts'
import { createEnterTenant, type EnterTenant, runAttempt, stateOf } from './attempt.ts'
import { insertGeneratedRow, type RowValues } from './insert-row.ts'
import { IsolationError, type IsolationLeak } from './isolation-error.ts'
import { describeRegisteredTables, type TableShape } from './table-shape.ts'
import { createTenantPair } from './tenant-id.ts'
import { onTestConnection, type TestConnection } from './test-connection.ts'
import { VERBS } from './verbs.ts'

export interface ProveIsolationOptions {
  /** Attacks only these tables, such as `['public.invoices']`. Default: every protected table. */
  readonly tables?: readonly string[] | undefined
  /** The role of requests. Default `rowhouse_app`. */
  readonly role?: string | undefined
  /** Tables without rows of tenants that every tenant may read, such as `['public.countries']`; as SQL names them. */
  readonly sharedTables?: readonly string[] | undefined
  /** The key of sealed contexts, where the database requires them; `rowhouse.prove()` uses that of `createRowhouse`. */
  readonly seal?: SealKey | undefined
  /**
   * Values of columns that can't be made up from the type, the checks and the foreign keys, by table and column. Each
   * table is asked for a row of each of two tenants.
   */
  readonly rows?: Readonly<Record<string, (tenantId: string) => RowValues>> | undefined
}

/** What was tried without reaching a row. */
export interface IsolationProof {
  readonly tables: readonly {
    /** With its schema. */
    readonly table: string
    /** Ways in which a tenant tried to reach the other one's row. */
    readonly attempts: number
    /** How many of them the server refused; the others found nothing. */
    readonly refused: number
  }[]
  readonly attempts: number
}

/** Two tenants that exist in the transaction only: one attacks. */
interface Tenants {
  readonly own: string
  readonly other: string
}

/**
 * Puts a row of each of two throw-away tenants into every protected table and lets one of them try every verb of SQL on
 * the other one's row, and a request without a tenant as well: some fifty attempts a table. All in one transaction, which
 * is rolled back: triggers of the tables do run, and numbers of sequences are used up. A table that the role reaches and that
 * has no policies is a leak without an attack, unless it is shared.
 *
 * Values are made up from types, checks and foreign keys; where that is not enough, the error names the table, and
 * `rows` gives them. The login needs to be a member of `rowhouse_admin` and of the role of requests, as the one that
 * migrates is.
 *
 * SQL: `begin; select rowhouse.provision_tenant(...); insert ...; savepoint attempt; select ...; rollback`
 *
 * @throws {IsolationError} when a row was read, changed or seen to exist.
 * Errors: `invalid_argument` when a row can't be made up; `not_migrated`, `missing_privilege`, `table_not_protected`.
 *
 * @example
 * ```ts
 * const proof = await proveIsolation(connectionString, {
 *   rows: { 'public.orders': () => ({ state: 'open', placed_by: userId }) },
 * })
 * console.log(`${proof.attempts} attempts on ${proof.tables.length} tables`)
 * ```
 */
export async function proveIsolation(
  connection: TestConnection,
  options: ProveIsolationOptions = {},
): Promise<IsolationProof> {
  const { role = 'rowhouse_app' } = options
  return onTestConnection(connection, async (client) => {
    await assertInspectable(client, role)
    // A client that is in a transaction has what it did there proven with it.
    const nested = client.getTransactionStatus() === 'T'
    await client.query(nested ? 'savepoint prove_isolation' : 'begin')
    try {
      return await attackEveryTable(client, role, options)
    } finally {
      await client.query(nested ? 'rollback to savepoint prove_isolation' : 'rollback')
    }
  })
}

async function attackEveryTable(
  client: pg.ClientBase,
  role: string,
  { tables: wanted, rows = {}, sharedTables, seal }: ProveIsolationOptions,
): Promise<IsolationProof> {
  const enter = createEnterTenant(client, seal === undefined ? undefined : new Seal(seal))
  const leaks: IsolationLeak[] = []
  if (wanted === undefined) leaks.push(...(await findUnprotected(client, role, sharedTables)))
  const registered = await describeRegisteredTables(client)
  const readable = await readableBy(client, role, registered)
  // What the role may not even read, it can't attack: the database refuses before any policy is asked.
  const selected = (wanted === undefined ? registered : await select(client, registered, wanted)).filter((table) =>
    readable.has(table),
  )
  // Rows that they refer to are needed as well.
  const needed = wanted === undefined ? registered : withReferenced(registered, selected)
  const tenants = await provisionTenants(client, needed)
  await client.query(`set local role ${pg.escapeIdentifier(role)}`)
  const canaries = await insertRows(client, enter, needed, tenants, await byName(client, rows), readable)
  const proven: IsolationProof['tables'][number][] = []
  for (const table of selected) {
    const { own, other } = tenants.get(table.tenantType)!
    const watched = withReferencing(registered, table).filter(
      (near) => near.tenantType === table.tenantType && readable.has(near),
    )
    const before = await stateOf(client, enter, other, watched)
    const sought = [other, ...canaries.get(table)!]
    const counts = { attempts: 0, refused: 0 }
    for (const [verb, attacker, statements] of attemptsOn(table, { own, other })) {
      const attempt = { enter, statements, own: attacker, other, canaries: sought, watched, before }
      const { evidence, refusal } = await runAttempt(client, attempt)
      counts.attempts++
      if (refusal !== undefined) counts.refused++
      if (evidence.length > 0) leaks.push({ table: table.name, verb, evidence })
    }
    proven.push({ table: table.name, ...counts })
  }
  if (leaks.length > 0) throw new IsolationError(leaks)
  return { tables: proven, attempts: proven.reduce((sum, { attempts }) => sum + attempts, 0) }
}

/** Tables that are open to the role: whatever it may do there, it may do to every row. */
async function findUnprotected(
  client: pg.ClientBase,
  role: string,
  sharedTables: readonly string[] | undefined,
): Promise<IsolationLeak[]> {
  const findings = await runDoctor(client, { role, sharedTables, level: 'error' })
  return findings
    .filter(({ name }) => name === 'unprotected_table')
    .map(({ object, detail }) => ({ table: object, verb: 'any statement', evidence: [detail] }))
}

/** Those of the tables that the role may read something of. */
async function readableBy(
  client: pg.ClientBase,
  role: string,
  tables: readonly TableShape[],
): Promise<ReadonlySet<TableShape>> {
  const { rows } = await client.query<{ name: string }>(
    `select t.name from unnest($1::text[]) t (name)
      where has_any_column_privilege($2::name, t.name::regclass, 'select')`,
    [tables.map(({ name }) => name), role],
  )
  const names = new Set(rows.map(({ name }) => name))
  return new Set(tables.filter(({ name }) => names.has(name)))
}

/** Each attempt: its name, who tries, and the statements. */
function attemptsOn(table: TableShape, { own, other }: Tenants): [string, string, readonly string[]][] {
  const attempts = Object.entries(VERBS).map(([verb, write]): [string, string, readonly string[]] => [
    verb,
    own,
    write(table, { own, other }),
  ])
  for (const verb of ['select', 'update', 'delete'] as const) {
    attempts.push([`${verb} without a tenant`, '', VERBS[verb]!(table, { own, other })])
  }
  for (const leaf of table.leaves) {
    attempts.push([`select of the partition ${leaf}`, own, [`select * from ${leaf}`]])
    attempts.push([`delete from the partition ${leaf}`, own, [`delete from ${leaf} returning *`]])
  }
  return attempts.filter(([, , statements]) => statements.length > 0)
}

/** Throw-away tenants, whose ids are values of the tenant columns, by the type of the column. */
async function provisionTenants(
  client: pg.ClientBase,
  tables: readonly TableShape[],
): Promise<ReadonlyMap<string, Tenants>> {
  const tenants = new Map<string, Tenants>()
  await client.query('set local role rowhouse_admin')
  for (const { tenantType } of tables) {
    if (tenants.has(tenantType)) continue
    const pair = createTenantPair(tenantType)
    for (const tenantId of [pair.own, pair.other])
      await client.query('select rowhouse.provision_tenant($1)', [tenantId])
    tenants.set(tenantType, pair)
  }
  await client.query('set local role none')
  return tenants
}

/** Canaries of the attacked tenant, by table. */
async function insertRows(
  client: pg.ClientBase,
  enter: EnterTenant,
  tables: readonly TableShape[],
  tenants: ReadonlyMap<string, Tenants>,
  known: ReadonlyMap<string, (tenantId: string) => RowValues>,
  readable: ReadonlySet<TableShape>,
): Promise<ReadonlyMap<TableShape, readonly string[]>> {
  const canaries = new Map<TableShape, readonly string[]>()
  const failures: string[] = []
  for (const table of tables) {
    const { own, other } = tenants.get(table.tenantType)!
    const given = known.get(table.name)
    try {
      await enter(own)
      const ownRow = await insertGeneratedRow(client, table, 'own', given?.(own))
      const ownCanaries = [...ownRow.canaries, ...(await insertSecondRow(client, table, 'own', given?.(own)))]
      await enter(other)
      const otherRow = await insertOthersRow(client, table, given?.(other), ownRow.values)
      const otherCanaries = [...otherRow.canaries, ...(await insertSecondRow(client, table, 'other', given?.(other)))]
      canaries.set(
        table,
        otherCanaries.filter((canary) => !ownCanaries.includes(canary)),
      )
      if (!readable.has(table)) continue
      const { rowCount } = await client.query(`select from ${table.name} limit 1`)
      if (rowCount === 0) failures.push(`${table.name}: a tenant does not see its own row`)
    } catch (error) {
      const { code, message } = error as pg.DatabaseError
      if (code === undefined) throw error
      failures.push(`${table.name}: ${message}`)
    }
  }
  if (failures.length > 0) throw unprovable(failures)
  return canaries
}

/** One whose key only this tenant has, where the table takes a second row at all. */
async function insertSecondRow(
  client: pg.ClientBase,
  table: TableShape,
  prefix: string,
  given: RowValues | undefined,
): Promise<readonly string[]> {
  try {
    return (await insertGeneratedRow(client, table, prefix, given)).canaries
  } catch (error) {
    if ((error as pg.DatabaseError).code === '23505') return []
    throw error
  }
}

/** With the key of the own row where that is possible, so that the attacker knows it. */
async function insertOthersRow(
  client: pg.ClientBase,
  table: TableShape,
  given: RowValues | undefined,
  ownValues: RowValues,
): Promise<{ readonly canaries: readonly string[] }> {
  const referencing = new Set(table.references.flatMap(({ columns }) => columns))
  const shared = table.columnShapes.filter(
    ({ name, isTenant, quoted }) =>
      !isTenant && table.primaryKey.includes(quoted) && !referencing.has(name) && ownValues[name] !== undefined,
  )
  if (shared.length > 0) {
    const key = Object.fromEntries(shared.map(({ name }) => [name, ownValues[name]]))
    try {
      return await insertGeneratedRow(client, table, 'other', { ...key, ...given })
    } catch (error) {
      if ((error as pg.DatabaseError).code !== '23505') throw error
    }
  }
  return insertGeneratedRow(client, table, 'other', given)
}

function unprovable(failures: readonly string[]): Error {
  return createRowhouseError('invalid_argument', `No row could be made up for ${failures.join('; ')}.`, {
    hint: "Give values that fit: proveIsolation(connection, { rows: { 'schema.table': (tenantId) => ({ column: value }) } }).",
  })
}

async function select(
  client: pg.ClientBase,
  registered: readonly TableShape[],
  wanted: readonly string[],
): Promise<TableShape[]> {
  const names = await byName(client, Object.fromEntries(wanted.map((name) => [name, name])))
  return [...names].map(([name, given]) => {
    const table = registered.find((candidate) => candidate.name === name)
    if (table === undefined) throw createRowhouseError('table_not_protected', `${given} is not protected.`)
    return table
  })
}

/** The entries by the name of the table with its schema, as describeTable has it. */
async function byName<T>(client: pg.ClientBase, entries: Readonly<Record<string, T>>): Promise<Map<string, T>> {
  const { rows } = await client.query<{ given: string; name: string | null }>(
    `select given, quote_ident(n.nspname) || '.' || quote_ident(c.relname) as name
      from unnest($1::text[]) given
      left join pg_class c on c.oid = to_regclass(given)
      left join pg_namespace n on n.oid = c.relnamespace`,
    [Object.keys(entries)],
  )
  return new Map(
    rows.map(({ given, name }) => {
      if (name === null) throw createRowhouseError('invalid_argument', `There is no table ${given}.`)
      return [name, entries[given]!]
    }),
  )
}

/** With the tables that their foreign keys lead to, in the order of all. */
function withReferenced(all: readonly TableShape[], tables: readonly TableShape[]): TableShape[] {
  const names = new Set(tables.map(({ name }) => name))
  for (const name of names) {
    for (const { table } of all.find((candidate) => candidate.name === name)?.references ?? []) names.add(table)
  }
  return all.filter(({ name }) => names.has(name))
}

/** With the tables whose foreign keys lead to it, which a cascade reaches. */
function withReferencing(all: readonly TableShape[], table: TableShape): TableShape[] {
  const names = new Set([table.name])
  for (const name of names) {
    for (const candidate of all) {
      if (candidate.references.some((reference) => reference.table === name)) names.add(candidate.name)
    }
  }
  return all.filter(({ name }) => names.has(name))
}
