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

/** What every search may say. */
export interface SearchSettings {
  /** The most documents that come back: 1 to 1000. Default 10. */
  readonly limit?: number | undefined
  /** Only documents whose metadata contain this object, as Postgres' `@>` does. */
  readonly filter?: Metadata | undefined
  /** Only documents at least this close; compare {@link SearchHit.score}. */
  readonly minScore?: number | undefined
  /** Default `auto`. */
  readonly strategy?: SearchStrategy | undefined
}

/** A search near an embedding. */
export interface EmbeddingSearch extends SearchSettings {
  readonly embedding: Embedding
}

/** A search near a text, which the `embed` function embeds. */
export interface TextSearch extends SearchSettings {
  readonly text: string
}

/** A document that a search found. */
export interface SearchHit {
  readonly tenantId: string
  readonly id: string
  readonly content: string
  readonly metadata: Metadata
  /** In the metric of the collection: less is closer. */
  readonly distance: number
  /** More is closer: `1 - distance` (cosine), `1 / (1 + distance)` (l2), or the inner product itself. */
  readonly score: number
  /**
   * What found it: `exact`, the index of a partition that the tenant shares (`shared_index`), or the index of the
   * partition of a promoted tenant (`own_index`).
   */
  readonly strategy: 'exact' | 'shared_index' | 'own_index'
}
