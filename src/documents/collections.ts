import { type RawBuilder, sql } from 'kysely'
import * as z from 'zod'
import type { AdminExecutor } from '../context/admin-executor.ts'
import { changeModel, type ModelChangeOptions } from './model-change.ts'
import { parse, parseCollectionName } from './parse-documents.ts'

export type Metric = 'cosine' | 'inner_product' | 'l2'
export type ElementType = 'vector' | 'halfvec'

/** The HNSW index of a collection. */
export interface IndexOptions {
  /** Connections of each vector: 2 to 100. Default 16. */
  readonly m?: number | undefined
  /** Candidates while a vector is put in: 4 to 1000, at least twice `m`. Default 128. */
  readonly efConstruction?: number | undefined
}

export interface CollectionOptions extends IndexOptions {
  /** The number of dimensions of the embedding model: up to 2000, of `halfvec` up to 4000. */
  readonly dimensions: number
  /** Default `cosine`. */
  readonly metric?: Metric | undefined
  /** `vector` has 4 bytes for each dimension, `halfvec` 2. Default `vector`. */
  readonly elementType?: ElementType | undefined
  /**
   * Tenants with at most this many documents are searched exactly. Default: as many as that takes no longer for than the
   * index does, 8,600 of 128 dimensions, 5,600 of 768, 3,900 of 1536.
   */
  readonly exactLimit?: number | undefined
  /**
   * Candidates of a search by the index: 1 to 1000; more find more of the neighbours. Twice as many in a partition that
   * tenants share. Default 120.
   */
  readonly efSearch?: number | undefined
  /** `false` leaves the indexes to `index(name)`, after a bulk load. Default true. */
  readonly index?: boolean | undefined
  /**
   * The text search configuration of full-text search, as Postgres calls it: `english`, `german`, `simple`, ... `none`
   * leaves full-text search out, which makes writing cheaper. Default `english`. It never changes.
   */
  readonly language?: string | undefined
  /** Name of the embedding model. Embeddings that are said to be of another one are refused. */
  readonly model?: string | undefined
}

/** The other version of a collection whose model is changed. */
export interface CollectionChange {
  readonly state: 'next' | 'previous'
  readonly model: string | null
  readonly dimensions: number
  readonly table: string
  readonly indexed: boolean
}

/** A collection, as the registry knows it. */
export interface Collection {
  readonly name: string
  /** Its table, `rowhouse.documents_<name>`. */
  readonly table: string
  readonly dimensions: number
  readonly metric: Metric
  readonly elementType: ElementType
  readonly exactLimit: number
  readonly efSearch: number
  readonly m: number
  readonly efConstruction: number
  /** Whether it has its HNSW index. */
  readonly indexed: boolean
  /** The table of parents, `rowhouse.parents_<name>`. */
  readonly parentsTable: string
  /** The text search configuration, or `none`. */
  readonly language: string
  /** Null when it was never named. */
  readonly model: string | null
  /** Counts the changes of the model, from 1. */
  readonly version: number
  /** A change of the model that is not finished: its other version, which is filled (`next`) or was left (`previous`). */
  readonly change: CollectionChange | null
  readonly createdAt: Date
}

const count = (minimum: number, maximum: number) =>
  z
    .int('is not a whole number')
    .min(minimum, `is less than ${minimum}`)
    .max(maximum, `is more than ${maximum}`)
    .optional()

const indexOptions = z.strictObject({
  m: count(2, 100),
  efConstruction: count(4, 1000),
  maintenanceWorkMem: z
    .string()
    .regex(/^\d+(kB|MB|GB)$/, 'is not an amount of memory such as 512MB')
    .optional(),
})
const searchOptions = z.strictObject({ exactLimit: count(0, 1_000_000), efSearch: count(1, 1000) })
const collectionOptions = indexOptions.omit({ maintenanceWorkMem: true }).extend({
  ...searchOptions.shape,
  dimensions: z.int('is not a whole number'),
  metric: z.enum(['cosine', 'inner_product', 'l2'], 'is not cosine, inner_product or l2').default('cosine'),
  elementType: z.enum(['vector', 'halfvec'], 'is not vector or halfvec').default('vector'),
  index: z.boolean().default(true),
  language: z
    .string('is not a string')
    .regex(/^[a-zA-Z_"][\w."-]{0,127}$/, 'is not the name of a text search configuration')
    .optional(),
  model: z.string('is not a string').min(1, 'is empty').max(200, 'has more than 200 characters').optional(),
})

