import { type RawBuilder, sql } from 'kysely'
import { assertOwnRow } from '../context/own-row.ts'
import type { TenantExecutor } from '../context/tenant-executor.ts'
import { decodeCursor, encodeCursor } from '../sessions/cursor.ts'
import { sweepInBatches } from '../sweep/sweep-in-batches.ts'
import {
  parseIncrement,
  parseKey,
  parseKeys,
  parseLifetime,
  parsePrefix,
  parseStateList,
  parseValue,
} from './parse-state.ts'

/** How long a value lives. */
export interface LifetimeOptions {
  /** Milliseconds, by the clock of the database. Default: for ever. */
  readonly ttlMs?: number | undefined
}

/** A value under its key. */
export interface StateEntry {
  readonly key: string
  readonly value: unknown
  /** Null is never. */
  readonly expiresAt: Date | null
}

/** What `state.list` takes. */
export interface StateListOptions {
  /** Only keys that begin with it. */
  readonly prefix?: string | undefined
  /** The most entries that come back: 1 to 1000. Default 100. */
  readonly limit?: number | undefined
  /** `nextCursor` of the page before, of a list with the same prefix. */
  readonly cursor?: string | undefined
}

/** A page of entries, in the order of their keys. */
export interface StatePage {
  readonly entries: readonly StateEntry[]
  /** Undefined on the last page. */
  readonly nextCursor: string | undefined
}

/**
 * Values of one tenant under keys: any JSON up to 1,048,576 bytes, under 1 to 512 characters.
 *
 * Inside `withTenant` every call joins its transaction; outside, each is a transaction of its own in one round trip.
 * A value that expired is gone at once; `sweep` frees its space. Bad input fails with `invalid_state`.
 */
export class State {
  readonly #executor: TenantExecutor

  /** @internal */
  constructor(executor: TenantExecutor) {
    this.#executor = executor
  }

  /**
   * Reads a value; undefined when there is none.
   *
   * SQL: `select * from rowhouse.get_state($1)`
   *
   * @example
   * ```ts
   * const cart = await acme.state.get<{ items: string[] }>('cart:u_1')
   * ```
   */
  async get<T = unknown>(key: string): Promise<T | undefined> {
    const [entry] = await this.getMany([key])
    return entry?.value as T | undefined
  }

  /**
   * Reads several values at once: those that exist, in the order of the keys.
   *
   * SQL: `select * from rowhouse.get_state($1)`
   */
  async getMany(keys: readonly string[]): Promise<StateEntry[]> {
    const wanted = parseKeys(keys)
    const entries = await this.#entries(sql`rowhouse.get_state(${wanted}::text[])`)
    const found = new Map(entries.map((entry) => [entry.key, entry]))
    return [...new Set(wanted)].flatMap((key) => found.get(key) ?? [])
  }

  /**
   * Puts a value under a key, in place of the one that is there and of its lifetime.
   *
   * SQL: `select rowhouse.set_state($1, $2, $3)`
   *
   * @example
   * ```ts
   * await acme.state.set('cart:u_1', { items: ['lamp'] }, { ttlMs: 86_400_000 })
   * ```
   */
  async set(key: string, value: unknown, options: LifetimeOptions = {}): Promise<void> {
    await this.#ask(sql`rowhouse.set_state(${parseKey(key)}, ${parseValue(value)}::jsonb, ${lifetime(options)})`)
  }

