import pg from 'pg'
import type { Seal } from '../context/seal.ts'
import type { TableShape } from './table-shape.ts'

/** Makes the rest of the transaction this tenant's; an empty id is none. */
export type EnterTenant = (tenantId: string) => Promise<void>

/** One attempt of a tenant to reach another one's rows, inside a transaction. */
export interface Attempt {
  readonly enter: EnterTenant
  /** What the attacking tenant runs, in this order. */
  readonly statements: readonly string[]
  /** The attacking tenant; empty: none is set. */
  readonly own: string
  readonly other: string
  /** Text that occurs in rows of the other tenant only. */
  readonly canaries: readonly string[]
  /** Tables whose rows of the other tenant must be the same afterwards. */
  readonly watched: readonly TableShape[]
  /** {@link stateOf} the watched tables before. */
  readonly before: ReadonlyMap<TableShape, string>
}

export interface AttemptOutcome {
  /** What was read or changed of the other tenant; nothing when the attempt failed. */
  readonly evidence: readonly string[]
  /** Why the server refused a statement, where it did. */
  readonly refusal: pg.DatabaseError | undefined
}

/**
 * Runs an attempt and undoes it. Rows, error fields and notices are searched for the other tenant's canaries; then the
 * other tenant looks whether its rows are as they were.
 */
export async function runAttempt(client: pg.ClientBase, attempt: Attempt): Promise<AttemptOutcome> {
  const { enter, statements, own, other, canaries, watched, before } = attempt
  const evidence: string[] = []
  // Only what was made up: the row may hold values of tenants that are real.
  const search = (where: string, text: string) => {
    const found = canaries.find((canary) => text.includes(canary))
    if (found !== undefined) evidence.push(`${where} holds ${found}`)
  }
  const hear = (notice: object) => search('a notice', JSON.stringify(notice))
  let refusal: pg.DatabaseError | undefined
  await enter(own)
  await client.query('savepoint attempt')
  client.on('notice', hear)
  try {
    for (const statement of statements) {
      const result = await client.query(statement)
      for (const { rows } of [result].flat()) for (const row of rows ?? []) search('a row', JSON.stringify(row))
    }
  } catch (error) {
    refusal = error as pg.DatabaseError
    // Without a code the connection failed, or this code did.
    if (typeof refusal.code !== 'string') throw error
    const { message, detail, hint, where } = refusal
    search('an error', JSON.stringify({ message, detail, hint, where }))
    await client.query('rollback to savepoint attempt')
  } finally {
    client.off('notice', hear)
  }
  const after = await stateOf(client, enter, other, watched)
  for (const table of watched) {
    if (after.get(table) !== before.get(table)) evidence.push(`rows of ${table.name} were changed`)
  }
  await client.query('rollback to savepoint attempt; release savepoint attempt')
  return { evidence, refusal }
}

/** All rows of a tenant in these tables, as that tenant reads them. */
export async function stateOf(
  client: pg.ClientBase,
  enter: EnterTenant,
  tenantId: string,
  tables: readonly TableShape[],
): Promise<ReadonlyMap<TableShape, string>> {
  await enter(tenantId)
  if (tables.length === 0) return new Map()
  const contents = tables.map(({ name }) => `(select string_agg(t::text, '; ' order by t::text) from ${name} t)`)
  const { rows } = await client.query<{ contents: (string | null)[] }>(
    `select array[${contents.join(', ')}] as contents`,
  )
  return new Map(tables.map((table, index) => [table, rows[0]!.contents[index] ?? '']))
}

/** With a seal where the database believes no other. */
export function createEnterTenant(client: pg.ClientBase, seal: Seal | undefined): EnterTenant {
  return async (tenantId) => {
    await client.query(`set local app.tenant_id = ${pg.escapeLiteral(tenantId)}`)
    if (seal === undefined || tenantId === '') return
    await client.query('call rowhouse.enter_sealed($1, true, true)', [seal.prove(tenantId)])
  }
}
