import { createRowhouseError, RowhouseError } from '../errors.ts'
import type { SerializedEntry } from './audit-entry.ts'

/** How buffered audit entries are written. */
export interface AuditBufferOptions {
  /** An entry waits at most this long before it is sent. Default 50. */
  readonly maxDelayMs?: number | undefined
  /** With this many entries waiting, `append` waits too. Default 10 000. */
  readonly capacity?: number | undefined
  /**
   * Entries that can't be written: the database refuses them, or their tenant was suspended before or erased. Default: a
   * process warning.
   */
  readonly onLost?: ((loss: LostAuditEntries) => void) | undefined
}

/** Buffered entries that the database refused for good. */
export interface LostAuditEntries {
  readonly tenantId: string
  /** As JSON. */
  readonly entries: readonly string[]
  readonly error: RowhouseError
}

/** Writes entries of one tenant in a transaction of its own; returns those that came after the tenant was suspended. */
export type WriteAuditEntries = (
  tenantId: string,
  entries: readonly SerializedEntry[],
) => Promise<readonly SerializedEntry[]>

/** Entries in one statement. */
const BATCH = 500
/** Characters in one statement; a longer entry has one of its own. */
const BATCH_LENGTH = 4_000_000
/** After a failure that may pass: a database that restarts. */
const RETRY_DELAY_MS = 1000

/**
 * Audit entries that wait to be written together.
 *
 * `close` of rowhouse writes all of them, so a clean stop loses none. A crash of the process loses those that wait:
 * what was appended in the last `maxDelayMs` and the round trip after it, or since the database went away.
 */
export class AuditBuffer {
  readonly #write: WriteAuditEntries
  readonly #maxDelayMs: number
  readonly #capacity: number
  readonly #onLost: (loss: LostAuditEntries) => void
  readonly #waiting = new Map<string, SerializedEntry[]>()
  #size = 0
  #timer: NodeJS.Timeout | undefined
  #flushing: Promise<void> | undefined
  #closed = false

  constructor(write: WriteAuditEntries, { maxDelayMs = 50, capacity = 10_000, onLost = warn }: AuditBufferOptions) {
    this.#write = write
    this.#maxDelayMs = maxDelayMs
    this.#capacity = capacity
    this.#onLost = onLost
  }

  /** Entries that a crash of the process would lose now. */
  get size(): number {
    return this.#size
  }

  /**
   * Resolves at once while there is room; otherwise when there is again. Rejects when the database can't be reached, and
   * after `close`.
   */
  async add(tenantId: string, entries: readonly SerializedEntry[]): Promise<void> {
    if (!this.#closed && this.#size >= this.#capacity) await this.flush()
    // Nobody would write it.
    if (this.#closed) throw createRowhouseError('rowhouse_closed', 'rowhouse is closed; the audit entry was not taken.')
    const waiting = this.#waiting.get(tenantId)
    if (waiting === undefined) this.#waiting.set(tenantId, [...entries])
    else waiting.push(...entries)
    this.#size += entries.length
    if (this.#size >= BATCH) void this.flush().catch(() => {})
    else this.#schedule(this.#maxDelayMs)
  }

  /** Writes what waits. Rejects when the database can't be reached; then everything still waits. */
  flush(): Promise<void> {
    clearTimeout(this.#timer)
    this.#timer = undefined
    this.#flushing ??= this.#writeAll().finally(() => {
      this.#flushing = undefined
    })
    return this.#flushing
  }

  async #writeAll(): Promise<void> {
    while (this.#size > 0) {
      const written = await Promise.allSettled([...this.#waiting.keys()].map((tenantId) => this.#writeBatch(tenantId)))
      const failed = written.find((outcome) => outcome.status === 'rejected')
      if (failed === undefined) continue
      this.#schedule(RETRY_DELAY_MS)
      throw failed.reason
    }
  }

  async #writeBatch(tenantId: string): Promise<void> {
    const waiting = this.#waiting.get(tenantId)!
    let count = 1
    let length = waiting[0]!.length
    while (count < Math.min(waiting.length, BATCH) && length + waiting[count]!.length <= BATCH_LENGTH) {
      length += waiting[count]!.length
      count++
    }
    await this.#writeFirst(tenantId, waiting, count)
    if (waiting.length === 0) this.#waiting.delete(tenantId)
  }

  /** Writes the first so many. When the database refuses one of them, only that one is lost. */
  async #writeFirst(tenantId: string, waiting: SerializedEntry[], count: number): Promise<void> {
    const entries = waiting.slice(0, count)
    let lost: readonly SerializedEntry[] = entries
    let refusal: RowhouseError | undefined
    try {
      lost = await this.#write(tenantId, entries)
      if (lost.length > 0) refusal = createRowhouseError('tenant_suspended', `tenant "${tenantId}" is suspended`)
    } catch (error) {
      refusal = refusalOf(error)
      // Kept and tried again, unless the database will give the same answer every time.
      if (refusal === undefined) throw error
      if (count > 1 && refusal.code === 'invalid_audit_entry') {
        const half = Math.floor(count / 2)
        await this.#writeFirst(tenantId, waiting, half)
        return this.#writeFirst(tenantId, waiting, count - half)
      }
    }
    waiting.splice(0, count)
    this.#size -= count
    if (refusal !== undefined) this.#report({ tenantId, entries: lost, error: refusal })
  }

  #report(loss: LostAuditEntries): void {
    try {
      this.#onLost(loss)
    } catch (error) {
      process.emitWarning(
        `onLost of auditBuffer failed: ${error instanceof Error ? error.message : error}`,
        'RowhouseWarning',
      )
    }
  }

  #schedule(delayMs: number): void {
    this.#timer ??= setTimeout(() => void this.flush().catch(() => {}), delayMs)
    // A database that doesn't come back shall not keep a process alive that has nothing else to do.
    if (delayMs === RETRY_DELAY_MS) this.#timer.unref()
  }

  /** Takes no more, and writes what waits, or says how much could not be written. */
  async close(): Promise<void> {
    this.#closed = true
    try {
      await this.flush()
    } catch (cause) {
      throw createRowhouseError('audit_not_written', `${this.#size} buffered audit entries could not be written.`, {
        cause,
      })
    } finally {
      clearTimeout(this.#timer)
    }
  }
}

/** SQLSTATE classes of what a statement holds: data, constraints, limits. */
const REFUSED_CONTENT = /^(22|23|54)...$/

/** The error with which the database refuses entries for good; undefined: it may accept them later. */
function refusalOf(error: unknown): RowhouseError | undefined {
  if (error instanceof RowhouseError) return error.retryable ? undefined : error
  const { code } = error as { code?: unknown }
  if (typeof code !== 'string' || !REFUSED_CONTENT.test(code)) return undefined
  return createRowhouseError('invalid_audit_entry', (error as Error).message, { cause: error })
}

function warn({ tenantId, entries, error }: LostAuditEntries): void {
  const [first] = entries
  const action = first === undefined ? '' : (JSON.parse(first) as { action: string }).action
  const which = entries.length === 1 ? `The audit entry "${action}"` : `${entries.length} audit entries`
  process.emitWarning(`${which} of tenant "${tenantId}" could not be written: ${error.message}`, 'RowhouseWarning')
}
