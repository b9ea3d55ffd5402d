import { createRowhouseError } from '../errors.ts'

/** Units that prices know, by the names that the database has for them. */
const DATABASE_NAMES: Readonly<Record<string, string>> = {
  inputTokens: 'input_tokens',
  outputTokens: 'output_tokens',
  cachedInputTokens: 'cached_input_tokens',
  cacheWriteTokens: 'cache_write_tokens',
  embeddingTokens: 'embedding_tokens',
  images: 'images',
  toolCalls: 'tool_calls',
  requests: 'requests',
}

/** Units of a model that have a price. None of them contains another. */
export interface PricedUnits<Amount = number> {
  /** Input that was neither read from nor written to a cache. */
  readonly inputTokens?: Amount | undefined
  readonly outputTokens?: Amount | undefined
  readonly cachedInputTokens?: Amount | undefined
  readonly cacheWriteTokens?: Amount | undefined
  readonly embeddingTokens?: Amount | undefined
  readonly images?: Amount | undefined
  readonly toolCalls?: Amount | undefined
}

/**
 * What a call uses: units of its model, or any metric that a quota of the application counts, such as `documents`.
 * Without a model also `tokens` and `money` (a string is exact).
 */
export interface Units extends PricedUnits {
  readonly tokens?: number | undefined
  readonly money?: number | string | undefined
  readonly [metric: string]: number | string | undefined
}

const MAX_AMOUNT = 1e15
const METRIC = /^[a-z][a-z0-9_]{0,62}$/

/** The name of a unit in the database. */
export function unitName(unit: string): string {
  const name = Object.hasOwn(DATABASE_NAMES, unit) ? DATABASE_NAMES[unit]! : unit
  if (METRIC.test(name)) return name
  throw createRowhouseError('invalid_amount', 'A unit is a name of lower-case letters, digits and underscores.')
}

/** An amount as digits, so that nothing is lost on the way to the database. */
export function parseAmount(unit: string, amount: unknown): string {
  if (typeof amount === 'number' && amount >= 0 && amount <= MAX_AMOUNT) {
    return Number.isInteger(amount) ? String(amount) : amount.toFixed(12)
  }
  if (typeof amount === 'string' && /^\d{1,15}(\.\d{1,12})?$/.test(amount)) return amount
  throw createRowhouseError('invalid_amount', `The amount of ${unit} is a number from 0 to ${MAX_AMOUNT}.`)
}

/** Units as the JSON object that the database takes. */
export function unitsToJson(units: Units): string {
  if (typeof units !== 'object' || units === null || Array.isArray(units)) {
    throw createRowhouseError('invalid_amount', 'Units are an object such as { inputTokens: 1200, outputTokens: 800 }.')
  }
  const members = Object.entries(units)
    .filter(([, amount]) => amount !== undefined)
    .map(([unit, amount]) => {
      const name = unitName(unit)
      return `"${name}":${parseAmount(name, amount).replace(/^0+(?=\d)/, '')}`
    })
  return `{${members.join(',')}}`
}

/** Of each unit the larger amount. */
export function largerUnits(units: Units, other: Units): Units {
  const larger: Record<string, number | string | undefined> = { ...units }
  for (const [unit, amount] of Object.entries(other)) {
    if (amount !== undefined && Number(amount) > Number(larger[unit] ?? 0)) larger[unit] = amount
  }
  return larger
}

/** What is left of units after others were taken from them; never less than nothing. */
export function remainingUnits(units: Units, taken: Units): Units {
  const remaining: Record<string, number | string> = {}
  for (const [unit, amount] of Object.entries(units)) {
    if (amount === undefined) continue
    const rest = toTrillionths(unit, amount) - toTrillionths(unit, taken[unit] ?? 0)
    if (rest > 0n) remaining[unit] = fromTrillionths(rest)
  }
  return remaining
}

/** Adds units that were used one after another. */
export function addUnits(units: Units, more: Units): Units {
  const sum: Record<string, number | string | undefined> = { ...units }
  for (const [unit, amount] of Object.entries(more)) {
    if (amount === undefined) continue
    const before = sum[unit]
    sum[unit] = before === undefined ? amount : addAmounts(unit, before, amount)
  }
  return sum
}

function addAmounts(unit: string, one: number | string, other: number | string): number | string {
  if (typeof one === 'number' && typeof other === 'number') return one + other
  return fromTrillionths(toTrillionths(unit, one) + toTrillionths(unit, other))
}

/** The smallest amount there is: twelve decimals. */
function toTrillionths(unit: string, amount: number | string): bigint {
  const [whole, decimals = ''] = parseAmount(unit, amount).split('.')
  return BigInt(whole! + decimals.padEnd(12, '0'))
}

function fromTrillionths(amount: bigint): string {
  const digits = String(amount).padStart(13, '0')
  return `${digits.slice(0, -12)}.${digits.slice(-12)}`
}
