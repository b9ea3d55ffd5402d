/**
 * A LangGraph checkpointer over a tenant's sessions.
 *
 * @module
 */
import type { RunnableConfig } from '@langchain/core/runnables'
import {
  BaseCheckpointSaver,
  type ChannelVersions,
  type Checkpoint,
  type CheckpointListOptions,
  type CheckpointMetadata,
  type CheckpointPendingWrite,
  type CheckpointTuple,
  copyCheckpoint,
  getCheckpointId,
  maxChannelVersion,
  type PendingWrite,
  type SerializerProtocol,
  TASKS,
  WRITES_IDX_MAP,
} from '@langchain/langgraph-checkpoint'
import { sql } from 'kysely'
import { assertOwnRow } from '../context/own-row.ts'
import type { TenantContext } from '../context/tenant-context.ts'
import { parse } from '../documents/parse-documents.ts'
import { storableText } from '../documents/parse-text.ts'
import { createRowhouseError } from '../errors.ts'
import { storableFilter } from './storable-filter.ts'

/** Of a page of `list`; the next one is read when the consumer asks for more. */
const PAGE_SIZE = 100

/**
 * Lets LangGraph keep the checkpoints of its threads in the sessions of one tenant.
 *
 * A thread is a session: one of yours, when `thread_id` is its id, or one that is opened under the name of the thread.
 * Checkpoints go when the session is deleted, expires, or its retention ends, so the tables don't grow for ever. A
 * thread of another tenant doesn't exist.
 *
 * @example
 * ```ts
 * import { StateGraph } from '@langchain/langgraph'
 * import { createRowhouse } from 'rowhouse'
 * import { RowhouseSaver } from 'rowhouse/langgraph'
 *
 * const rowhouse = createRowhouse({ connectionString: 'postgres://app@localhost/app' })
 * const acme = rowhouse.tenant('acme')
 * const graph = new StateGraph({}).compile({ checkpointer: new RowhouseSaver(acme) })
 * const session = await acme.sessions.create({ userId: 'u_1' })
 * await graph.invoke({ question: 'Hello' }, { configurable: { thread_id: session.id } })
 * ```
 */
export class RowhouseSaver extends BaseCheckpointSaver {
  readonly #tenant: TenantContext<any>

  /** `serde` replaces the serializer of LangGraph. */
  constructor(tenant: TenantContext<any>, serde?: SerializerProtocol) {
    super(serde)
    this.#tenant = tenant
  }

