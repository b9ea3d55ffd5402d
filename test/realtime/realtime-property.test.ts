// What a subscriber receives is what its tenant published, in the order of the commits, and nothing else: for random
// histories of several tenants and channels over two listening processes, with rollbacks and lost connections.
import fc from 'fast-check'
import { beforeAll, expect, test } from 'vitest'
import type { Rowhouse } from '../../src/index.ts'
import { useDatabase } from '../setup/database.ts'
import { startProxy } from '../setup/proxy.ts'
import { collect, useRealtime } from './support.ts'

const database = useDatabase({ needs: ['parallelBackends'] })
const fixture = useRealtime(database)
const TENANTS = ['north', 'south', 'east'] as const
const CHANNELS = ['a', 'b'] as const

beforeAll(async () => {
  for (const tenantId of TENANTS) await fixture.rowhouse.tenants.provision(tenantId)
})

interface Step {
  readonly tenantId: (typeof TENANTS)[number]
  readonly channel: (typeof CHANNELS)[number]
  readonly messages: number
  readonly how: 'publish' | 'commit' | 'roll back' | 'cut'
}
const step: fc.Arbitrary<Step> = fc.record({
  tenantId: fc.constantFrom(...TENANTS),
  channel: fc.constantFrom(...CHANNELS),
  messages: fc.integer({ min: 1, max: 5 }),
  how: fc.oneof(
    { weight: 10, arbitrary: fc.constant('publish' as const) },
    { weight: 5, arbitrary: fc.constant('commit' as const) },
    { weight: 3, arbitrary: fc.constant('roll back' as const) },
    { weight: 1, arbitrary: fc.constant('cut' as const) },
  ),
})

test('each subscriber receives its own tenant, in order, whatever happens', async () => {
  await using proxy = await startProxy(database.url('app'))
  const pool = database.pool('app', { connectionString: proxy.url, max: 3, connectionTimeoutMillis: 1000 })
  const processes = [fixture.open(), fixture.open({ pool })]
  const publishers = [fixture.rowhouse, fixture.open()]
  let number = 0
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 25 }), async (steps) => {
      const history = number++
      const name = (channel: string) => `${channel} ${history}`
      const subscribers = await subscribeAll(processes, name)
      await Promise.all(
        steps.map(async ({ tenantId, channel, messages, how }, index) => {
          const publisher = publishers[index % publishers.length]!
          if (how === 'cut') return proxy.cut()
          if (how === 'publish') {
            for (let n = 0; n < messages; n++) {
              await publisher.tenant(tenantId).channel(name(channel)).publish({ tenantId, index, n })
            }
            return
          }
          await publisher
            .withTenant(tenantId, async (_db, tenant) => {
              for (let n = 0; n < messages; n++) {
                await tenant.channel(name(channel)).publish({ tenantId, index, n })
              }
              if (how === 'roll back') throw new Error('rolled back')
            })
            .catch((error) => expect(error.message).toBe('rolled back'))
        }),
      )
      for (const { tenantId, channel, received, subscription } of subscribers) {
        const kept = await fixture.rowhouse.tenant(tenantId).channel(name(channel)).read({ limit: 1000 })
        await received.until(kept.length)
        expect(received.messages).toEqual(kept)
        subscription.close()
        // The model: what was committed of this tenant and channel, each publisher's in its own order.
        const expected = steps.flatMap((one, index) =>
          one.tenantId === tenantId && one.channel === channel && (one.how === 'publish' || one.how === 'commit')
            ? Array.from({ length: one.messages }, (_, n) => ({ tenantId, index, n }))
            : [],
        )
        const byPublisher = [...received.payloads].sort((one, other) => one.index - other.index)
        expect(byPublisher).toEqual(expected)
        // Transactions don't mix.
        for (const [index, { how, messages }] of steps.entries()) {
          const places = received.payloads.flatMap((payload, place) => (payload.index === index ? [place] : []))
          if (how === 'commit' && places.length > 0) expect(places.at(-1)! - places[0]!).toBe(messages - 1)
        }
        const ids = received.messages.map(({ id }) => id)
        expect(ids.every((id, place) => place === 0 || id === ids[place - 1]! + 1)).toBe(true)
      }
    }),
    { numRuns: 25 },
  )
}, 120_000)

async function subscribeAll(processes: readonly Rowhouse[], name: (channel: string) => string) {
  return Promise.all(
    processes.flatMap((rowhouse) =>
      TENANTS.flatMap((tenantId) =>
        CHANNELS.map(async (channel) => {
          const received = collect()
          const subscription = await rowhouse.tenant(tenantId).channel(name(channel)).subscribe(received.handler)
          return { tenantId, channel, received, subscription }
        }),
      ),
    ),
  )
}
