import { sql } from 'kysely'
import type { TenantExecutor } from '../context/tenant-executor.ts'
import { batchDocuments } from './batch-documents.ts'
import type {
  DocumentChanges,
  EmbeddedDocument,
  Metadata,
  ParentDocument,
  StoredParent,
  StoredPart,
  TextDocument,
} from './document-types.ts'
import { type DocumentsOptions, embedDocuments } from './embed.ts'
import { checkOwnRows, type KeyRow, type ReportMismatch } from './own-documents.ts'
import { parseChanges, parseDocumentIds, parseParent } from './parse-documents.ts'

/**
 * Documents that were cut into parts. Searches find the parts, each with the id of its parent, its title and source;
 * `filter: { $parentId: id }` looks in one parent alone.
 */
export class ParentDocuments<Document extends TextDocument = EmbeddedDocument> {
  readonly #executor: TenantExecutor
  readonly #collection: string
  readonly #options: DocumentsOptions
  readonly #report: ReportMismatch | undefined

  /** @internal */
  constructor(
    executor: TenantExecutor,
    collection: string,
    options: DocumentsOptions,
    report: ReportMismatch | undefined,
  ) {
    this.#executor = executor
    this.#collection = collection
    this.#options = options
    this.#report = report
  }

  /**
   * Writes a parent and its parts, which replace those that it had, all at once or not at all.
   *
   * SQL: `select * from rowhouse.upsert_parent('documents', 'handbook', $1, $2, ...)`
   *
   * @returns The ids of the parent and of its parts.
   * @example
   * ```ts
   * await acme.documents().parents.upsert({
   *   id: 'handbook', title: 'Handbook', source: 'handbook.pdf', metadata: { lang: 'en' },
   *   parts: [{ content: 'Refunds take five days.', embedding, metadata: { page: 3 } }],
   * })
   * ```
   */
  async upsert(parent: ParentDocument<Document>): Promise<{ readonly id: string; readonly parts: string[] }> {
    const { id, title, source, metadata, parts } = parseParent(parent)
    const ready = await embedDocuments(parts, this.#options, 'Part')
    const inOrder = batchDocuments(ready, Number.POSITIVE_INFINITY)[0]!
    const { model, otherModel } = this.#options
    const { rows } = await sql<{ parent_id: string; document_ids: string[] }>`
      select parent_id, document_ids from rowhouse.upsert_parent(${this.#collection}, ${id ?? null},
        ${inOrder.contents}::text[], ${inOrder.vectors}::text[], ${title ?? null}, ${source ?? null}, ${metadata}::jsonb,
        ${inOrder.ids}::text[], ${inOrder.metadata}::jsonb[], ${model ?? null}, ${otherModel?.model ?? null},
        ${inOrder.secondVectors}::text[])`.execute(this.#executor.db)
    return { id: rows[0]!.parent_id, parts: rows[0]!.document_ids }
  }

  /**
   * A parent with its parts, or undefined.
   *
   * SQL: `select * from rowhouse.get_parents('documents', array['handbook'])`
   *
   * @example
   * ```ts
   * const parent = await acme.documents().parents.get('handbook')
   * ```
   */
  async get(id: string): Promise<StoredParent | undefined> {
    const { rows } = await sql<ParentRow>`
      select tenant_id, parent_id, title, source, metadata, created_at, updated_at, documents
      from rowhouse.get_parents(${this.#collection}, ${parseDocumentIds(id)}::text[])`.execute(this.#executor.db)
    const [row] = checkOwnRows(this.#executor, rows, this.#collection, this.#report)
    if (row === undefined) return undefined
    const parts = checkOwnRows(
      this.#executor,
      row.documents.map(({ tenantId, ...part }) => ({ tenant_id: tenantId, ...part })),
      this.#collection,
      this.#report,
    )
    return {
      tenantId: row.tenant_id,
      id: row.parent_id,
      title: row.title,
      source: row.source,
      metadata: row.metadata,
      parts: parts.map(({ id, position, content, metadata }) => ({ id, position, content, metadata })),
      createdAt: new Date(row.created_at),
      updatedAt: new Date(row.updated_at),
    }
  }

  /**
   * Changes title, source and metadata of a parent and of its parts. Embeddings stay, and so do entries of metadata that
   * a part has of its own.
   *
   * SQL: `select rowhouse.update_parent('documents', 'handbook', '{"title": "Handbook 2026"}')`
   *
   * @returns Whether there is such a parent.
   * @example
   * ```ts
   * await acme.documents().parents.update('handbook', { title: 'Handbook 2026' })
   * ```
   */
  async update(id: string, changes: DocumentChanges): Promise<boolean> {
    const { rows } = await sql<{ updated: boolean }>`
      select rowhouse.update_parent(${this.#collection}, ${parseDocumentIds(id)[0]}, ${parseChanges(changes)}::jsonb)
        as updated`.execute(this.#executor.db)
    return rows[0]!.updated
  }

  /**
   * Deletes parents with their parts.
   *
   * SQL: `select rowhouse.delete_parents('documents', array['handbook'])`
   *
   * @returns How many parents there were.
   * @example
   * ```ts
   * await acme.documents().parents.delete('handbook')
   * ```
   */
  async delete(ids: string | readonly string[]): Promise<number> {
    const doomed = parseDocumentIds(ids)
    if (doomed.length === 0) return 0
    const { rows } = await sql<{ count: string }>`
      select rowhouse.delete_parents(${this.#collection}, ${doomed}::text[]) as count`.execute(this.#executor.db)
    return Number(rows[0]!.count)
  }
}

interface ParentRow extends KeyRow {
  readonly parent_id: string
  readonly title: string | null
  readonly source: string | null
  readonly metadata: Metadata
  readonly created_at: Date | string
  readonly updated_at: Date | string
  readonly documents: readonly (StoredPart & { readonly tenantId: string })[]
}