  /** SQL: `select * from rowhouse.list_checkpoints($1, $2, $3, p_limit => 1)` */
  async getTuple(config: RunnableConfig): Promise<CheckpointTuple | undefined> {
    const thread = config.configurable?.thread_id
    if (thread === undefined) return undefined
    const [row] = await this.#rows({
      thread,
      namespace: config.configurable?.checkpoint_ns ?? '',
      checkpointId: getCheckpointId(config) || undefined,
      limit: 1,
    })
    return row && this.#tuple(row)
  }

  /**
   * Newest first.
   *
   * SQL: `select * from rowhouse.list_checkpoints($1, $2, $3, $4, $5, $6)`
   */
  async *list(
    config: RunnableConfig,
    { before, filter, limit }: CheckpointListOptions = {},
  ): AsyncGenerator<CheckpointTuple> {
    const question = {
      thread: config.configurable?.thread_id,
      namespace: config.configurable?.checkpoint_ns,
      checkpointId: config.configurable?.checkpoint_id,
      before: before?.configurable?.checkpoint_id,
      filter: storableFilter(filter ?? {}),
    }
    // A value that lists can't filter by is compared here.
    const rest = Object.entries(filter ?? {}).filter(([key, value]) => value !== undefined && !(key in question.filter))
    let left = limit ?? Number.POSITIVE_INFINITY
    let offset = 0
    while (left > 0) {
      const rows = await this.#rows({ ...question, limit: PAGE_SIZE, offset })
      for (const row of rows) {
        const tuple = await this.#tuple(row)
        const metadata = tuple.metadata as Record<string, unknown> | undefined
        if (!rest.every(([key, value]) => metadata?.[key] === value)) continue
        yield tuple
        if (--left <= 0) return
      }
      if (rows.length < PAGE_SIZE) return
      offset += rows.length
    }
  }

  /**
   * A channel that didn't change since the checkpoint before is not stored again.
   *
   * SQL: `select rowhouse.put_checkpoint($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)`
   */
  async put(
    config: RunnableConfig,
    checkpoint: Checkpoint,
    metadata: CheckpointMetadata,
    newVersions: ChannelVersions = checkpoint.channel_versions,
  ): Promise<RunnableConfig> {
    const thread = requireConfigurable(config, 'thread_id', 'checkpoint')
    const namespace: string = config.configurable?.checkpoint_ns ?? ''
    const parentId: string | null = config.configurable?.checkpoint_id ?? null
    const { channel_values: values, ...rest } = copyCheckpoint(checkpoint)
    const versions = Object.entries(checkpoint.channel_versions)
    // The others are stored already, by the checkpoint that changed them.
    const changed = Object.entries(newVersions).filter(([channel]) => values[channel] !== undefined)
    const [[type, bytes], [metadataType, metadataBytes], ...changedValues] = await Promise.all([
      this.serde.dumpsTyped(rest),
      this.serde.dumpsTyped(metadata),
      ...changed.map(([channel]) => this.serde.dumpsTyped(values[channel])),
    ])
    const filter = JSON.stringify(storableFilter(metadata))
    await sql`
      select rowhouse.put_checkpoint(${thread}, ${namespace}, ${checkpoint.id}, ${parentId}, ${type}, ${Buffer.from(bytes)},
        ${metadataType}, ${Buffer.from(metadataBytes)}, ${filter}::jsonb,
        ${versions.map(([channel]) => channel)}::text[], ${versions.map(([, version]) => String(version))}::text[],
        ${changed.map(([channel]) => channel)}::text[], ${changed.map(([, version]) => String(version))}::text[],
        ${changedValues.map(([valueType]) => valueType)}::text[],
        ${changedValues.map(([, valueBytes]) => Buffer.from(valueBytes))}::bytea[])`.execute(this.#db)
    return { configurable: { thread_id: thread, checkpoint_ns: namespace, checkpoint_id: checkpoint.id } }
  }

  /** SQL: `select rowhouse.put_checkpoint_writes($1, $2, $3, $4, $5, $6, $7, $8)` */
  async putWrites(config: RunnableConfig, writes: PendingWrite[], taskId: string): Promise<void> {
    const thread = requireConfigurable(config, 'thread_id', 'writes')
    const checkpointId = requireConfigurable(config, 'checkpoint_id', 'writes')
    const namespace: string = config.configurable?.checkpoint_ns ?? ''
    if (writes.length === 0) return
    const values = await Promise.all(writes.map(([, value]) => this.serde.dumpsTyped(value)))
    const places = writes.map(([channel], index) => WRITES_IDX_MAP[channel] ?? index)
    await sql`
      select rowhouse.put_checkpoint_writes(${thread}, ${namespace}, ${checkpointId}, ${taskId}, ${places}::integer[],
        ${writes.map(([channel]) => channel)}::text[], ${values.map(([type]) => type)}::text[],
        ${values.map(([, bytes]) => Buffer.from(bytes))}::bytea[])`.execute(this.#db)
  }

  /** SQL: `select rowhouse.delete_thread($1)` */
  async deleteThread(threadId: string): Promise<void> {
    await sql`select rowhouse.delete_thread(${threadId})`.execute(this.#db)
  }

  get #db() {
    return this.#tenant.db.withoutPlugins()
  }

  async #rows({ thread, namespace, checkpointId, before, filter = {}, limit, offset = 0 }: Question) {
    const { rows } = await sql<CheckpointRow>`
      select * from rowhouse.list_checkpoints(${thread ?? null}, ${namespace ?? null}, ${checkpointId ?? null},
        ${before ?? null}, ${JSON.stringify(filter)}::jsonb, ${limit + offset}) offset ${offset}`.execute(this.#db)
    for (const row of rows) assertOwnRow(this.#tenant, row, 'rowhouse.checkpoints')
    return rows
  }

  async #tuple(row: CheckpointRow): Promise<CheckpointTuple> {
    const [rest, values, metadata, pendingWrites] = await Promise.all([
      this.serde.loadsTyped(row.checkpoint_type, row.checkpoint) as Promise<Omit<Checkpoint, 'channel_values'>>,
      this.#values(row),
      this.serde.loadsTyped(row.metadata_type, row.metadata) as Promise<CheckpointMetadata>,
      this.#writes(row),
    ])
    const checkpoint: Checkpoint = { ...rest, channel_values: values }
    if (checkpoint.v < 4 && row.parent_id !== null) await this.#addPendingSends(checkpoint, row, row.parent_id)
    const configurable = { thread_id: row.thread, checkpoint_ns: row.namespace }
    return {
      config: { configurable: { ...configurable, checkpoint_id: row.checkpoint_id } },
      checkpoint,
      metadata,
      pendingWrites,
      ...(row.parent_id === null
        ? {}
        : { parentConfig: { configurable: { ...configurable, checkpoint_id: row.parent_id } } }),
    }
  }

  async #values({ value_channels, value_types, value_bytes }: CheckpointRow): Promise<Record<string, unknown>> {
    const values = (value_channels ?? []).map(async (channel, index) => {
      return [channel, await this.serde.loadsTyped(value_types![index]!, value_bytes![index]!)]
    })
    return Object.fromEntries(await Promise.all(values))
  }

  #writes({ write_tasks, write_channels, write_types, write_bytes }: CheckpointRow): Promise<CheckpointPendingWrite[]> {
    return Promise.all(
      (write_tasks ?? []).map(async (task, index): Promise<CheckpointPendingWrite> => {
        return [task, write_channels![index]!, await this.serde.loadsTyped(write_types![index]!, write_bytes![index]!)]
      }),
    )
  }

  /** Before version 4 what was sent to later tasks stood in the writes of the parent. */
  async #addPendingSends(checkpoint: Checkpoint, row: CheckpointRow, parentId: string): Promise<void> {
    const [parent] = await this.#rows({
      thread: row.thread,
      namespace: row.namespace,
      checkpointId: parentId,
      limit: 1,
    })
    const writes = parent === undefined ? [] : await this.#writes(parent)
    checkpoint.channel_values[TASKS] = writes.filter(([, channel]) => channel === TASKS).map(([, , value]) => value)
    checkpoint.channel_versions ??= {}
    const versions = Object.values(checkpoint.channel_versions)
    checkpoint.channel_versions[TASKS] =
      versions.length > 0 ? maxChannelVersion(...versions) : this.getNextVersion(undefined)
  }
}