  /**
   * As `set`, but only when there is no value.
   *
   * SQL: `select rowhouse.set_state_if_absent($1, $2, $3)`
   *
   * @returns Whether it was set.
   */
  async setIfAbsent(key: string, value: unknown, options: LifetimeOptions = {}): Promise<boolean> {
    return this.#ask(
      sql`rowhouse.set_state_if_absent(${parseKey(key)}, ${parseValue(value)}::jsonb, ${lifetime(options)})`,
    )
  }

  /**
   * As `set`, but only when the value equals `expected`, as JSON: the order of properties doesn't count. `undefined`
   * expects that there is none.
   *
   * SQL: `select rowhouse.compare_and_set_state($1, $2, $3, $4)`
   *
   * @returns Whether it was set.
   * @example
   * ```ts
   * const done = await acme.state.compareAndSet('import', { state: 'waiting' }, { state: 'running' })
   * ```
   */
  async compareAndSet(key: string, expected: unknown, value: unknown, options: LifetimeOptions = {}): Promise<boolean> {
    if (expected === undefined) return this.setIfAbsent(key, value, options)
    return this.#ask(sql`rowhouse.compare_and_set_state(${parseKey(key)}, ${parseValue(expected)}::jsonb,
      ${parseValue(value)}::jsonb, ${lifetime(options)})`)
  }

  /**
   * Adds to a number, which is 0 when there is none. `ttlMs` holds for a new number; the lifetime of an existing one
   * stays.
   *
   * SQL: `select rowhouse.increment_state($1, $2, $3)`
   *
   * @returns The sum.
   * @example
   * ```ts
   * const attempts = await acme.state.increment('attempts:u_1', 1, { ttlMs: 60_000 })
   * ```
   */
  async increment(key: string, by = 1, options: LifetimeOptions = {}): Promise<number> {
    const sum = sql`rowhouse.increment_state(${parseKey(key)}, ${parseIncrement(by)}::numeric, ${lifetime(options)})`
    return Number(await this.#ask(sum))
  }

  /**
   * Deletes one value or several.
   *
   * SQL: `select rowhouse.delete_state($1)`
   *
   * @returns How many there were.
   */
  async delete(keys: string | readonly string[]): Promise<number> {
    return Number(
      await this.#ask(sql`rowhouse.delete_state(${parseKeys(typeof keys === 'string' ? [keys] : keys)}::text[])`),
    )
  }

  /**
   * Lists values page by page, in the order of their keys.
   *
   * SQL: `select * from rowhouse.list_state($1, $2, $3)`
   *
   * @example
   * ```ts
   * const { entries, nextCursor } = await acme.state.list({ prefix: 'cart:', limit: 50 })
   * ```
   */
  async list(options: StateListOptions = {}): Promise<StatePage> {
    const { prefix, limit, cursor } = parseStateList(options)
    const scope = ['state', this.#executor.tenantId, prefix]
    const [after = null] = cursor === undefined ? [] : decodeCursor(cursor, scope, [/^[^\0]+$/s])
    const entries = await this.#entries(sql`rowhouse.list_state(${prefix}, ${limit + 1}, ${after}::text)`)
    const page = entries.slice(0, limit)
    return {
      entries: page,
      nextCursor: entries.length > limit ? encodeCursor(scope, [page.at(-1)!.key]) : undefined,
    }
  }

  /**
   * Deletes all values whose keys begin with the prefix.
   *
   * SQL: `select rowhouse.clear_state($1)`
   *
   * @returns How many there were.
   */
  async clear({ prefix }: { readonly prefix: string }): Promise<number> {
    return Number(await this.#ask(sql`rowhouse.clear_state(${parsePrefix(prefix)})`))
  }

  /**
   * Deletes the values that expired, in batches of a transaction each (inside `withTenant`, of that transaction).
   * Several processes may do it at once.
   *
   * SQL: `select rowhouse.sweep_state($1)`
   *
   * @returns How many were deleted.
   */
  async sweep({ batchSize = 1000 }: { readonly batchSize?: number | undefined } = {}): Promise<number> {
    return sweepInBatches(this.#executor.db, sql`rowhouse.sweep_state(${batchSize})`)
  }

  async #ask<T>(call: RawBuilder<unknown>): Promise<T> {
    const { rows } = await sql<{ result: T }>`select ${call} as result`.execute(this.#executor.db)
    return rows[0]!.result
  }

  async #entries(source: RawBuilder<unknown>): Promise<StateEntry[]> {
    const { rows } = await sql<StateRow>`select tenant_id, key, value, expires_at from ${source}`.execute(
      this.#executor.db,
    )
    return rows.map((row) => {
      assertOwnRow(this.#executor, row, 'rowhouse.state')
      return {
        key: row.key,
        value: row.value,
        expiresAt: row.expires_at === null ? null : new Date(row.expires_at),
      }
    })
  }
}

interface StateRow {
  readonly tenant_id: string
  readonly key: string
  readonly value: unknown
  readonly expires_at: Date | string | null
}

function lifetime(options: LifetimeOptions): RawBuilder<unknown> {
  return sql`make_interval(secs => ${parseLifetime(options)}::double precision / 1000)`
}
