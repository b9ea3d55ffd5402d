// Money is exact, prices hold from a moment on, and nothing is free by accident.
import * as fc from 'fast-check'
import { sql } from 'kysely'
import { beforeAll, describe, expect, test } from 'vitest'
import type { Rowhouse } from '../../src/index.ts'
import { provision, rowhouseFor } from '../rate-limits/support.ts'
import { useDatabase } from '../setup/database.ts'
import { errorOf, setLimits } from './support.ts'

const database = useDatabase()
const open = rowhouseFor(database)
let rowhouse: Rowhouse
beforeAll(async () => {
  rowhouse = open()
  await provision(database, 'acme', 'euro')
  for (const tenant of ['acme', 'euro']) await setLimits(rowhouse, tenant, {})
})

const budget = (tenant = 'acme') => rowhouse.tenant(tenant).budget
const costOf = async (model: string, units: object, tenant = 'acme') => {
  const { requestId, cost } = await budget(tenant).admit({ model, units: units as never, rateLimit: null })
  await budget(tenant).release(requestId)
  return cost
}

test('costs are exact, whatever the price and the amount', { timeout: 60_000 }, async () => {
  let models = 0
  // Millionths of a currency unit for a million tokens: with them a token has twelve decimals.
  const millionths = fc.integer({ min: 0, max: 1_000_000_000 })
  const tokens = fc.integer({ min: 0, max: 2_000_000_000 })
  await fc.assert(
    fc.asyncProperty(
      millionths,
      millionths,
      tokens,
      tokens,
      async (inputPrice, outputPrice, inputTokens, outputTokens) => {
        const model = `model-${models++}`
        const price = (value: number) => `${Math.floor(value / 1e6)}.${String(value % 1e6).padStart(6, '0')}`
        await rowhouse.prices.set(model, { inputTokens: price(inputPrice), outputTokens: price(outputPrice) })
        const exact = BigInt(inputPrice) * BigInt(inputTokens) + BigInt(outputPrice) * BigInt(outputTokens)
        const digits = String(exact).padStart(13, '0')
        const expected = `${digits.slice(0, -12)}.${digits.slice(-12)}`.replace(/\.?0+$/, '')
        expect(await costOf(model, { inputTokens, outputTokens })).toBe(expected === '' ? '0' : expected)
      },
    ),
    { numRuns: 40 },
  )
})

test('the sum of many small costs loses nothing', async () => {
  await rowhouse.prices.set('tiny', { embeddingTokens: '0.02' })
  for (let call = 0; call < 50; call++) {
    const { requestId } = await budget().admit({ model: 'tiny', units: { embeddingTokens: 7 }, rateLimit: null })
    await budget().settle(requestId, { embeddingTokens: 7 })
  }
  const rows = await rowhouse.withTenant('acme', async (db) => {
    return (
      await sql<{ sum: string }>`select sum(cost)::text from rowhouse.usage_events where model = 'tiny'`.execute(db)
    ).rows
  })
  // 50 x 7 x 0.02 / 1000000; one call costs less than a micro-dollar.
  expect(Number(rows[0]!.sum)).toBe(0.000007)
})

describe('prices', () => {
  test('hold from a moment on, and a call keeps those it was admitted with', async () => {
    const long = new Date(Date.now() - 86_400_000)
    await rowhouse.prices.set('dated', { inputTokens: 1 }, { validFrom: long })
    const before = await budget().admit({ model: 'dated', units: { inputTokens: 1e6 }, rateLimit: null })
    await rowhouse.prices.set('dated', { inputTokens: 5 })
    await rowhouse.prices.set('dated', { inputTokens: 9 }, { validFrom: new Date(Date.now() + 86_400_000) })
    expect(await costOf('dated', { inputTokens: 1e6 })).toBe('5')
    expect(await budget().settle(before.requestId, { inputTokens: 1e6 })).toMatchObject({ cost: '1' })
    const { rows } = await rowhouse.withTenant('acme', (db) =>
      sql`select prices from rowhouse.usage_events where request_id = ${before.requestId}`.execute(db),
    )
    expect(rows).toEqual([{ prices: { input_tokens: 0.000001 } }])
    expect((await rowhouse.prices.list('dated')).map(({ price }) => price)).toEqual([
      '0.000009',
      '0.000005',
      '0.000001',
    ])
  })

  test('are of a unit, or of a million tokens, and a fee for each call is a price too', async () => {
    await rowhouse.prices.set('mixed', { inputTokens: 1, images: '0.04', requests: '0.5', toolCalls: '0.01' })
    expect(await costOf('mixed', { inputTokens: 1000, images: 2, toolCalls: 3 })).toBe('0.611')
    expect(await costOf('mixed', {})).toBe('0.5')
  })

  test('of cached input are those of input when there is none', async () => {
    await rowhouse.prices.set('cached', { inputTokens: 2, cachedInputTokens: '0.2' })
    expect(await costOf('cached', { cachedInputTokens: 1e6, cacheWriteTokens: 1e6 })).toBe('2.2')
  })

  test('of another currency are of no use', async () => {
    await rowhouse.prices.set('euros', { inputTokens: 1 }, { currency: 'EUR' })
    expect((await errorOf(costOf('euros', {}))).code).toBe('unknown_price')
    await rowhouse.quotas.setAccount('euro', { currency: 'EUR', timeZone: 'Europe/Berlin' })
    expect(await costOf('euros', { inputTokens: 1e6 }, 'euro')).toBe('1')
  })

  test('that end make a model unknown', async () => {
    await rowhouse.prices.set('ended', { inputTokens: 1 })
    const operator = await database.connect('operator')
    await operator.query(`set role rowhouse_admin; select rowhouse.set_price('ended', 'input_tokens', null, 1000000)`)
    expect((await errorOf(costOf('ended', {}))).code).toBe('unknown_price')
  })

  test('are added, never changed', async () => {
    const validFrom = new Date(0)
    await rowhouse.prices.set('fixed', { inputTokens: 1 }, { validFrom })
    await rowhouse.prices.set('fixed', { inputTokens: '1.0' }, { validFrom })
    expect((await errorOf(rowhouse.prices.set('fixed', { inputTokens: 2 }, { validFrom }))).code).toBe('invalid_price')
  })

  test.for<[string, object, object]>([
    ['a negative price', { inputTokens: -1 }, {}],
    ['NaN', { inputTokens: Number.NaN }, {}],
    ['too many decimals', { inputTokens: '0.0000001' }, {}],
    ['a unit that has none', { elephants: 1 }, {}],
    ['no price', {}, {}],
    ['a currency that is none', { inputTokens: 1 }, { currency: 'dollars' }],
  ])('refused: %s', async ([, prices, options]) => {
    expect((await errorOf(rowhouse.prices.set('bad', prices as never, options))).code).toBe('invalid_price')
    expect(await rowhouse.prices.list('bad')).toEqual([])
  })
})
