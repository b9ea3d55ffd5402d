import { sql } from 'kysely'
import * as z from 'zod'
import type { Caller, TenantExecutor } from '../context/tenant-executor.ts'
import { parse } from '../documents/parse-documents.ts'
import { createRowhouseError } from '../errors.ts'
import type { AuditBuffer } from './audit-buffer.ts'
import {
  type AuditEntry,
  type AuditEntryInput,
  type AuditEntryRow,
  type SerializedEntry,
  serializeEntries,
  toAuditEntry,
} from './audit-entry.ts'

/** Which entries to read. */
export interface AuditQuery {
  /** One action or several; a name that ends in `*` stands for all that begin so: `chat.*`. */
  readonly action?: string | readonly string[] | undefined
  readonly userId?: string | undefined
  readonly requestId?: string | undefined
  /** Only entries with an error, or only those without. */
  readonly failed?: boolean | undefined
  /** Recorded at this time or later. */
  readonly from?: Date | undefined
  /** Recorded before this time. */
  readonly to?: Date | undefined
  /** The id of the last entry of the page before. */
  readonly after?: string | undefined
  /** Default `newest`. */
  readonly order?: 'newest' | 'oldest' | undefined
  /** Entries a page, 1 to 1000. Default 100. */
  readonly limit?: number | undefined
}

export interface AppendOptions {
  /**
   * Written later, together with others, in a transaction of its own: also when the surrounding one is rolled back.
   * `rowhouse.close()` writes what waits. A crash loses up to the last `maxDelayMs` (50) of entries. When the tenant is
   * suspended meanwhile, what happened before is written all the same.
   */
  readonly buffered?: boolean | undefined
}

const action = z.string('is not text').regex(/^[a-z][a-z0-9_.:-]{0,99}\*?$/, 'is no action')
const auditQuery = z.strictObject({
  action: z.union([action, z.array(action)], 'is neither an action nor an array of them').optional(),
  userId: z.string('is not text').optional(),
  requestId: z.string('is not text').optional(),
  failed: z.boolean('is not true or false').optional(),
  from: z.date('is not a date').optional(),
  to: z.date('is not a date').optional(),
  after: z.uuid('is not the id of an entry').optional(),
  order: z.enum(['newest', 'oldest'], 'is not newest or oldest').default('newest'),
  limit: z.int('is not a whole number').min(1, 'is less than 1').max(1000, 'is more than 1000').default(100),
})

/** Entries that an export reads at once. */
const EXPORT_PAGE = 1000

/**
 * The audit trail of one tenant: append and read. Nobody changes an entry; operators seal the trail and verify it with
 * `rowhouse.auditLog`.
 */
export class Audit {
  readonly #executor: TenantExecutor
  readonly #buffer: AuditBuffer | undefined
  /** Of entries that are written outside of the transaction. */
  readonly #caller: Caller

  /** @internal */
  constructor(executor: TenantExecutor, buffer: AuditBuffer | undefined, caller: Caller) {
    this.#executor = executor
    this.#buffer = buffer
    this.#caller = caller
  }

