import type pg from 'pg'
import { withClient } from '../setup/connection.ts'
import type { BenchContext } from './run.ts'
import { type Clock, serverClock } from './server-clock-support.ts'

const PROMOTED = 100
const SHARED = 100
const ROWS = 1000

/** Tables that are laid out alike; what differs is who keeps the tenants apart. */
const VARIANTS = {
  'hand-written filter': { table: 'by_hand', predicate: true },
  'policies, with predicate': { table: 'policies', predicate: true, target: 1.1 },
  'policies alone': { table: 'policies_alone', predicate: false },
  'with predicate and write guard': { table: 'protected', predicate: true },
} as const satisfies Record<string, { table: string; predicate: boolean; target?: number }>
type Variant = keyof typeof VARIANTS

/** One statement of an operation; `$1` is the tenant, `$2` a number. */
type Operation = (table: string, filter: string) => string
const OPERATIONS: Readonly<Record<string, Operation>> = {
  'point read': (table, filter) => `select id, note from ${table} where ${filter}id = $2`,
  'range read': (table, filter) =>
    `select id, note from ${table} where ${filter}id between $2 and $2 + 99 order by id limit 100`,
  insert: (table) => `insert into ${table} (tenant_id, id, note) values ($1, $2, 'new')`,
  update: (table, filter) => `update ${table} set note = 'changed' where ${filter}id = $2`,
}

const ROUNDS = 9
const STATEMENTS = 50

/**
 * What the policies cost in the server, beside the same filter written by hand on tables of the same layout: 16 hash
 * partitions and those of 100 promoted tenants. A transaction is what a client sends for one statement: role and tenant,
 * the statement, commit; by hand, too. Each sample is one message of 50 of them, so that network and client count for
 * nothing. The statement alone, many in one transaction, shows what of it the policies are.
 */
export default async function benchPolicies({ urls }: BenchContext): Promise<void> {
  await withClient(urls.owner!, prepare)
  await withClient(urls.app!, async (client) => {
    const { clock, name } = await serverClock(client)
    console.log(`Time: ${name}\n`)
    for (const alone of [false, true]) {
      for (const [kind, tenantId] of [
        ['shared partitions', 'shared_50'],
        ['promoted', 'promoted_50'],
      ] as const) {
        for (const prepared of [false, true]) {
          const unit = alone ? 'a statement alone' : 'a transaction'
          console.log(heading(`${kind}, ${prepared ? 'prepared' : 'unprepared'}: µs ${unit}`))
          for (const [operationName, operation] of Object.entries(OPERATIONS)) {
            print(operationName, await measure(client, clock, { tenantId, operation, prepared, alone }), !alone)
          }
          console.log()
        }
      }
    }
  })
}

interface Measurement {
  readonly tenantId: string
  readonly operation: Operation
  readonly prepared: boolean
  /** Many statements in one transaction, instead of one in each. */
  readonly alone: boolean
}

async function prepare(client: pg.ClientBase): Promise<void> {
  const tenantIds = (kind: string, count: number) => Array.from({ length: count }, (_, index) => `${kind}_${index + 1}`)
  const [promoted, shared] = [tenantIds('promoted', PROMOTED), tenantIds('shared', SHARED)]
  for (const tenantId of [...promoted, ...shared])
    await client.query('select rowhouse.provision_tenant($1)', [tenantId])
  for (const { table } of Object.values(VARIANTS)) {
    await client.query(
      `create table ${table} (tenant_id text not null, id integer not null, note text, primary key (tenant_id, id))`,
    )
    await client.query(
      `insert into ${table} select t, i, 'note ' || i from unnest($1::text[]) t, generate_series(1, ${ROWS}) i`,
      [[...promoted, ...shared]],
    )
    await client.query('select rowhouse.protect_table($1::regclass, p_partition => true)', [table])
  }
  for (const tenantId of promoted) await client.query('select rowhouse.promote_tenant($1)', [tenantId])
  // The layout stays. By hand there are neither policies nor the guard; the guard is measured by itself.
  await client.query(
    "select rowhouse.unprotect_table('by_hand'); grant select, insert, update on by_hand to rowhouse_app",
  )
  for (const table of ['policies', 'policies_alone']) await client.query(`drop trigger rowhouse_guard on ${table}`)
  await client.query('vacuum analyze')
}

/** Milliseconds by variant: all variants in turns, and the median of the rounds. */
async function measure(
  client: pg.ClientBase,
  clock: Clock,
  measurement: Measurement,
): Promise<Record<Variant, number>> {
  const { operation, prepared } = measurement
  const names = Object.keys(VARIANTS) as Variant[]
  const times = new Map<Variant, number[]>(names.map((name) => [name, []]))
  const order = [...names]
  await client.query('deallocate all')
  if (prepared) {
    for (const name of names)
      await client.query(`prepare ${VARIANTS[name].table} (text, integer) as ${statementOf(name, operation)}`)
  }
  for (let round = 0; round <= ROUNDS; round++) {
    for (const name of order) {
      const message = messageOf(name, measurement, round)
      const begun = await clock()
      await client.query(message)
      // The first round warms up.
      if (round > 0) times.get(name)!.push(((await clock()) - begun) / STATEMENTS)
    }
    // Who comes first changes, so that nobody always runs after the same other one.
    order.push(order.shift()!)
  }
  return Object.fromEntries(names.map((name) => [name, median(times.get(name)!)])) as Record<Variant, number>
}

function statementOf(name: Variant, operation: Operation): string {
  const { table, predicate } = VARIANTS[name]
  return operation(table, predicate ? 'tenant_id = $1 and ' : '')
}

/** Rows that were inserted get a number of their own. */
let inserted = ROWS

function messageOf(name: Variant, { tenantId, operation, prepared, alone }: Measurement, round: number): string {
  const begin = `begin; set local role rowhouse_app; set local app.tenant_id = '${tenantId}'`
  const statements = Array.from({ length: STATEMENTS }, (_, index) => {
    const number = operation === OPERATIONS.insert ? ++inserted : 1 + ((round * STATEMENTS + index * 37) % (ROWS - 100))
    return prepared
      ? `execute ${VARIANTS[name].table} ('${tenantId}', ${number})`
      : statementOf(name, operation).replaceAll('$1', `'${tenantId}'`).replaceAll('$2', String(number))
  })
  return alone
    ? `${begin}; ${statements.join('; ')}; rollback`
    : statements.map((statement) => `${begin}; ${statement}; commit`).join('; ')
}

function median(samples: number[]): number {
  return samples.sort((one, other) => one - other)[Math.floor(samples.length / 2)]!
}

const NAME_WIDTH = 14
const WIDTH = 32

function heading(title: string): string {
  return `${title}, and the ratio to the filter by hand\n${' '.repeat(NAME_WIDTH)}${Object.keys(VARIANTS)
    .map((name) => name.padStart(WIDTH))
    .join('')}`
}

function print(name: string, times: Record<Variant, number>, withTarget: boolean): void {
  const byHand = times['hand-written filter']
  const columns = (Object.entries(times) as [Variant, number][]).map(([variant, ms]) => {
    const ratio = ms / byHand
    const { target } = VARIANTS[variant] as { target?: number }
    const missed = withTarget && target !== undefined && ratio > target ? ` MISSED ${target}` : ''
    return `${(ms * 1000).toFixed(1)}${variant === 'hand-written filter' ? '' : ` x ${ratio.toFixed(2)}${missed}`}`
  })
  console.log(`${name.padEnd(NAME_WIDTH)}${columns.map((column) => column.padStart(WIDTH)).join('')}`)
}
