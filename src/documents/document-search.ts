import { sql } from 'kysely'
import type { TenantExecutor } from '../context/tenant-executor.ts'
import { createRowhouseError, RowhouseError } from '../errors.ts'
import type { Metadata, SearchHit } from './document-types.ts'
import { type DocumentsOptions, type EmbedFunction, embedTexts } from './embed.ts'
import type { KeyRow } from './own-documents.ts'
import { parseEmbedding } from './parse-embedding.ts'
import type { ParsedSearch } from './parse-search.ts'

/** A row of `rowhouse.search_documents`. */
export interface HitRow extends KeyRow {
  readonly document_id: string
  readonly content: string
  readonly metadata: Metadata
  readonly title: string | null
  readonly source: string | null
  readonly parent_id: string | null
  readonly place: number | null
  readonly distance: number | string | null
  readonly score: number | string
  readonly strategy: SearchHit['strategy']
  readonly vector_rank: number | null
  readonly text_rank: number | null
  readonly text_score: number | string | null
  readonly text_strategy: SearchHit['textStrategy']
}

/** Which hits of the list. */
export interface HitWindow {
  readonly limit: number
  readonly offset: number
  readonly candidates: number | null
}

/**
 * Runs a search with the model of the collection. Where the collection does not have the first of two models, the search
 * is made with the other one, as long as it is for a text: a change of the model fails no search.
 */
export async function searchDocuments(
  executor: TenantExecutor,
  collection: string,
  search: ParsedSearch,
  window: HitWindow,
  { embed, model, otherModel }: DocumentsOptions,
): Promise<readonly HitRow[]> {
  const find = async (db: TenantExecutor['db'], embedding: string | null, name: string | undefined) =>
    (await select(collection, search, window, embedding, name).execute(db)).rows
  if (search.mode === 'text') return find(executor.db, null, undefined)
  const embedding = await embedSearch(search, embed)
  if (otherModel === undefined || search.text === undefined) return find(executor.db, embedding, model)
  try {
    // In a savepoint, where it is part of a transaction that has to go on.
    return await executor.transaction((db) => find(db, embedding, model))
  } catch (error) {
    if (!(error instanceof RowhouseError) || error.code !== 'other_model') throw error
    const other = await embedSearch({ ...search, embedding: undefined }, otherModel.embed)
    return find(executor.db, other, otherModel.model)
  }
}

async function embedSearch({ text, embedding }: ParsedSearch, embed: EmbedFunction | undefined): Promise<string> {
  if (text === undefined || embedding !== undefined) return parseEmbedding(embedding, 'The embedding')
  if (embed === undefined) {
    throw createRowhouseError(
      'invalid_argument',
      "A search for text needs documents(collection, { embed }), an embedding, or mode 'text'.",
    )
  }
  const [made] = await embedTexts(embed, [text])
  return parseEmbedding(made, 'The embedding')
}

function select(
  collection: string,
  search: ParsedSearch,
  { limit, offset, candidates }: HitWindow,
  embedding: string | null,
  model: string | undefined,
) {
  const words = search.mode === 'vector' ? null : search.text
  return sql<HitRow>`
    select tenant_id, document_id, content, metadata, title, source, parent_id, place, distance, score, strategy,
      vector_rank, text_rank, text_score, text_strategy
    from rowhouse.search_documents(${collection}, ${embedding}, ${limit}, ${search.filter}::jsonb, ${search.minScore},
      ${search.strategy}, ${words}, ${search.mode}, ${search.match}, ${search.vectorWeight}, ${search.textWeight},
      ${search.rankConstant}, ${candidates}, ${search.diversity}, ${offset}, ${model ?? null})`
}

export function toHit(row: HitRow): SearchHit {
  const toNumber = (value: number | string | null) => (value === null ? null : Number(value))
  return {
    tenantId: row.tenant_id,
    id: row.document_id,
    content: row.content,
    metadata: row.metadata,
    title: row.title,
    source: row.source,
    parentId: row.parent_id,
    position: toNumber(row.place),
    distance: toNumber(row.distance),
    score: Number(row.score),
    strategy: row.strategy,
    vectorRank: toNumber(row.vector_rank),
    textRank: toNumber(row.text_rank),
    textScore: toNumber(row.text_score),
    textStrategy: row.text_strategy,
  }
}
