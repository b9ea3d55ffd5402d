import type pg from 'pg'
import type { ErasureReceipt } from '../../src/index.ts'
import { withClient } from '../setup/connection.ts'
import { createTables, deleteByHand, TABLES, type TenantSize } from './erase-data-support.ts'
import type { BenchContext } from './run.ts'

const SMALL = 40_000
const LARGE = 240_000
/** 1,000,000 rows. */
const TENANTS: readonly TenantSize[] = [
  ...Array.from({ length: 19 }, (_, index) => ({ tenantId: `small_${index + 1}`, rows: SMALL })),
  { tenantId: 'large', rows: LARGE },
]
const ROUNDS = 3

interface Measured {
  readonly rows: number
  readonly ms: number
}

/**
 * Erasing a tenant of 20 that share 1,000,000 rows in 10 tables with foreign keys: in the shared partitions, and
 * promoted, each beside the deletes that one writes by hand over tables without partitions, policies or checks.
 */
export default async function benchErase({ urls }: BenchContext): Promise<void> {
  await withClient(urls.owner!, async (client) => {
    await prepare(client)
    const results: Record<string, Measured[]> = {}
    const measure = async (name: string, work: () => Promise<number>) => {
      const begun = performance.now()
      const rows = await work()
      results[name] = [...(results[name] ?? []), { rows, ms: performance.now() - begun }]
    }
    // In turns, so that a slow moment of the machine hits both.
    for (let round = 1; round <= ROUNDS; round++) {
      await client.query('checkpoint').catch(() => {})
      await measure('by hand, small tenant', () => deleteByHand(client, 'plain', `small_${round}`))
      await measure('erase_tenant, shared partitions', () => erase(client, `small_${round}`))
    }
    await measure('by hand, large tenant', () => deleteByHand(client, 'plain', 'large'))
    await measure('promote_tenant, large tenant', async () => {
      const { rows } = await client.query("select rowhouse.promote_tenant('large') -> 'tables' as tables")
      return Object.values<number>(rows[0].tables).reduce((sum, count) => sum + count, 0)
    })
    await measure('erase_tenant, promoted', () => erase(client, 'large'))
    print(results)
  })
}

async function prepare(client: pg.ClientBase): Promise<void> {
  for (const { tenantId } of TENANTS) await client.query('select rowhouse.provision_tenant($1)', [tenantId])
  await createTables(client, 'plain', TENANTS)
  await createTables(client, 'tenants', TENANTS)
  for (const table of TABLES) {
    await client.query('select rowhouse.protect_table($1::regclass, p_partition => true)', [`tenants.${table}`])
    // Not a tenant table for rowhouse: it is what is compared with.
    await client.query("select rowhouse.exempt_table($1::regclass, 'baseline')", [`plain.${table}`])
  }
  await client.query('vacuum analyze')
}

async function erase(client: pg.ClientBase, tenantId: string): Promise<number> {
  const { rows } = await client.query<{ receipt: ErasureReceipt }>('select rowhouse.erase_tenant($1) as receipt', [
    tenantId,
  ])
  return rows[0]!.receipt.rows
}

const BASELINES: Readonly<Record<string, string>> = {
  'erase_tenant, shared partitions': 'by hand, small tenant',
  'erase_tenant, promoted': 'by hand, large tenant',
}

function print(results: Record<string, Measured[]>): void {
  const median = (name: string) =>
    results[name]!.toSorted((a, b) => a.ms - b.ms)[Math.floor(results[name]!.length / 2)]!
  const perSecond = ({ rows, ms }: Measured) => (rows / ms) * 1000
  console.log(
    `${'1,000,000 rows, 10 tables, 20 tenants'.padEnd(40)}${['rows', 'ms', 'rows/s', 'baseline'].map((c) => c.padStart(12)).join('')}`,
  )
  for (const name of Object.keys(results)) {
    const measured = median(name)
    const baseline = BASELINES[name]
    const columns = [
      measured.rows.toLocaleString('en'),
      measured.ms.toFixed(0),
      Math.round(perSecond(measured)).toLocaleString('en'),
      baseline === undefined ? '' : `x ${(perSecond(measured) / perSecond(median(baseline))).toFixed(2)}`,
    ]
    console.log(`${name.padEnd(40)}${columns.map((column) => column.padStart(12)).join('')}`)
  }
  console.log('\nbaseline: rows per second over those of the deletes by hand. ms: median of the rounds.')
}
