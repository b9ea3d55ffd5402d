import type pg from 'pg'
import { createRowhouse, type Rowhouse } from '../../src/index.ts'
import { withClient } from '../setup/connection.ts'
import type { BenchContext } from './run.ts'
import { createVectors, DIMENSIONS, toArray } from './vectors-data-support.ts'

/** A tenant, its vectors, and what is searched for. */
export interface BenchTenant {
  readonly id: string
  readonly vectors: Float32Array
  readonly queries: Float32Array
}

/** Tenants with equally many documents. */
export interface TenantGroup {
  readonly name: string
  readonly documents: number
  readonly tenants: readonly BenchTenant[]
}

export const COLLECTION = 'bench'
/** The table that is measured beside the collection: all tenants in one index. */
export const SHARED_TABLE = 'shared_documents'
/** For building indexes; one that doesn't fit takes many times longer. */
const MEMORY = '512MB'
const BATCH = 5000

/** Tenants that write about a few topics each, or about all; `first` numbers them, so that no two are the same. */
export function createGroup(
  name: string,
  {
    count,
    documents,
    queries,
    topics,
    first,
  }: Readonly<Record<'count' | 'documents' | 'queries' | 'first', number>> & {
    readonly topics: 'few' | 'all'
  },
): TenantGroup {
  const tenants = Array.from({ length: count }, (_, index) => {
    const number = first + index
    return {
      id: `tenant-${number}`,
      vectors: createVectors(number, topics, 1_000_000 + number, documents),
      queries: createVectors(number, topics, 2_000_000 + number, Math.ceil(queries / count)),
    }
  })
  return { name, documents, tenants }
}

/** Says how long something took, when it is done. */
export async function timed<T>(what: string, work: () => Promise<T>): Promise<T> {
  const begun = performance.now()
  const result = await work()
  console.log(`${what.padEnd(66)}${((performance.now() - begun) / 1000).toFixed(1).padStart(8)} s`)
  return result
}

export function openRowhouse(urls: BenchContext['urls']): Rowhouse {
  return createRowhouse({
    connectionString: urls.app!,
    poolOptions: { max: 2 },
    // Promotion builds indexes too.
    admin: {
      connectionString: urls.operator!,
      poolOptions: { max: 1, options: `-c maintenance_work_mem=${MEMORY}` },
    },
  })
}

/** Writes the documents of all tenants through the public API, promotes some tenants, and builds the index. */
export async function loadCollection(
  rowhouse: Rowhouse,
  urls: BenchContext['urls'],
  groups: readonly TenantGroup[],
  promoted: readonly string[] = [],
): Promise<void> {
  await rowhouse.collections.create(COLLECTION, { dimensions: DIMENSIONS, index: false })
  for (const { name, documents, tenants } of groups) {
    for (const { id } of tenants) await rowhouse.tenants.provision(id)
    await timed(`write ${name}: ${tenants.length} x ${documents}, by documents().upsert()`, async () => {
      const pending = tenants.values()
      // Two writers, each takes the next tenant.
      await Promise.all([1, 2].map(() => writeTenants(rowhouse, pending, documents)))
    })
  }
  for (const id of promoted) {
    await timed(`promote ${id}, by tenants.promote()`, () => rowhouse.tenants.promote(id))
  }
  await timed('index the collection, by collections.index()', () =>
    rowhouse.collections.index(COLLECTION, { maintenanceWorkMem: MEMORY }),
  )
  // What autovacuum does in its time.
  await withClient(urls.owner!, async (owner) => {
    await owner.query('set role rowhouse_owner')
    await owner.query(`vacuum (analyze) rowhouse.documents_${COLLECTION}`)
  })
}

async function writeTenants(rowhouse: Rowhouse, pending: Iterable<BenchTenant>, documents: number): Promise<void> {
  for (const { id, vectors } of pending) {
    for (let first = 0; first < documents; first += BATCH) {
      const rows = Array.from({ length: Math.min(BATCH, documents - first) }, (_, index) => first + index)
      await rowhouse
        .tenant(id)
        .documents(COLLECTION)
        .upsert(rows.map((row) => ({ id: `${row}`, content: `document ${row}`, embedding: toArray(vectors, row) })))
    }
  }
}

/** What is usual: one table, one index, a condition on the tenant. It is spared row-level security. */
export async function loadShared(urls: BenchContext['urls'], groups: readonly TenantGroup[]): Promise<void> {
  await withClient(urls.owner!, async (owner) => {
    await timed('copy everything into one shared table', async () => {
      await createSharedTable(owner)
      await withClient(urls.app!, async (app) => {
        for (const { id } of groups.flatMap(({ tenants }) => tenants)) {
          await app.query(`begin; set local role rowhouse_app; set local app.tenant_id = '${id}';
            insert into ${SHARED_TABLE} select tenant_id, document_id, content, embedding
              from rowhouse.documents_${COLLECTION} where tenant_id = '${id}';
            commit`)
        }
      })
    })
    await timed('index the shared table', async () => {
      await owner.query(`set maintenance_work_mem = '${MEMORY}'`)
      await owner.query(`create index on ${SHARED_TABLE} using hnsw (embedding vector_cosine_ops)`)
      await owner.query(`vacuum (analyze) ${SHARED_TABLE}`)
    })
  })
}

async function createSharedTable(owner: pg.Client): Promise<void> {
  await owner.query(`
    create table ${SHARED_TABLE} (tenant_id text not null, document_id text not null, content text not null,
      embedding vector(${DIMENSIONS}) not null, primary key (tenant_id, document_id));
    grant select, insert on ${SHARED_TABLE} to rowhouse_app`)
}
