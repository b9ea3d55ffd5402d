import { loadavg } from 'node:os'
import pg from 'pg'
import type { Rowhouse } from '../../src/index.ts'
import type { BenchContext } from './run.ts'
import {
  createMeasured,
  createText,
  type Layout,
  loadLayouts,
  loadPlain,
  type MeasuredTenant,
  openRowhouse,
  PLAIN_TABLE,
} from './search-data-support.ts'
import { toArray } from './vectors-data-support.ts'
import { measure, NEIGHBOURS, print, type Query, type Variant } from './vectors-measure-support.ts'

/** As everybody does who searches vectors: the indexes of both ways stay in memory. */
export const settings = { shared_buffers: '2GB' }

const TOTAL = 300_000
const QUERIES = 150
const ROUNDS = 15
const FEW: Layout = { collection: 'few', others: 10 }
const MANY: Layout = { collection: 'many', others: 10_000 }

interface HybridQuery extends Query {
  readonly text: string
}

/**
 * What a hybrid search costs. `npm run bench -- search`: by `documents().search()` in a collection of 300,000 chunks,
 * once of 17 tenants and once of 10,007, beside the SQL that one writes by hand for one table with a condition on the
 * tenant. `npm run bench -- search 10` has a tenth of the chunks and tenants.
 */
export default async function benchSearch({ urls, args }: BenchContext): Promise<void> {
  const scale = Number(args[0] ?? 1)
  const layouts = [FEW, { ...MANY, others: MANY.others / scale }]
  const measured = createMeasured(QUERIES, scale)
  const rowhouse = openRowhouse(urls)
  await loadLayouts(rowhouse, urls, layouts, measured, TOTAL / scale)
  const everybody = [...measured.map(({ id }) => id), ...Array.from({ length: FEW.others }, (_, n) => `other-${n}`)]
  await loadPlain(urls, FEW.collection, everybody)

  const client = new pg.Client(urls.app)
  await client.connect()
  // The setting is known once the library of the extension is loaded.
  await client.query(`set role rowhouse_app; select '[1]'::vector; set hnsw.iterative_scan = relaxed_order;
    set hnsw.ef_search = 100`)
  const groups = [...new Set(measured.map(({ group }) => group))]
  const queries = new Map<string, HybridQuery[]>()
  for (const group of groups) queries.set(group, await createQueries(client, measured, group))

  const variants = groups.flatMap((group): Variant[] => [
    { name: `hybrid, of ${FEW.others + measured.length} tenants`, group, run: byRowhouse(rowhouse, FEW, 'hybrid') },
    {
      name: `hybrid, of ${layouts[1]!.others + measured.length} tenants`,
      group,
      run: byRowhouse(rowhouse, MANY, 'hybrid'),
    },
    { name: 'hybrid, by hand', group, run: byHand(client, 'index') },
    { name: `words, of ${FEW.others + measured.length} tenants`, group, run: byRowhouse(rowhouse, FEW, 'text') },
    {
      name: `words, of ${layouts[1]!.others + measured.length} tenants`,
      group,
      run: byRowhouse(rowhouse, MANY, 'text'),
    },
  ])
  const measurements = await measure(variants, queries, ROUNDS)
  print(measurements)
  console.log('\nrecall@10: of the fusion of both lists without any index; of words, what they add to it')
  for (const group of groups) {
    const [few, many, hand, fewWords, manyWords] = measurements.filter(({ variant }) => variant.group === group)
    const ratio = (one: typeof few, other: typeof few) => (one!.p50 / other!.p50).toFixed(2)
    console.log(
      `${group.padEnd(8)}many tenants / few: hybrid ${ratio(many, few)}, words ${ratio(manyWords, fewWords)} (target <= 1.20); ` +
        `rowhouse / by hand: ${ratio(few, hand)}`,
    )
  }
  console.log(`\nload of the machine: ${loadavg()[0]!.toFixed(1)}; latencies compare when nothing else runs`)
  await client.end()
  await rowhouse.close()
}

/** Questions to the tenants of a group in turns: an embedding, and two words of one of their chunks. */
async function createQueries(client: pg.Client, measured: readonly MeasuredTenant[], group: string) {
  const tenants = measured.filter((tenant) => tenant.group === group)
  const queries: HybridQuery[] = []
  for (let number = 0; number < QUERIES; number++) {
    const tenant = tenants[number % tenants.length]!
    const words = createText(measured.indexOf(tenant), (number * 37) % tenant.chunks).split(' ')
    const query = {
      tenantId: tenant.id,
      embedding: toArray(tenant.queries, number),
      text: `${words[number % 20]} ${words[20 + (number % 20)]}`,
      truth: new Set<string>(),
    }
    queries.push({ ...query, truth: new Set((await byHand(client, 'exact')(query)).ids) })
  }
  return queries
}

function byRowhouse(rowhouse: Rowhouse, { collection }: Layout, mode: 'hybrid' | 'text'): Variant['run'] {
  return async (query) => {
    const { tenantId, embedding, text } = query as HybridQuery
    const hits = await rowhouse
      .tenant(tenantId)
      .documents(collection)
      .search({ mode, text, limit: NEIGHBOURS, ...(mode === 'hybrid' ? { embedding } : {}) })
    const found = hits[0] && [hits[0].strategy, hits[0].textStrategy].filter(Boolean).join(' + ')
    return { ids: hits.map(({ id }) => id), strategy: found ?? 'nothing' }
  }
}

/** `exact`: without an index of either kind, which is the truth. */
function byHand(client: pg.Client, way: 'index' | 'exact'): Variant['run'] {
  const distance = way === 'index' ? 'embedding <=> $2' : '(embedding <=> $2) + 0'
  const sql = `
    with nearest as materialized (
      select document_id, ${distance} as distance from ${PLAIN_TABLE} where tenant_id = $1 order by ${distance} limit 50
    ), matching as materialized (
      select document_id, ts_rank(words, websearch_to_tsquery('english', $3), 1) as rank from ${PLAIN_TABLE}
        where tenant_id = $1 and words @@ websearch_to_tsquery('english', $3) order by 2 desc, 1 limit 50
    ), fused as (
      select coalesce(v.document_id, w.document_id) as document_id,
          coalesce(1.0 / (60 + v.place), 0) + coalesce(1.0 / (60 + w.place), 0) as score
        from (select document_id, row_number() over (order by distance, document_id) as place from nearest) v
        full join (select document_id, row_number() over (order by rank desc, document_id) as place from matching) w
          on w.document_id = v.document_id
        order by score desc, 1 limit ${NEIGHBOURS}
    )
    select c.document_id, c.content, c.embedding <=> $2 as distance, f.score
      from fused f join ${PLAIN_TABLE} c on c.tenant_id = $1 and c.document_id = f.document_id order by f.score desc, 1`
  return async (query) => {
    const { tenantId, embedding, text } = query as HybridQuery
    const { rows } = await client.query<{ document_id: string }>(sql, [tenantId, JSON.stringify(embedding), text])
    return { ids: rows.map((row) => row.document_id), strategy: 'plain table' }
  }
}
