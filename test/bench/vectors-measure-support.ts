import { percentile } from './percentile-support.ts'
import { DIMENSIONS, toArray } from './vectors-data-support.ts'
import type { BenchTenant, TenantGroup } from './vectors-load-support.ts'

/** Neighbours asked for. */
export const NEIGHBOURS = 10

/** One question to one tenant, with the true answer. */
export interface Query {
  readonly tenantId: string
  readonly embedding: number[]
  /** Ids of the true neighbours. */
  readonly truth: ReadonlySet<string>
}

/** A way to search. */
export interface Variant {
  readonly name: string
  /** Whose tenants it asks. */
  readonly group: string
  /** Ids of what it found, and in which way. */
  readonly run: (query: Query) => Promise<{ ids: string[]; strategy: string }>
  readonly target?: { readonly recall: number; readonly p95Ms?: number }
  /** Takes part in every so manieth query only: slow, and beside the point. */
  readonly every?: number
}

/** What was measured of a variant. */
export interface Measurement {
  readonly variant: Variant
  readonly recall: number
  readonly p50: number
  readonly p95: number
  readonly samples: number
  readonly strategies: readonly string[]
}

/** For each group, questions to its tenants in turns, and the true answers by brute force. */
export function createQueries(groups: readonly TenantGroup[], count: number): Map<string, readonly Query[]> {
  return new Map(
    groups.map((group) => [group.name, Array.from({ length: count }, (_, number) => createQuery(group, number))]),
  )
}

function createQuery({ tenants, documents }: TenantGroup, number: number): Query {
  const tenant = tenants[number % tenants.length]!
  const embedding = toArray(tenant.queries, Math.floor(number / tenants.length))
  return { tenantId: tenant.id, embedding, truth: findNeighbours(tenant, documents, embedding) }
}

function findNeighbours({ vectors }: BenchTenant, documents: number, query: readonly number[]): Set<string> {
  const best: { row: number; similarity: number }[] = []
  for (let row = 0; row < documents; row++) {
    let product = 0
    let squares = 0
    for (let index = 0, at = row * DIMENSIONS; index < DIMENSIONS; index++, at++) {
      product += query[index]! * vectors[at]!
      squares += vectors[at]! * vectors[at]!
    }
    const similarity = product / Math.sqrt(squares)
    if (best.length === NEIGHBOURS && similarity <= best.at(-1)!.similarity) continue
    best.push({ row, similarity })
    best.sort((one, other) => other.similarity - one.similarity)
    best.length = Math.min(best.length, NEIGHBOURS)
  }
  return new Set(best.map(({ row }) => `${row}`))
}

/** All variants in turns, a few queries each, so that a slow moment of the machine hits all of them. */
export async function measure(
  variants: readonly Variant[],
  queries: ReadonlyMap<string, readonly Query[]>,
  rounds: number,
): Promise<Measurement[]> {
  const taken = variants.map((variant) => ({ variant, times: [] as number[], found: 0, strategies: new Set<string>() }))
  for (let round = -1; round < rounds; round++) {
    for (const state of taken) {
      const all = queries.get(state.variant.group)!.filter((_, index) => index % (state.variant.every ?? 1) === 0)
      const size = Math.ceil(all.length / rounds)
      // The round before the first connects, and lets code and caches warm up.
      const slice = round < 0 ? all.slice(0, size) : all.slice(round * size, (round + 1) * size)
      for (const query of slice) {
        const begun = performance.now()
        const { ids, strategy } = await state.variant.run(query)
        const elapsed = performance.now() - begun
        if (round < 0) continue
        state.times.push(elapsed)
        state.found += ids.filter((id) => query.truth.has(id)).length
        state.strategies.add(strategy)
      }
    }
    if (round >= 0 && (round + 1) % 5 === 0) console.log(`round ${round + 1} of ${rounds}`)
  }
  return taken.map(({ variant, times, found, strategies }) => ({
    variant,
    recall: found / (times.length * NEIGHBOURS),
    p50: percentile(times, 0.5),
    p95: percentile(times, 0.95),
    samples: times.length,
    strategies: [...strategies].sort(),
  }))
}

/** Prints a line for each variant, and what it missed. */
export function print(measurements: readonly Measurement[]): void {
  console.log(
    `\n${'tenant'.padEnd(8)}${'variant'.padEnd(38)}recall@10   p50 ms   p95 ms  samples  target, and how it was found`,
  )
  for (const { variant, recall, p50, p95, samples, strategies } of measurements) {
    const { target } = variant
    const missed =
      target !== undefined && (recall < target.recall || (target.p95Ms !== undefined && p95 > target.p95Ms))
    const wanted =
      target && [`>= ${target.recall}`, target.p95Ms && `p95 <= ${target.p95Ms}`].filter(Boolean).join(', ')
    const columns = [recall.toFixed(3), p50.toFixed(2), p95.toFixed(2), `${samples}`]
    const notes = [wanted, missed && 'MISSED', `(${strategies.join(', ')})`].filter(Boolean)
    console.log(
      `${variant.group.padEnd(8)}${variant.name.padEnd(38)}${columns.map((column) => column.padStart(9)).join('')}  ${notes.join(' ')}`,
    )
  }
}
