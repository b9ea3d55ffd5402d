import { loadavg } from 'node:os'
import pg from 'pg'
import type { Rowhouse, SearchStrategy } from '../../src/index.ts'
import type { BenchContext } from './run.ts'
import {
  COLLECTION,
  createGroup,
  loadCollection,
  loadShared,
  openRowhouse,
  SHARED_TABLE,
  timed,
} from './vectors-load-support.ts'
import { createQueries, measure, NEIGHBOURS, print, type Variant } from './vectors-measure-support.ts'

/** As everybody does who searches vectors: the indexes of both ways stay in memory. */
export const settings = { shared_buffers: '2GB' }

const QUERIES = 400
const ROUNDS = 20

/**
 * What a search finds and what it costs. `npm run bench -- vectors`: beside one index for all tenants with a condition
 * on the tenant. `npm run bench -- vectors crossover`: the exact search beside the index, for tenants of several sizes.
 */
export default async function benchVectors(context: BenchContext): Promise<void> {
  const rowhouse = openRowhouse(context.urls)
  await (context.args[0] === 'crossover' ? benchCrossover : benchTenants)(context, rowhouse)
  console.log(`\nload of the machine: ${loadavg()[0]!.toFixed(1)}; latencies compare when nothing else runs`)
  await rowhouse.close()
}

async function benchTenants({ urls }: BenchContext, rowhouse: Rowhouse): Promise<void> {
  const small = createGroup('small', { count: 100, documents: 2000, queries: QUERIES, topics: 'few', first: 0 })
  const middle = createGroup('middle', { count: 1, documents: 20_000, queries: QUERIES, topics: 'all', first: 100 })
  const large = createGroup('large', { count: 1, documents: 100_000, queries: QUERIES, topics: 'all', first: 101 })
  const groups = [small, middle, large]
  const queries = await timed('find the true neighbours by brute force', async () => createQueries(groups, QUERIES))
  await loadCollection(
    rowhouse,
    urls,
    groups,
    large.tenants.map(({ id }) => id),
  )
  await loadShared(urls, groups)

  const filtered = await openClient(urls)
  const iterative = await openClient(urls)
  // The setting is known once the library of the extension is loaded.
  await iterative.query(`select '[1]'::vector; set hnsw.iterative_scan = relaxed_order`)
  const compared = (group: string): Variant[] => [
    { name: 'one index, tenant filter', group, run: byOneIndex(filtered) },
    { name: 'one index, tenant filter, iterative', group, run: byOneIndex(iterative) },
  ]
  const variants: Variant[] = [
    { name: 'rowhouse', group: 'small', run: byRowhouse(rowhouse), target: { recall: 0.99 } },
    { name: 'rowhouse, by the index', group: 'small', run: byRowhouse(rowhouse, 'index') },
    ...compared('small'),
    { name: 'rowhouse', group: 'middle', run: byRowhouse(rowhouse) },
    { name: 'rowhouse, exactly', group: 'middle', run: byRowhouse(rowhouse, 'exact'), every: 2 },
    ...compared('middle'),
    { name: 'rowhouse', group: 'large', run: byRowhouse(rowhouse), target: { recall: 0.95, p95Ms: 10 } },
    { name: 'rowhouse, exactly', group: 'large', run: byRowhouse(rowhouse, 'exact'), every: 4 },
    ...compared('large'),
  ]
  print(await measure(variants, queries, ROUNDS))
  await Promise.all([filtered.end(), iterative.end()])
}

async function benchCrossover({ urls }: BenchContext, rowhouse: Rowhouse): Promise<void> {
  const groups = [1000, 2000, 5000, 10_000, 20_000, 40_000].map((documents, first) =>
    createGroup(`${documents}`, { count: 1, documents, queries: QUERIES, topics: 'all', first }),
  )
  const queries = createQueries(groups, QUERIES)
  await loadCollection(rowhouse, urls, groups)
  const [collection] = await rowhouse.collections.list()
  console.log(`\nsearched exactly: tenants with up to ${collection!.exactLimit} documents`)
  const variants = groups.flatMap(({ name }): Variant[] => [
    { name: 'exactly', group: name, run: byRowhouse(rowhouse, 'exact') },
    { name: 'by the index of its partition', group: name, run: byRowhouse(rowhouse, 'index') },
  ])
  print(await measure(variants, queries, ROUNDS))
}

function byRowhouse(rowhouse: Rowhouse, strategy?: SearchStrategy): Variant['run'] {
  return async ({ tenantId, embedding }) => {
    const documents = rowhouse.tenant(tenantId).documents(COLLECTION)
    const hits = await documents.search({ embedding, limit: NEIGHBOURS, strategy })
    return { ids: hits.map(({ id }) => id), strategy: hits[0]?.strategy ?? 'nothing' }
  }
}

function byOneIndex(client: pg.Client): Variant['run'] {
  return async ({ tenantId, embedding }) => {
    const { rows } = await client.query<{ document_id: string }>(
      `select document_id, content, 1 - (embedding <=> $2) as score from ${SHARED_TABLE}
        where tenant_id = $1 order by embedding <=> $2 limit ${NEIGHBOURS}`,
      [tenantId, JSON.stringify(embedding)],
    )
    return { ids: rows.map((row) => row.document_id), strategy: 'shared table' }
  }
}

async function openClient(urls: BenchContext['urls']): Promise<pg.Client> {
  const client = new pg.Client(urls.app)
  await client.connect()
  await client.query('set role rowhouse_app')
  return client
}