/** Creates and drops the collections that all tenants share, as `rowhouse_admin`. */
export class Collections {
  readonly #executor: AdminExecutor
  readonly #tablesChanged: () => void

  /** @internal */
  constructor(executor: AdminExecutor, tablesChanged: () => void) {
    this.#executor = executor
    this.#tablesChanged = tablesChanged
  }

  /**
   * Creates a collection, or returns the one that exists with the same options; omitted ones fit any.
   *
   * Errors: `invalid_collection` (options that no collection can have, or that contradict the existing one),
   * `pgvector_missing` (with who can add it).
   *
   * SQL: `select rowhouse.create_collection('documents', 1536, 'cosine', 'vector')`
   *
   * @example
   * ```ts
   * await rowhouse.collections.create('documents', { dimensions: 1536 })
   * ```
   */
  async create(name: string, options: CollectionOptions): Promise<Collection & { readonly created: boolean }> {
    const parsed = parse(collectionOptions, options, 'invalid_collection', 'The options of the collection')
    const { dimensions, metric, elementType, exactLimit, efSearch, m, efConstruction, index, language, model } = parsed
    const { rows } = await sql<{ collection: CollectionRow & { created: boolean } }>`
      select rowhouse.create_collection(${parseCollectionName(name)}, ${dimensions}, ${metric}, ${elementType},
        ${exactLimit ?? null}, ${efSearch ?? null}, ${m ?? null}, ${efConstruction ?? null}, ${index},
        ${language ?? null}, ${model ?? null}) as collection`.execute(this.#executor.db)
    this.#tablesChanged()
    return toCollection(rows[0]!.collection)
  }

  /**
   * All collections, by name.
   *
   * SQL: `select rowhouse.describe_collection(name) from rowhouse.collections where state = 'current' order by name`
   */
  async list(): Promise<Collection[]> {
    const { rows } = await sql<{ collection: CollectionRow }>`
      select rowhouse.describe_collection(name) as collection from rowhouse.collections
      where state = 'current' order by name`.execute(this.#executor.db)
    return rows.map(({ collection }) => toCollection(collection))
  }

  /**
   * Changes how a collection is searched, or names its embedding model when it has no name of it yet; omitted settings
   * stay.
   *
   * SQL: `select rowhouse.configure_collection('documents', 5000, 400)`
   */
  async configure(
    name: string,
    options: Pick<CollectionOptions, 'exactLimit' | 'efSearch' | 'model'>,
  ): Promise<Collection> {
    const { exactLimit, efSearch, model } = parse(
      searchOptions.extend({ model: collectionOptions.shape.model }),
      options,
      'invalid_collection',
      'The options of the collection',
    )
    const { rows } = await sql<{ collection: CollectionRow }>`
      select rowhouse.configure_collection(${parseCollectionName(name)}, ${exactLimit ?? null}, ${efSearch ?? null},
        ${model ?? null}) as collection`.execute(this.#executor.db)
    return toCollection(rows[0]!.collection)
  }

  /**
   * Changes the embedding model: embeds every document of every tenant, suspended ones too, in a table beside the one
   * that is searched, batch by batch, then switches to it at once. Meanwhile everything goes on: searches with the old
   * model, writes with the embeddings of either model or of both. Ended by an error or `signal`, it goes on from there
   * when it is called again. Last, when no process uses the old model any more: `finishModelChange`.
   *
   * Processes that serve requests meanwhile: deploy them with both models first
   * (`documents(name, { embed, model, otherModel })`), so that documents are written with the embeddings of both and a
   * search finds whichever version there is.
   *
   * SQL: `select rowhouse.begin_model_change('documents', 'model-2', 1024)`, for each tenant `unembedded_documents` and
   * `fill_documents`, then `index_collection('documents', p_state => 'next')` and `switch_model('documents')`
   *
   * Errors: `invalid_collection` (another change is going on), `model_change_incomplete` (documents without the new
   * embedding are written faster than they are filled in).
   *
   * @example
   * ```ts
   * await rowhouse.collections.changeModel('documents', {
   *   model: 'text-embedding-3-large', dimensions: 1024, embed,
   *   onProgress: ({ tenants, documents }) => console.log(`${documents} documents, ${tenants} tenants`),
   * })
   * await rowhouse.collections.finishModelChange('documents')
   * ```
   */
  async changeModel(name: string, options: ModelChangeOptions): Promise<void> {
    await changeModel(this.#executor, parseCollectionName(name), options)
    this.#tablesChanged()
  }

  /**
   * After `changeModel`: drops the version of the old model. Until then it answers searches with embeddings of that
   * model, from then on they are refused (`other_model`).
   *
   * SQL: `select rowhouse.finish_model_change('documents')`
   */
  async finishModelChange(name: string): Promise<Collection> {
    return this.#endChange(sql`select rowhouse.finish_model_change(${parseCollectionName(name)}) as collection`)
  }

  /**
   * Gives up a change of the model that has not switched, and drops what was filled.
   *
   * SQL: `select rowhouse.abandon_model_change('documents')`
   */
  async abandonModelChange(name: string): Promise<Collection> {
    return this.#endChange(sql`select rowhouse.abandon_model_change(${parseCollectionName(name)}) as collection`)
  }

  async #endChange(statement: RawBuilder<unknown>): Promise<Collection> {
    const { rows } = await (statement as RawBuilder<{ collection: CollectionRow }>).execute(this.#executor.db)
    this.#tablesChanged()
    return toCollection(rows[0]!.collection)
  }

  /**
   * Builds the HNSW index, or builds it anew with other options. Writers wait meanwhile, searches only for the moment in
   * which the old index goes. Fails with `tenant_busy`, and changes nothing, when transactions that use the collection
   * stay open for a minute then.
   *
   * `maintenanceWorkMem`, for example `2GB`: memory for the build; one that fits in it is many times faster.
   *
   * Vacuum takes long in an index whose entries are mostly dead, as where a large tenant was promoted or erased. As the
   * owner, `reindex index concurrently rowhouse.documents_<name>_embedding_idx` is quicker and keeps nobody waiting.
   *
   * SQL: `select rowhouse.index_collection('documents', 16, 128, '2GB')`
   *
   * @returns Whether anything was built; false when the index is there already.
   */
  async index(
    name: string,
    options: IndexOptions & { readonly maintenanceWorkMem?: string | undefined } = {},
  ): Promise<boolean> {
    const { m, efConstruction, maintenanceWorkMem } = parse(
      indexOptions,
      options,
      'invalid_collection',
      'The options of the index',
    )
    const { rows } = await sql<{ built: boolean }>`
      select rowhouse.index_collection(${parseCollectionName(name)}, ${m ?? null}, ${efConstruction ?? null},
        ${maintenanceWorkMem ?? null}) as built`.execute(this.#executor.db)
    return rows[0]!.built
  }

  /**
   * Drops a collection with the documents of all tenants. Fails with `collection_not_found` when there is none.
   *
   * SQL: `select rowhouse.drop_collection('documents')`
   */
  async drop(name: string): Promise<void> {
    await sql`select rowhouse.drop_collection(${parseCollectionName(name)})`.execute(this.#executor.db)
    this.#tablesChanged()
  }
}

type CollectionRow = Omit<Collection, 'createdAt'> & { readonly createdAt: string }

function toCollection<Row extends CollectionRow>(row: Row): Omit<Row, 'createdAt'> & { readonly createdAt: Date } {
  return { ...row, createdAt: new Date(row.createdAt) }
}
