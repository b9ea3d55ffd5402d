import { sql } from 'kysely'
import type { TenantExecutor } from '../context/tenant-executor.ts'
import { createRowhouseError } from '../errors.ts'
import { batchDocuments, type DocumentBatch } from './batch-documents.ts'
import type {
  EmbeddedDocument,
  EmbeddingSearch,
  Metadata,
  SearchHit,
  StoredDocument,
  TextDocument,
  TextSearch,
} from './document-types.ts'
import { type EmbedFunction, embedTexts } from './embed.ts'
import { parseCollectionName, parseDocumentIds, parseDocuments } from './parse-documents.ts'
import { parseEmbedding, parseEmbeddings } from './parse-embedding.ts'
import { parseCount, parseSearch } from './parse-search.ts'

/** Options of `documents(collection, options)`. */
export interface DocumentsOptions {
  /**
   * Embeds contents and searched texts, so that callers deal in text only. Called before anything is sent: inside
   * `withTenant` an earlier statement of yours keeps the transaction open meanwhile.
   */
  readonly embed?: EmbedFunction | undefined
}

/**
 * The documents of one tenant in one collection.
 *
 * Inside `withTenant` every call joins its transaction; outside, each is a transaction of its own in one round trip.
 * All of them fail with `collection_not_found` when the collection doesn't exist, and with `invalid_document`,
 * `invalid_embedding` or `invalid_argument` on bad input, mostly before anything is sent.
 */
export class Documents<
  Document extends TextDocument = EmbeddedDocument,
  Search extends EmbeddingSearch | TextSearch = EmbeddingSearch,
