import * as z from 'zod'
import { createRowhouseError } from '../errors.ts'
import type { EmbeddingSearch, SearchMode, SearchStrategy, TextSearch } from './document-types.ts'
import type { Filter } from './filter.ts'
import { parse } from './parse-documents.ts'
import { parseFilter } from './parse-filter.ts'
import { storableText } from './parse-text.ts'

/** A search that is ready to be sent but for its embedding. */
export interface ParsedSearch {
  readonly embedding: unknown
  readonly text: string | undefined
  readonly mode: SearchMode
  readonly limit: number
  /** As JSON. */
  readonly filter: string | null
  readonly minScore: number | null
  readonly strategy: SearchStrategy
  readonly match: 'all' | 'any'
  readonly vectorWeight: number
  readonly textWeight: number
  readonly rankConstant: number
  readonly candidates: number | null
  readonly diversity: number | null
}

const count = (minimum: number, maximum: number) =>
  z.int('is not a whole number').min(minimum, `is less than ${minimum}`).max(maximum, `is more than ${maximum}`)
const part = (maximum: number) =>
  z.number('is not a finite number').min(0, 'is less than 0').max(maximum, `is more than ${maximum}`)

const search = z.strictObject({
  embedding: z.unknown().optional(),
  text: storableText(10_000).optional(),
  mode: z.enum(['vector', 'text', 'hybrid'], 'is not vector, text or hybrid').default('vector'),
  limit: count(1, 1000).default(10),
  filter: z.custom<Filter>().optional(),
  minScore: z.number('is not a finite number').optional(),
  strategy: z.enum(['auto', 'exact', 'index'], 'is not auto, exact or index').default('auto'),
  match: z.enum(['all', 'any'], 'is not all or any').default('all'),
  weights: z.strictObject({ vector: part(1000).default(1), text: part(1000).default(1) }).optional(),
  rankConstant: count(1, 10_000).default(60),
  candidates: count(1, 1000).optional(),
  diversity: part(1).optional(),
})

/** Checks a search before anything is sent. */
export function parseSearch(query: EmbeddingSearch | TextSearch): ParsedSearch {
  const { filter, minScore, weights, candidates, diversity, ...rest } = parse(
    search,
    query,
    'invalid_argument',
    'The search',
  )
  if (rest.mode !== 'vector' && rest.text === undefined) {
    throw createRowhouseError('invalid_argument', `The search: mode ${rest.mode} needs a text.`)
  }
  const { vector: vectorWeight, text: textWeight } = weights ?? { vector: 1, text: 1 }
  if (vectorWeight + textWeight === 0) throw createRowhouseError('invalid_argument', 'The search: both weights are 0.')
  if (diversity !== undefined && diversity > 0 && rest.limit > 200) {
    throw createRowhouseError('invalid_argument', 'The search: a diverse search finds at most 200 documents.')
  }
  return {
    ...rest,
    embedding: rest.embedding,
    text: rest.text,
    filter: filter === undefined ? null : parseFilter(filter),
    minScore: minScore ?? null,
    vectorWeight,
    textWeight,
    candidates: candidates ?? null,
    diversity: diversity ?? null,
  }
}

const filterOnly = z.strictObject({ filter: z.custom<Filter>().optional() })

/** Checks the options of a count. */
export function parseCount(options: { readonly filter?: unknown }): string | null {
  const { filter } = parse(filterOnly, options, 'invalid_argument', 'The count')
  return filter === undefined ? null : parseFilter(filter)
}
