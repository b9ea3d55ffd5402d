import pg from 'pg'
import { createRowhouse, type Rowhouse } from '../../src/index.ts'
import { withClient } from '../setup/connection.ts'
import type { BenchContext } from './run.ts'
import { createVectors, DIMENSIONS, toArray } from './vectors-data-support.ts'
import { timed } from './vectors-load-support.ts'

/** A tenant whose searches are measured, among others in each collection. */
export interface MeasuredTenant {
  readonly id: string
  readonly group: string
  readonly chunks: number
  readonly vectors: Float32Array
  readonly queries: Float32Array
}

/** A collection of as many chunks as the others, by another number of tenants. */
export interface Layout {
  readonly collection: string
  /** Tenants beside the measured ones. */
  readonly others: number
}

/** For building indexes; one that doesn't fit takes many times longer. */
const MEMORY = '512MB'
const BATCH = 5000
const VOCABULARY = 20_000
const WORDS = 60
/** The plain table that is measured beside the collections. */
export const PLAIN_TABLE = 'plain_chunks'

/** The text of a chunk: some words often, most seldom, as in texts. The same in every run. */
export function createText(tenant: number, row: number): string {
  let state = (tenant * 1_000_003 + row * 7919 + 1) >>> 0
  const words: string[] = []
  for (let index = 0; index < WORDS; index++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    words.push(`term${Math.floor((state / 2 ** 32) ** 3 * VOCABULARY)}`)
  }
  return words.join(' ')
}

export function createMeasured(queries: number, scale: number): MeasuredTenant[] {
  const sizes = [
    ...Array.from({ length: 5 }, () => ({ group: 'small', chunks: 1000 / scale })),
    { group: 'middle', chunks: 20_000 / scale },
    { group: 'large', chunks: 75_000 / scale },
  ]
  return sizes.map(({ group, chunks }, number) => ({
    id: `measured-${number}`,
    group,
    chunks,
    vectors: createVectors(number, group === 'small' ? 'few' : 'all', 1_000_000 + number, chunks),
    queries: createVectors(number, group === 'small' ? 'few' : 'all', 2_000_000 + number, queries),
  }))
}

export function openRowhouse(urls: BenchContext['urls']): Rowhouse {
  return createRowhouse({
    connectionString: urls.app!,
    poolOptions: { max: 2 },
    admin: { connectionString: urls.operator!, poolOptions: { max: 1, options: `-c maintenance_work_mem=${MEMORY}` } },
  })
}

/** Fills the collections with `total` chunks each, promotes the largest tenant, and builds the indexes. */
export async function loadLayouts(
  rowhouse: Rowhouse,
  urls: BenchContext['urls'],
  layouts: readonly Layout[],
  measured: readonly MeasuredTenant[],
  total: number,
): Promise<void> {
  const most = Math.max(...layouts.map(({ others }) => others))
  await timed(`provision ${most + measured.length} tenants`, async () => {
    for (const { id } of measured) await rowhouse.tenants.provision(id)
    for (let other = 0; other < most; other++) await rowhouse.tenants.provision(`other-${other}`)
  })
  const rest = total - measured.reduce((sum, { chunks }) => sum + chunks, 0)
  for (const { collection, others } of layouts) {
    await rowhouse.collections.create(collection, { dimensions: DIMENSIONS, index: false })
    const each = Math.floor(rest / others)
    const vectors = createVectors(99, 'all', 3_000_000, each * others)
    await timed(`write ${collection}: ${total} chunks of ${others + measured.length} tenants`, async () => {
      for (const [number, tenant] of measured.entries()) {
        await write(rowhouse, collection, tenant.id, number, tenant.vectors, 0, tenant.chunks)
      }
      const pending = Array.from({ length: others }, (_, other) => other).values()
      const work = async () => {
        for (const other of pending) {
          await write(rowhouse, collection, `other-${other}`, 100 + other, vectors, other * each, each)
        }
      }
      await Promise.all([work(), work()])
    })
  }
  const large = measured.at(-1)!.id
  await timed(`promote ${large}`, () => rowhouse.tenants.promote(large))
  for (const { collection } of layouts) {
    await timed(`index ${collection}`, () => rowhouse.collections.index(collection, { maintenanceWorkMem: MEMORY }))
    await withClient(urls.owner!, async (owner) => {
      await owner.query('set role rowhouse_owner')
      await owner.query(`vacuum (analyze) rowhouse.documents_${collection}`)
    })
  }
}

async function write(
  rowhouse: Rowhouse,
  collection: string,
  tenantId: string,
  number: number,
  vectors: Float32Array,
  offset: number,
  count: number,
): Promise<void> {
  for (let first = 0; first < count; first += BATCH) {
    const rows = Array.from({ length: Math.min(BATCH, count - first) }, (_, index) => first + index)
    await rowhouse
      .tenant(tenantId)
      .documents(collection)
      .upsert(
        rows.map((row) => ({
          id: `${row}`,
          content: createText(number, row),
          embedding: toArray(vectors, offset + row),
        })),
      )
  }
}

/** What one writes by hand: one table, one index of each kind, a condition on the tenant, no row-level security. */
export async function loadPlain(urls: BenchContext['urls'], collection: string, tenantIds: readonly string[]) {
  await withClient(urls.owner!, async (owner) => {
    await timed('copy everything into one plain table', async () => {
      await owner.query(`create table ${PLAIN_TABLE} (tenant_id text not null, document_id text not null,
        content text not null, embedding vector(${DIMENSIONS}) not null,
        words tsvector generated always as (to_tsvector('english', content)) stored, primary key (tenant_id, document_id));
        grant select, insert on ${PLAIN_TABLE} to rowhouse_app`)
      await withClient(urls.app!, async (app) => {
        for (const id of tenantIds) {
          await app.query(`begin; set local role rowhouse_app; set local app.tenant_id = ${pg.escapeLiteral(id)};
            insert into ${PLAIN_TABLE} (tenant_id, document_id, content, embedding)
              select tenant_id, document_id, content, embedding from rowhouse.documents_${collection} where tenant_id = ${pg.escapeLiteral(id)};
            commit`)
        }
      })
    })
    await timed('index the plain table', async () => {
      await owner.query(`set maintenance_work_mem = '${MEMORY}'`)
      await owner.query(`create index on ${PLAIN_TABLE} using hnsw (embedding vector_cosine_ops)`)
      await owner.query(`create index on ${PLAIN_TABLE} using gin (words) with (fastupdate = off)`)
      await owner.query(`vacuum (analyze) ${PLAIN_TABLE}`)
    })
  })
}
