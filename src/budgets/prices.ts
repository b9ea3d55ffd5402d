import { sql } from 'kysely'
import type { AdminExecutor } from '../context/admin-executor.ts'
import { createRowhouseError } from '../errors.ts'
import { type PricedUnits, parseAmount, unitName } from './units.ts'

/** An amount of money; a string such as `'0.15'` is exact. */
export type Money = number | string

/** Prices of a model: of tokens for a million, of everything else for one. */
export interface ModelPrices extends PricedUnits<Money> {
  /** A fee for each call. */
  readonly requests?: Money | undefined
}

export interface SetPricesOptions {
  /** ISO 4217 code. Default `USD`. */
  readonly currency?: string | undefined
  /** From when on they hold. Default: now. */
  readonly validFrom?: Date | undefined
}

/** A price of one unit. */
export interface Price {
  readonly model: string
  /** As the database names it, such as `input_tokens`. */
  readonly unit: string
  readonly currency: string
  readonly validFrom: Date
  /** Of one unit, exactly; undefined: not sold from then on. */
  readonly price: string | undefined
}

/**
 * Prices of models, the same for all tenants, for operators. A model without a price is refused, never free: what is
 * free has the price 0. Calls keep the prices that held when they were admitted.
 */
export interface Prices {
  /**
   * Sets prices of a model from a moment on. Older calls keep theirs, and so does their usage.
   *
   * SQL: `select rowhouse.set_price('large', 'input_tokens', 3.00, 1000000, 'USD', now())`, once for each unit
   *
   * Errors: `invalid_price`.
   *
   * @example
   * ```ts
   * await rowhouse.prices.set('large', { inputTokens: '3.00', outputTokens: '15.00', cachedInputTokens: '0.30' })
   * await rowhouse.prices.set('local', { inputTokens: 0, outputTokens: 0 })
   * ```
   */
  set(model: string, prices: ModelPrices, options?: SetPricesOptions): Promise<void>
  /**
   * All prices, or those of one model, the newest first.
   *
   * SQL: `select ... from rowhouse.prices where model = 'large'`
   */
  list(model?: string): Promise<Price[]>
}

const TOKENS_PER_PRICE = 1_000_000

export function createPrices(admin: AdminExecutor): Prices {
  return {
    async set(model, prices, { currency = 'USD', validFrom } = {}) {
      const given = Object.entries(prices).filter(([, amount]) => amount !== undefined)
      if (given.length === 0) throw createRowhouseError('invalid_price', 'There is no price to set.')
      const rows = given.map(([unit, amount]) => {
        const name = unitName(unit)
        return { name, amount: parsePrice(name, amount), per: name.endsWith('tokens') ? TOKENS_PER_PRICE : 1 }
      })
      await admin.transaction(async (db) => {
        for (const { name, amount, per } of rows) {
          await sql`select rowhouse.set_price(${model}, ${name}, ${amount}::numeric, ${per}, ${currency},
            coalesce(${validFrom ?? null}::timestamptz, transaction_timestamp()))`.execute(db)
        }
      })
    },
    async list(model) {
      const { rows } = await sql<Omit<Price, 'price'> & { price: string | null }>`
        select model, unit, currency, valid_from as "validFrom", price from rowhouse.prices
          where model = coalesce(${model ?? null}, model) order by model, valid_from desc, unit
      `.execute(admin.db)
      return rows.map((row) => ({ ...row, price: row.price ?? undefined }))
    },
  }
}

function parsePrice(unit: string, amount: unknown): string {
  try {
    return parseAmount(unit, amount)
  } catch {
    throw createRowhouseError('invalid_price', `The price of ${unit} is a number from 0.`)
  }
}
