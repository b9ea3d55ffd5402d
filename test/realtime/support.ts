import { afterAll, expect } from 'vitest'
import type { ChannelMessage, Rowhouse, RowhouseOptions } from '../../src/index.ts'
import { type BoundaryFixture, openRowhouse, useRowhouse } from '../audit/support.ts'
import type { TestDatabase } from '../setup/database.ts'

export { ACME, GLOBEX } from '../audit/support.ts'

export interface RealtimeFixture extends BoundaryFixture {
  /** A process of its own, as far as rowhouse can tell. */
  open(options?: Partial<RowhouseOptions>): Rowhouse
}

/** rowhouse with the tenants acme and globex. Subscriptions look by themselves so rarely that a test can't count on it. */
export function useRealtime(database: TestDatabase): RealtimeFixture {
  const options = { channels: { pollMs: 3_600_000 } }
  const fixture = useRowhouse(database, options) as RealtimeFixture
  const opened: Rowhouse[] = []
  fixture.open = (more) => {
    const rowhouse = openRowhouse(database, { ...options, ...more })
    opened.push(rowhouse)
    return rowhouse
  }
  afterAll(async () => {
    for (const rowhouse of opened) await rowhouse.close()
  })
  return fixture
}

/** Collects messages; `until(n)` waits for that many. */
export function collect<T = any>() {
  const messages: ChannelMessage<T>[] = []
  return {
    messages,
    handler: (message: ChannelMessage<T>) => {
      messages.push(message)
    },
    get payloads() {
      return messages.map(({ payload }) => payload)
    },
    async until(count: number, timeout = 10_000): Promise<T[]> {
      await expect.poll(() => messages.length, { timeout, interval: 5 }).toBeGreaterThanOrEqual(count)
      return messages.map(({ payload }) => payload)
    },
  }
}