interface Question {
  readonly thread: string | undefined
  readonly namespace: string | undefined
  readonly checkpointId: string | undefined
  readonly before?: string | undefined
  readonly filter?: object | undefined
  readonly limit: number
  readonly offset?: number
}

interface CheckpointRow {
  readonly tenant_id: string
  readonly thread: string
  readonly namespace: string
  readonly checkpoint_id: string
  readonly parent_id: string | null
  readonly checkpoint_type: string
  readonly checkpoint: Uint8Array
  readonly metadata_type: string
  readonly metadata: Uint8Array
  /** Null when there are none; so are the writes. */
  readonly value_channels: readonly string[] | null
  readonly value_types: readonly string[] | null
  readonly value_bytes: readonly Uint8Array[] | null
  readonly write_tasks: readonly string[] | null
  readonly write_channels: readonly string[] | null
  readonly write_types: readonly string[] | null
  readonly write_bytes: readonly Uint8Array[] | null
}

const configurable = storableText(512)

function requireConfigurable(config: RunnableConfig, name: 'thread_id' | 'checkpoint_id', what: string): string {
  const value: unknown = config.configurable?.[name]
  if (value !== undefined) return parse(configurable, value, 'invalid_argument', `configurable.${name}`)
  throw createRowhouseError('invalid_argument', `Can't store the ${what}: configurable.${name} is missing.`, {
    hint: `Call the graph with { configurable: { ${name}: '...' } }.`,
  })
}
