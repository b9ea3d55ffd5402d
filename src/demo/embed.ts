import type { EmbedFunction } from '../documents/embed.ts'
import { createRowhouseError } from '../errors.ts'
import { countTerms, isPair } from './terms.ts'

export interface HashingEmbedderOptions {
  /** Length of an embedding. Default 256. */
  readonly dimensions?: number
  /** Another seed places the terms in other dimensions. Embeddings of different seeds can't be compared. Default 1. */
  readonly seed?: number
}

/** A term is spread over this many dimensions, so that one collision of two terms weighs little. */
const DIMENSIONS_PER_TERM = 8

/** A pair of words counts as a term when the corpus has it in this many texts; rarer ones only add noise. */
const MINIMUM_TEXTS_OF_PAIR = 8

/**
 * An embedder that needs no network and no model: texts that share rare words and pairs of words come out close.
 *
 * Signed feature hashing: every term adds or subtracts its weight in a few dimensions chosen by its hash. The weight is
 * `(1 + ln count) * ln((texts + 1) / (texts with the term + 0.5))`, and the result has length 1. The same corpus, text
 * and seed always give the same embedding. It knows no synonyms; a real model takes its place by being an
 * {@link EmbedFunction}.
 *
 * @param corpus Texts of the same kind as those to be embedded, from which the weights of the terms are learned. In a
 *   multi-tenant system: public ones, never the texts of a tenant.
 * @example
 * ```ts
 * const embed = createHashingEmbedder(publicTexts)
 * const [query] = await embed(['unemployment insurance'])
 * ```
 */
export function createHashingEmbedder(corpus: readonly string[], options: HashingEmbedderOptions = {}): EmbedFunction {
  const { dimensions = 256, seed = 1 } = options
  if (!Number.isInteger(dimensions) || dimensions < DIMENSIONS_PER_TERM) {
    throw createRowhouseError(
      'invalid_argument',
      `An embedding needs a whole number of at least ${DIMENSIONS_PER_TERM} dimensions, not ${dimensions}.`,
    )
  }
  const textsWithTerm = countTextsPerTerm(corpus)

  function weigh(term: string, count: number): number {
    const texts = textsWithTerm.get(term) ?? 0
    if (isPair(term) && texts < MINIMUM_TEXTS_OF_PAIR) return 0
    return (1 + Math.log(count)) * Math.log((corpus.length + 1) / (texts + 0.5))
  }

  function embedText(text: string): number[] {
    const sums = new Array<number>(dimensions).fill(0)
    for (const [term, count] of countTerms(text)) {
      const weight = weigh(term, count)
      if (weight <= 0) continue
      for (let index = 0; index < DIMENSIONS_PER_TERM; index++) {
        const hash = hashTerm(term, seed * DIMENSIONS_PER_TERM + index)
        sums[hash % dimensions]! += hash >>> 31 === 0 ? weight : -weight
      }
    }
    const length = Math.hypot(...sums)
    // A text without any term has no direction; a fixed one keeps the cosine distance defined.
    if (length === 0) sums[0] = 1
    return sums.map((sum) => sum / (length || 1))
  }

  return async (texts) => texts.map(embedText)
}

function countTextsPerTerm(corpus: readonly string[]): Map<string, number> {
  const textsWithTerm = new Map<string, number>()
  for (const text of corpus) {
    for (const term of countTerms(text).keys()) textsWithTerm.set(term, (textsWithTerm.get(term) ?? 0) + 1)
  }
  return textsWithTerm
}

/** FNV-1a over the UTF-16 units, then the finalizer of MurmurHash3, which makes every bit depend on every unit. */
function hashTerm(term: string, seed: number): number {
  let hash = 0x811c9dc5 ^ Math.imul(seed, 0x9e3779b9)
  for (let index = 0; index < term.length; index++) {
    hash = Math.imul(hash ^ term.charCodeAt(index), 0x01000193)
  }
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b)
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35)
  return (hash ^ (hash >>> 16)) >>> 0
}