> {
  /** Name of the collection. */
  readonly collection: string
  readonly #executor: TenantExecutor
  readonly #embed: EmbedFunction | undefined

  /** @internal */
  constructor(executor: TenantExecutor, collection = 'documents', { embed }: DocumentsOptions = {}) {
    this.collection = parseCollectionName(collection)
    this.#executor = executor
    this.#embed = embed
  }

  /**
   * Writes documents; one whose id exists already is replaced. All of them are written, or none.
   *
   * More than 8 MB go in several statements of one transaction.
   *
   * SQL: `select rowhouse.upsert_documents('documents', $1, $2, $3, $4)`
   *
   * @returns The ids, in the order of the documents.
   * @example
   * ```ts
   * const [id] = await acme.documents().upsert([{ content: 'Refunds take five days.', embedding, metadata: { page: 3 } }])
   * ```
   */
  async upsert(documents: readonly Document[]): Promise<string[]> {
    const parsed = parseDocuments(documents)
    const missing = parsed.filter(({ embedding }) => embedding === undefined)
    if (missing.length > 0 && this.#embed === undefined) {
      const place = parsed.indexOf(missing[0]!) + 1
      throw createRowhouseError('invalid_embedding', `Document ${place} of ${parsed.length} has no embedding.`)
    }
    const made =
      this.#embed === undefined
        ? []
        : await embedTexts(
            this.#embed,
            missing.map(({ content }) => content),
          )
    let next = 0
    const vectors = parseEmbeddings(parsed.map(({ embedding = made[next++] }) => embedding))
    const batches = batchDocuments(parsed.map((document, index) => ({ ...document, vector: vectors[index]! })))
    const ids = new Array<string>(parsed.length)
    const write = async (db: TenantExecutor['db'], batch: DocumentBatch) => {
      const { rows } = await sql<{ ids: string[] }>`
        select rowhouse.upsert_documents(${this.collection}, ${batch.ids}::text[], ${batch.contents}::text[],
          ${batch.vectors}::text[], ${batch.metadata}::jsonb[]) as ids`.execute(db)
      for (const [index, place] of batch.places.entries()) ids[place] = rows[0]!.ids[index]!
    }
    if (batches.length === 1) {
      await write(this.#executor.db, batches[0]!)
    } else {
      await this.#executor.transaction(async (db) => {
        for (const batch of batches) await write(db, batch)
      })
    }
    return ids
  }

  /**
   * Finds the nearest documents, nearest first. Fewer than `limit` come back only when the tenant has no more that
   * match.
   *
   * SQL: `select * from rowhouse.search_documents('documents', $1, $2, $3, $4, $5)`
   *
   * @example
   * ```ts
   * const hits = await acme.documents().search({ embedding, limit: 5, filter: { source: 'handbook' }, minScore: 0.3 })
   * ```
   */
  async search(query: Search): Promise<SearchHit[]> {
    const { text, limit, filter, minScore, strategy, ...parsed } = parseSearch(query)
    const embedding = parseEmbedding(
      text === undefined ? parsed.embedding : await this.#embedText(text),
      'The embedding',
    )
    const { rows } = await sql<HitRow>`
      select tenant_id, document_id, content, metadata, distance, score, strategy
      from rowhouse.search_documents(${this.collection}, ${embedding}, ${limit}, ${filter}::jsonb, ${minScore}, ${strategy})`.execute(
      this.#executor.db,
    )
    return rows.map((row) => ({
      ...this.#identify(row),
      content: row.content,
      metadata: row.metadata,
      distance: Number(row.distance),
      score: Number(row.score),
      strategy: row.strategy,
    }))
  }

  /**
   * Reads documents by their ids: one document or undefined for one id, those that exist, in the order of the ids, for
   * an array.
   *
   * SQL: `select * from rowhouse.get_documents('documents', $1)`
   *
   * @example
   * ```ts
   * const document = await acme.documents().get('handbook-3')
   * ```
   */
  get(id: string): Promise<StoredDocument | undefined>
  get(ids: readonly string[]): Promise<StoredDocument[]>
  async get(ids: string | readonly string[]): Promise<StoredDocument | undefined | StoredDocument[]> {
    const wanted = parseDocumentIds(ids)
    const found = new Map<string, StoredDocument>()
    if (wanted.length > 0) {
      const { rows } = await sql<DocumentRow>`
        select tenant_id, document_id, content, metadata, created_at, updated_at
        from rowhouse.get_documents(${this.collection}, ${wanted}::text[])`.execute(this.#executor.db)
      for (const row of rows) {
        found.set(row.document_id, {
          ...this.#identify(row),
          content: row.content,
          metadata: row.metadata,
          createdAt: new Date(row.created_at),
          updatedAt: new Date(row.updated_at),
        })
      }
    }
    if (typeof ids === 'string') return found.get(ids)
    return [...new Set(wanted)].flatMap((id) => found.get(id) ?? [])
  }

  /**
   * Deletes documents by their ids.
   *
   * SQL: `select rowhouse.delete_documents('documents', $1)`
   *
   * @returns How many of them existed.
   * @example
   * ```ts
   * await acme.documents().delete(['handbook-3', 'handbook-4'])
   * ```
   */
  async delete(ids: string | readonly string[]): Promise<number> {
    const doomed = parseDocumentIds(ids)
    if (doomed.length === 0) return 0
    const { rows } = await sql<{ count: string }>`
      select rowhouse.delete_documents(${this.collection}, ${doomed}::text[]) as count`.execute(this.#executor.db)
    return Number(rows[0]!.count)
  }

  /**
   * The number of documents of the tenant, or of those whose metadata contain `filter`.
   *
   * SQL: `select rowhouse.count_documents('documents', $1)`
   *
   * @example
   * ```ts
   * const pages = await acme.documents().count({ filter: { source: 'handbook' } })
   * ```
   */
  async count(options: { readonly filter?: Metadata | undefined } = {}): Promise<number> {
    const filter = parseCount(options)
    const { rows } = await sql<{ count: string }>`
      select rowhouse.count_documents(${this.collection}, ${filter}::jsonb) as count`.execute(this.#executor.db)
    return Number(rows[0]!.count)
  }

  async #embedText(text: string): Promise<number[] | undefined> {
    if (this.#embed === undefined) {
      throw createRowhouseError('invalid_argument', 'A search for text needs documents(collection, { embed }).')
    }
    const [embedding] = await embedTexts(this.#embed, [text])
    return embedding
  }

  /** Whose row it is, looked at once more: no row of another tenant leaves this class, whatever happened before it. */
  #identify({ tenant_id: tenantId, document_id: id }: KeyRow): { tenantId: string; id: string } {
    if (tenantId !== this.#executor.tenantId) {
      throw createRowhouseError('tenant_mismatch', 'The database answered with a row of another tenant.', {
        hint: 'Check the policies of the table of the collection: select * from pg_policies.',
      })
    }
    return { tenantId, id }
  }
}

interface KeyRow {
  readonly tenant_id: string
  readonly document_id: string
}

interface DocumentRow extends KeyRow {
  readonly content: string
  readonly metadata: Metadata
  readonly created_at: Date | string
  readonly updated_at: Date | string
}

interface HitRow extends KeyRow {
  readonly content: string
  readonly metadata: Metadata
  readonly distance: number | string
  readonly score: number | string
  readonly strategy: SearchHit['strategy']
}
