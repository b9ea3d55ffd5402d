import { CompiledQuery } from 'kysely'
import pg from 'pg'
import { createRowhouse, type Rowhouse } from '../../src/index.ts'
import { withClient } from '../setup/connection.ts'
import { median } from './percentile-support.ts'
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

const ROUNDS = 80
const STATEMENTS = 20

/**
 * What the policies cost in the server, beside the same filter written by hand on tables of the same layout: 16 hash
 * partitions and those of 100 promoted tenants. First whole transactions, as `withTenant` sends them, on both. Then the
 * statement alone, many of them in one message and one transaction, where nothing else counts.
 */
export default async function benchPolicies({ urls }: BenchContext): Promise<void> {
  await withClient(urls.owner!, prepare)
  const pool = new pg.Pool({ connectionString: urls.app!, max: 1 })
  const rowhouse = createRowhouse({ pool })
  const client = await pool.connect()
  const { clock, name } = await serverClock(client)
  client.release()
  console.log(`Time: ${name}\n`)
  for (const [kind, tenantId] of Object.entries(TENANTS)) {
    console.log(heading(`${kind}: µs a transaction of the client`))
    for (const [operationName, operation] of Object.entries(OPERATIONS)) {
      const run = (variant: Variant, round: number) => transactions(rowhouse, variant, { tenantId, operation, round })
      print(operationName, await measure(clock, run), true)
    }
    console.log()
  }
  await rowhouse.close()
  await pool.end()
  await withClient(urls.app!, async (alone) => {
    const { clock } = await serverClock(alone)
    for (const [kind, tenantId] of Object.entries(TENANTS)) {
      for (const prepared of [false, true]) {
        console.log(heading(`${kind}, ${prepared ? 'prepared' : 'unprepared'}: µs a statement alone`))
        for (const [operationName, operation] of Object.entries(OPERATIONS)) {
          if (prepared) await prepareStatements(alone, operation)
          const run = (variant: Variant, round: number) =>
            alone.query(messageOf(variant, { tenantId, operation, round, prepared }))
          print(operationName, await measure(clock, run), false)
        }
        console.log()
      }
    }
  })
}

const TENANTS = { 'shared partitions': 'shared_50', promoted: 'promoted_50' }

interface Work {
  readonly tenantId: string
  readonly operation: Operation
  readonly round: number
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

interface Result {
  /** Of one statement. */
  readonly ms: number
  /** To the filter by hand in the same round: what slows the machine down slows both. */
  readonly ratio: number
}

/** All variants in turns, and the medians of the rounds. */
async function measure(
  clock: Clock,
  run: (variant: Variant, round: number) => Promise<unknown>,
): Promise<Record<Variant, Result>> {
  const names = Object.keys(VARIANTS) as Variant[]
  const times = Object.fromEntries(names.map((name) => [name, [] as number[]])) as Record<Variant, number[]>
  const order = [...names]
  for (let round = 0; round <= ROUNDS; round++) {
    for (const name of order) {
      const begun = await clock()
      await run(name, round)
      // The first round warms up.
      if (round > 0) times[name].push(((await clock()) - begun) / STATEMENTS)
    }
    // Who comes first changes, so that nobody always runs after the same other one.
    order.push(order.shift()!)
  }
  const byHand = times['hand-written filter']
  const resultOf = (name: Variant): Result => ({
    ms: median(times[name]),
    ratio: median(times[name].map((time, round) => time / byHand[round]!)),
  })
  return Object.fromEntries(names.map((name) => [name, resultOf(name)])) as Record<Variant, Result>
}

async function transactions(rowhouse: Rowhouse, variant: Variant, work: Work): Promise<void> {
  const statement = statementOf(variant, work.operation)
  for (let index = 0; index < STATEMENTS; index++) {
    const number = numberOf(work, index)
    // The tenant is not a parameter of every statement.
    const values = statement.includes('$1') ? [work.tenantId, number] : [number]
    const text = statement.includes('$1') ? statement : statement.replaceAll('$2', '$1')
    await rowhouse.withTenant(work.tenantId, (db) => db.executeQuery(CompiledQuery.raw(text, values)))
  }
}

async function prepareStatements(client: pg.Client, operation: Operation): Promise<void> {
  await client.query('deallocate all')
  for (const [name, { table }] of Object.entries(VARIANTS)) {
    await client.query(`prepare ${table} (text, integer) as ${statementOf(name as Variant, operation)}`)
  }
}

function messageOf(variant: Variant, work: Work & { readonly prepared: boolean }): string {
  const { tenantId, operation, prepared } = work
  const statements = Array.from({ length: STATEMENTS }, (_, index) =>
    prepared
      ? `execute ${VARIANTS[variant].table} ('${tenantId}', ${numberOf(work, index)})`
      : statementOf(variant, operation)
          .replaceAll('$1', `'${tenantId}'`)
          .replaceAll('$2', String(numberOf(work, index))),
  )
  return `begin; set local role rowhouse_app; set local app.tenant_id = '${tenantId}'; ${statements.join('; ')}; rollback`
}

function statementOf(variant: Variant, operation: Operation): string {
  const { table, predicate } = VARIANTS[variant]
  return operation(table, predicate ? 'tenant_id = $1 and ' : '')
}

/** Rows that were inserted get a number of their own. */
let inserted = ROWS

function numberOf({ operation, round }: Work, index: number): number {
  return operation === OPERATIONS.insert ? ++inserted : 1 + ((round * STATEMENTS + index * 37) % (ROWS - 100))
}

const NAME_WIDTH = 14
const WIDTH = 32

function heading(title: string): string {
  return `${title}, and the ratio to the filter by hand\n${' '.repeat(NAME_WIDTH)}${Object.keys(VARIANTS)
    .map((name) => name.padStart(WIDTH))
    .join('')}`
}

function print(name: string, results: Record<Variant, Result>, withTarget: boolean): void {
  const columns = (Object.entries(results) as [Variant, Result][]).map(([variant, { ms, ratio }]) => {
    const { target } = VARIANTS[variant] as { target?: number }
    const missed = withTarget && target !== undefined && ratio > target ? ` MISSED ${target}` : ''
    return `${(ms * 1000).toFixed(1)}${variant === 'hand-written filter' ? '' : ` x ${ratio.toFixed(2)}${missed}`}`
  })
  console.log(`${name.padEnd(NAME_WIDTH)}${columns.map((column) => column.padStart(WIDTH)).join('')}`)
}