  /**
   * Appends one entry, or several at once. Inside `withTenant` they are part of its transaction, so what was rolled
   * back leaves no trace; with `buffered` they are not.
   *
   * SQL: `select rowhouse.append_audit('[{"action": "chat.respond", "model": "..."}]')`, with `buffered` later
   * `select rowhouse.append_late_audit(...)`
   *
   * Errors: `invalid_audit_entry`. With `buffered`: `connection_failed` when 10 000 entries wait and the database can't
   * be reached, `rowhouse_closed` after `rowhouse.close()`.
   *
   * @returns The ids, in the order of the entries; with `buffered` nothing, as soon as there is room in the buffer.
   * @example
   * ```ts
   * await acme.audit.append({
   *   action: 'chat.respond', model: 'small-1', inputTokens: 812, outputTokens: 96, cost: '0.00124',
   *   documents: ['handbook/leave'], latencyMs: 640,
   * })
   * await acme.audit.append({ action: 'chat.refuse', error: 'over budget' }, { buffered: true })
   * ```
   */
  append(entries: AuditEntryInput | readonly AuditEntryInput[], options: { readonly buffered: true }): Promise<void>
  append(
    entries: AuditEntryInput | readonly AuditEntryInput[],
    options?: { readonly buffered?: false | undefined },
  ): Promise<string[]>
  async append(
    entries: AuditEntryInput | readonly AuditEntryInput[],
    { buffered = false }: AppendOptions = {},
  ): Promise<unknown> {
    const list: readonly AuditEntryInput[] = Array.isArray(entries) ? entries : [entries as AuditEntryInput]
    if (list.length === 0) return buffered ? undefined : []
    if (!buffered) return appendAudit(this.#executor.db, serializeEntries(list))
    if (this.#buffer === undefined)
      throw createRowhouseError('invalid_argument', 'There is no buffer for audit entries.')
    const { userId, requestId } = this.#caller
    const occurredAt = new Date()
    await this.#buffer.add(
      this.#executor.tenantId,
      serializeEntries(
        list.map((entry) => ({
          ...entry,
          occurredAt: entry?.occurredAt ?? occurredAt,
          userId: entry?.userId ?? (userId || undefined),
          requestId: entry?.requestId ?? (requestId || undefined),
        })),
      ),
    )
    return undefined
  }

  /**
   * Reads a page of the trail, newest entries first. The next page: the same query with `after`, the id of the last
   * entry. Found by time; other conditions are looked at on the way.
   *
   * SQL: `select ... from rowhouse.audit_entries where tenant_id = 'acme' and ... order by entry_id desc limit 100`
   *
   * @example
   * ```ts
   * const failures = await acme.audit.query({ action: 'chat.*', failed: true, from: new Date('2026-01-01') })
   * ```
   */
  async query(query: AuditQuery = {}): Promise<AuditEntry[]> {
    return (await this.#select(parse(auditQuery, query, 'invalid_argument', 'The query'))).map(toAuditEntry)
  }

  /**
   * The trail as lines of JSON, oldest entries first, read page by page: for a file that the tenant, or an auditor,
   * keeps. Each line holds the salt, with which the commitment in the chain can be recomputed.
   *
   * @example
   * ```ts
   * for await (const line of acme.audit.export({ from: new Date('2026-01-01') })) process.stdout.write(line)
   * ```
   */
  async *export(query: Omit<AuditQuery, 'after' | 'order' | 'limit'> = {}): AsyncGenerator<string, void, undefined> {
    const parsed = parse(
      auditQuery.omit({ after: true, order: true, limit: true }),
      query,
      'invalid_argument',
      'The query',
    )
    for (let after: string | undefined; ; ) {
      const rows = await this.#select({ ...parsed, after, order: 'oldest', limit: EXPORT_PAGE })
      for (const row of rows) yield `${JSON.stringify({ ...toAuditEntry(row), salt: row.salt })}\n`
      if (rows.length < EXPORT_PAGE) return
      after = rows.at(-1)!.entry_id
    }
  }

  async #select({ action: actions, userId, requestId, failed, from, to, after, order, limit }: ParsedQuery) {
    const { db, tenantId } = this.#executor
    let select = db
      .withSchema('rowhouse')
      .selectFrom('audit_entries')
      .selectAll()
      .where('tenant_id', '=', tenantId)
      .orderBy('entry_id', order === 'newest' ? 'desc' : 'asc')
      .limit(limit)
    if (actions !== undefined) {
      select = select.where((eb) =>
        eb.or(
          [actions]
            .flat()
            .map((name) =>
              name.endsWith('*')
                ? eb.fn('starts_with', ['action', eb.val(name.slice(0, -1))])
                : eb('action', '=', name),
            ),
        ),
      )
    }
    if (userId !== undefined) select = select.where('user_id', '=', userId)
    if (requestId !== undefined) select = select.where('request_id', '=', requestId)
    if (failed !== undefined) select = select.where('error', failed ? 'is not' : 'is', null)
    // Ids begin with their time, and the key finds them.
    if (from !== undefined) select = select.where('recorded_at', '>=', from).where('entry_id', '>=', idAround(from, -1))
    if (to !== undefined) select = select.where('recorded_at', '<', to).where('entry_id', '<=', idAround(to, 1))
    if (after !== undefined) select = select.where('entry_id', order === 'newest' ? '<' : '>', after)
    const rows = (await select.execute()) as AuditEntryRow[]
    if (rows.some((row) => row.tenant_id !== tenantId)) {
      throw createRowhouseError('tenant_mismatch', 'The database answered with an entry of another tenant.', {
        hint: 'Check the policies of rowhouse.audit_entries: select * from pg_policies.',
      })
    }
    return rows
  }
}

type ParsedQuery = z.output<typeof auditQuery>

/** An id as of this time and some seconds: id and time of an entry are made one after the other. */
function idAround(time: Date, seconds: number): string {
  const milliseconds = Math.max(0, time.getTime() + seconds * 1000)
  const hex = milliseconds.toString(16).padStart(12, '0')
  return `${hex.slice(0, 8)}-${hex.slice(8)}-0000-0000-000000000000`
}

/** Appends checked entries in one statement. */
async function appendAudit(db: TenantExecutor['db'], entries: readonly SerializedEntry[]): Promise<string[]> {
  const { rows } = await sql<{ ids: string[] }>`
    select rowhouse.append_audit(${`[${entries.join(',')}]`}::jsonb)::text[] as ids`.execute(db)
  return rows[0]!.ids
}

/** The same for entries that were collected; returns those that are too late, because the tenant was suspended before. */
export async function appendLateAudit(
  db: TenantExecutor['db'],
  entries: readonly SerializedEntry[],
): Promise<SerializedEntry[]> {
  const { rows } = await sql<{ ids: (string | null)[] }>`
    select rowhouse.append_late_audit(${`[${entries.join(',')}]`}::jsonb)::text[] as ids`.execute(db)
  const { ids } = rows[0]!
  return entries.filter((_, index) => ids[index] === null)
}
