import { sql } from 'kysely'
import type { TenantExecutor } from '../context/tenant-executor.ts'
import { createRowhouseError } from '../errors.ts'
import { batchDocuments, type DocumentBatch } from './batch-documents.ts'
import { searchDocuments, toHit } from './document-search.ts'
import type {
  DocumentChanges,
  EmbeddedDocument,
  EmbeddingSearch,
  Metadata,
  SearchHit,
  SearchPage,
  StoredDocument,
  TextDocument,
  TextSearch,
} from './document-types.ts'
import { type DocumentsOptions, embedDocuments } from './embed.ts'
import type { Filter } from './filter.ts'
import { checkOwnRows, type KeyRow, type ReportMismatch } from './own-documents.ts'
import { ParentDocuments } from './parent-documents.ts'
import { parseChanges, parseCollectionName, parseDocumentIds, parseDocuments } from './parse-documents.ts'
import { parseFilter } from './parse-filter.ts'
import { parseCount, parseSearch } from './parse-search.ts'
import { readCursor, writeCursor } from './search-cursor.ts'

/** What pages go through, unless `candidates` says something else. */
const PAGED_HITS = 200

/**
 * The documents of one tenant in one collection.
 *
 * Inside `withTenant` every call joins its transaction; outside, each is a transaction of its own in one round trip.
 * All of them fail with `collection_not_found` when the collection doesn't exist, and with `invalid_document`,
 * `invalid_embedding`, `invalid_filter` or `invalid_argument` on bad input, mostly before anything is sent. A row of
 * another tenant, should the database ever answer with one, is recorded in the audit trail
 * (`documents.tenant_mismatch`) and raises a `TenantMismatchError`.
 */
export class Documents<
  Document extends TextDocument = EmbeddedDocument,
  Search extends EmbeddingSearch | TextSearch = EmbeddingSearch,
