import * as z from 'zod'
import type { EmbeddingSearch, SearchStrategy, TextSearch } from './document-types.ts'
import { parse } from './parse-documents.ts'
import { storableJson } from './parse-text.ts'

/** A search that is ready to be sent but for its embedding. */
export interface ParsedSearch {
  readonly embedding: unknown
  readonly text: string | undefined
  readonly limit: number
  /** As JSON. */
  readonly filter: string | null
  readonly minScore: number | null
  readonly strategy: SearchStrategy
}

const search = z.strictObject({
  embedding: z.unknown().optional(),
  text: z.string('is not a string').min(1, 'is empty').optional(),
  limit: z.int('is not a whole number').min(1, 'is less than 1').max(1000, 'is more than 1000').default(10),
  filter: storableJson().optional(),
  minScore: z.number('is not a finite number').optional(),
  strategy: z.enum(['auto', 'exact', 'index'], 'is not auto, exact or index').default('auto'),
})

/** Checks a search before anything is sent. */
export function parseSearch(query: EmbeddingSearch | TextSearch): ParsedSearch {
  const {
    embedding,
    text,
    limit,
    filter = null,
    minScore = null,
    strategy,
  } = parse(search, query, 'invalid_argument', 'The search')
  return { embedding, text, limit, filter, minScore, strategy }
}

const filterOnly = z.strictObject({ filter: storableJson().optional() })

/** Checks the options of a count. */
export function parseCount(options: { readonly filter?: unknown }): string | null {
  return parse(filterOnly, options, 'invalid_argument', 'The count').filter ?? null
}
