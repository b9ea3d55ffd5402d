import type { Filter } from './filter.ts'

/** A position in the space of the embedding model. */
export type Embedding = readonly number[] | Float32Array

/** A JSON object. */
export type Metadata = Readonly<Record<string, unknown>>

/** A document whose embedding the `embed` function makes from its content, unless it is given. */
export interface TextDocument {
  /** 1 to 256 characters, unique within tenant and collection. Default: a new uuid. */
  readonly id?: string | undefined
  /** What the embedding stands for: 1 to 1,000,000 characters. */
  readonly content: string
  readonly embedding?: Embedding | undefined
  /** What searches filter by: a JSON object of up to 262,144 bytes. Default `{}`. */
  readonly metadata?: Metadata | undefined
  /** Up to 1000 characters; a search for words finds it before the content. */
  readonly title?: string | undefined
  /** Where it comes from: a name, a path, an address, of up to 2000 characters. */
  readonly source?: string | undefined
}

/** A document with its embedding. */
export interface EmbeddedDocument extends TextDocument {
  readonly embedding: Embedding
}

/** A document as it is stored. */
export interface StoredDocument {
  readonly tenantId: string
  readonly id: string
  readonly content: string
  readonly metadata: Metadata
  readonly title: string | null
  readonly source: string | null
  /** What it is a part of; null when it stands for itself. */
  readonly parentId: string | null
  /** Its place among the parts of its parent, from 0. */
  readonly position: number | null
  readonly createdAt: Date
  readonly updatedAt: Date
}

/**
 * How a search is done:
 * - `auto`: exactly while the tenant has at most `exactLimit` documents (of the collection), by an index when it has
 *   more; exactly too when there is no index, or when it finds fewer than `limit`.
 * - `exact`: by the distance to every document of the tenant, which finds every neighbour.
 * - `index`: like `auto` with an `exactLimit` of 0.
 */
export type SearchStrategy = 'auto' | 'exact' | 'index'

/** What is changed; what is left out stays. `null` takes a title or a source away. */
export interface DocumentChanges {
  /** Replaces all metadata. */
  readonly metadata?: Metadata | undefined
  readonly title?: string | null | undefined
  readonly source?: string | null | undefined
}

/**
 * What is compared: embeddings (`vector`), words (`text`), or both, merged by reciprocal rank fusion (`hybrid`).
 */
export type SearchMode = 'vector' | 'text' | 'hybrid'

/** What every search may say. */
export interface SearchSettings {
  /** The most documents that come back: 1 to 1000. Default 10. */
  readonly limit?: number | undefined
  /** Only these documents. */
  readonly filter?: Filter | undefined
  /** Only documents with at least this score; compare {@link SearchHit.score}. */
  readonly minScore?: number | undefined
  /** How embeddings are compared. Default `auto`. */
  readonly strategy?: SearchStrategy | undefined
  /** Default: `vector`. */
  readonly mode?: SearchMode | undefined
  /**
   * What words must match: `all`, where `"a phrase"`, `or` and `-not` mean what they say, or `any` one. Default `all`.
   */
  readonly match?: 'all' | 'any' | undefined
  /** How much each list counts in mode `hybrid`: 0 or more. Default 1 and 1. */
  readonly weights?: { readonly vector?: number | undefined; readonly text?: number | undefined } | undefined
  /** The k of reciprocal rank fusion: the smaller, the more the first places count. Default 60. */
  readonly rankConstant?: number | undefined
  /**
   * How many documents of each list are looked at, 1 to 1000. Default: `limit`; in mode `hybrid` and with `diversity`
   * four times as many and at least 50; for pages 200.
   */
  readonly candidates?: number | undefined
  /** 0 to 1: how much a document loses that resembles a better one (maximal marginal relevance). Default 0. */
  readonly diversity?: number | undefined
}

/** A search near an embedding; in mode `hybrid` with the words to look for. */
export interface EmbeddingSearch extends SearchSettings {
  /** Needed but in mode `text`. */
  readonly embedding?: Embedding | undefined
  /** Words to look for, in the modes `text` and `hybrid`. */
  readonly text?: string | undefined
}

/** A search near a text, which the `embed` function embeds, or for its words. */
export interface TextSearch extends SearchSettings {
  readonly text: string
}

/** A document that a search found. */
export interface SearchHit {
  readonly tenantId: string
  readonly id: string
  readonly content: string
  readonly metadata: Metadata
  readonly title: string | null
  readonly source: string | null
  /** What it is a part of; null when it stands for itself. */
  readonly parentId: string | null
  /** Its place among the parts of its parent, from 0. */
  readonly position: number | null
  /** In the metric of the collection: less is closer. Null in mode `text` without an embedding. */
  readonly distance: number | null
  /**
   * More is better. Of embeddings `1 - distance` (cosine), `1 / (1 + distance)` (l2), or the inner product itself; of
   * words Postgres' `ts_rank`; of both the reciprocal rank fusion as a part of the most there can be: 1 is first in both.
   */
  readonly score: number
  /**
   * What compared embeddings: `exact`, the index of a partition that the tenant shares (`shared_index`), or the index of
   * the partition of a promoted tenant (`own_index`). Null in mode `text`.
   */
  readonly strategy: 'exact' | 'shared_index' | 'own_index' | null
  /** Its place among the nearest, from 1; null when it is not among them. */
  readonly vectorRank: number | null
  /** Its place among those with the words, from 1; null when it is not among them. */
  readonly textRank: number | null
  /** `ts_rank` of its words. */
  readonly textScore: number | null
  /** What found words: a look at every document of a small tenant (`scan`), or the `index`. Null in mode `vector`. */
  readonly textStrategy: 'scan' | 'index' | null
}

/** A page of a search. */
export interface SearchPage {
  readonly hits: SearchHit[]
  /** For the next page; undefined on the last one. */
  readonly nextCursor: string | undefined
}

/** A part of a parent: a document whose id, unless it is given, is `<parent>#1`, `<parent>#2` and so on. */
export type ParentPart<Document extends TextDocument> = Omit<Document, 'title' | 'source'>

/** A document that was cut into parts, which searches find. */
export interface ParentDocument<Document extends TextDocument = TextDocument> {
  /** 1 to 240 characters, unique within tenant and collection. Default: a new uuid. */
  readonly id?: string | undefined
  /** Its parts carry title and source too. */
  readonly title?: string | undefined
  readonly source?: string | undefined
  /** Its parts carry these entries too, unless they have their own. */
  readonly metadata?: Metadata | undefined
  /** In their order; they replace those that it had. */
  readonly parts: readonly ParentPart<Document>[]
}

/** A part as it is stored with its parent. */
export interface StoredPart {
  readonly id: string
  readonly position: number
  readonly content: string
  readonly metadata: Metadata
}

/** A parent as it is stored. */
export interface StoredParent {
  readonly tenantId: string
  readonly id: string
  readonly title: string | null
  readonly source: string | null
  readonly metadata: Metadata
  readonly parts: StoredPart[]
  readonly createdAt: Date
  readonly updatedAt: Date
}