> {
  /** Name of the collection. */
  readonly collection: string
  readonly #executor: TenantExecutor
  readonly #options: DocumentsOptions
  readonly #report: ReportMismatch | undefined

  /** @internal */
  constructor(
    executor: TenantExecutor,
    collection = 'documents',
    options: DocumentsOptions = {},
    report: ReportMismatch | undefined = undefined,
  ) {
    this.collection = parseCollectionName(collection)
    this.#executor = executor
    this.#options = options
    this.#report = report
  }

  /** Documents that were cut into parts. */
  get parents(): ParentDocuments<Document> {
    return new ParentDocuments(this.#executor, this.collection, this.#options, this.#report)
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
    const batches = batchDocuments(await embedDocuments(parsed, this.#options))
    const { model, otherModel } = this.#options
    const ids = new Array<string>(parsed.length)
    const write = async (db: TenantExecutor['db'], batch: DocumentBatch) => {
      const { rows } = await sql<{ ids: string[] }>`
        select rowhouse.upsert_documents(${this.collection}, ${batch.ids}::text[], ${batch.contents}::text[],
          ${batch.vectors}::text[], ${batch.metadata}::jsonb[], ${batch.titles}::text[], ${batch.sources}::text[],
          ${model ?? null}, ${otherModel?.model ?? null}, ${batch.secondVectors}::text[]) as ids`.execute(db)
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
   * Finds documents, best first: by embeddings, by words (`mode: 'text'`) or by both (`mode: 'hybrid'`). Fewer than
   * `limit` come back only when there are no more that match, among the candidates where a search has them.
   *
   * SQL: `select * from rowhouse.search_documents('documents', $1, $2, $3, ...)`
   *
   * @example
   * ```ts
   * const hits = await acme.documents().search({ embedding, limit: 5, filter: { source: 'handbook' }, minScore: 0.3 })
   * const both = await acme.documents().search({ mode: 'hybrid', embedding, text: 'refund "five days"', diversity: 0.3 })
   * ```
   */
  async search(query: Search): Promise<SearchHit[]> {
    const search = parseSearch(query)
    const window = { limit: search.limit, offset: 0, candidates: search.candidates }
    const rows = await searchDocuments(this.#executor, this.collection, search, window, this.#options)
    return checkOwnRows(this.#executor, rows, this.collection, this.#report).map(toHit)
  }

  /**
   * A page of a search, and the cursor of the next one. Pages go through the first `candidates` hits (default 200), in
   * the order that they have at the time of each call. A cursor continues the same search of the same tenant; for any
   * other it is refused (`invalid_cursor`).
   *
   * SQL: `select * from rowhouse.search_documents('documents', $1, $2, p_candidates => 200, p_offset => 20)`
   *
   * @example
   * ```ts
   * const query = { embedding, limit: 20 }
   * const first = await acme.documents().searchPage(query)
   * const second = await acme.documents().searchPage(query, first.nextCursor)
   * ```
   */
  async searchPage(query: Search, cursor?: string | undefined): Promise<SearchPage> {
    const search = parseSearch(query)
    const candidates = search.candidates ?? PAGED_HITS
    if (search.limit > candidates) {
      throw createRowhouseError(
        'invalid_argument',
        `The search: pages hold at most ${candidates} documents, its candidates.`,
      )
    }
    const scope = { tenantId: this.#executor.tenantId, collection: this.collection, search }
    const offset = cursor === undefined ? 0 : readCursor(scope, cursor)
    if (offset >= candidates) return { hits: [], nextCursor: undefined }
    // One more, to know whether there is a next page.
    const limit = Math.min(search.limit + 1, candidates - offset)
    const rows = await searchDocuments(
      this.#executor,
      this.collection,
      search,
      { limit, offset, candidates },
      this.#options,
    )
    const hits = checkOwnRows(this.#executor, rows, this.collection, this.#report).map(toHit)
    const more = hits.length > search.limit
    return {
      hits: hits.slice(0, search.limit),
      nextCursor: more ? writeCursor(scope, offset + search.limit) : undefined,
    }
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
        select tenant_id, document_id, content, metadata, title, source, parent_id, place, created_at, updated_at
        from rowhouse.get_documents(${this.collection}, ${wanted}::text[])`.execute(this.#executor.db)
      for (const row of checkOwnRows(this.#executor, rows, this.collection, this.#report)) {
        found.set(row.document_id, {
          tenantId: row.tenant_id,
          id: row.document_id,
          content: row.content,
          metadata: row.metadata,
          title: row.title,
          source: row.source,
          parentId: row.parent_id,
          position: row.place === null ? null : Number(row.place),
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
   * Deletes the documents that a filter means, which must not be empty.
   *
   * SQL: `select rowhouse.delete_documents_where('documents', '{"$source": "handbook.pdf"}')`
   *
   * @returns How many there were.
   * @example
   * ```ts
   * await acme.documents().deleteWhere({ $source: 'handbook.pdf', page: { $gt: 100 } })
   * ```
   */
  async deleteWhere(filter: Filter): Promise<number> {
    const { rows } = await sql<{ count: string }>`
      select rowhouse.delete_documents_where(${this.collection}, ${parseFilter(filter)}::jsonb) as count`.execute(
      this.#executor.db,
    )
    return Number(rows[0]!.count)
  }

  /**
   * Changes metadata, title and source of a document; its embedding stays.
   *
   * SQL: `select rowhouse.update_document('documents', 'handbook-3', '{"metadata": {"page": 4}}')`
   *
   * @returns Whether there is such a document.
   * @example
   * ```ts
   * await acme.documents().update('handbook-3', { metadata: { page: 4 }, title: null })
   * ```
   */
  async update(id: string, changes: DocumentChanges): Promise<boolean> {
    const { rows } = await sql<{ updated: boolean }>`
      select rowhouse.update_document(${this.collection}, ${parseDocumentIds(id)[0]}, ${parseChanges(changes)}::jsonb)
        as updated`.execute(this.#executor.db)
    return rows[0]!.updated
  }

  /**
   * The number of documents of the tenant, or of those that `filter` means.
   *
   * SQL: `select rowhouse.count_documents('documents', $1)`
   *
   * @example
   * ```ts
   * const pages = await acme.documents().count({ filter: { source: 'handbook' } })
   * ```
   */
  async count(options: { readonly filter?: Filter | undefined } = {}): Promise<number> {
    const filter = parseCount(options)
    const { rows } = await sql<{ count: string }>`
      select rowhouse.count_documents(${this.collection}, ${filter}::jsonb) as count`.execute(this.#executor.db)
    return Number(rows[0]!.count)
  }
}

interface DocumentRow extends KeyRow {
  readonly document_id: string
  readonly content: string
  readonly metadata: Metadata
  readonly title: string | null
  readonly source: string | null
  readonly parent_id: string | null
  readonly place: number | null
  readonly created_at: Date | string
  readonly updated_at: Date | string
}
