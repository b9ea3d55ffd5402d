// What lives for a while, or is counted in a while, does so by the clock of the database: a client whose own clock is an
// hour off lives as everybody else does.
import { afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest'
import type { TenantContext } from '../../src/index.ts'
import { openRowhouse, useRowhouse } from '../audit/support.ts'
import { differences, errorOf, setLimits, setPrices, standing } from '../budgets/support.ts'
import { useDatabase } from '../setup/database.ts'

const HOUR_MS = 3_600_000
const database = useDatabase()
const fixture = useRowhouse(database)
beforeAll(() => setPrices(fixture.rowhouse))

/** By the clock of the database, as seconds from now. */
async function lifetime(expiresAt: Date | null): Promise<number> {
  const { rows } = await fixture.app.query(
    'select extract(epoch from $1::timestamptz - clock_timestamp()) as seconds',
    [expiresAt],
  )
  return Number(rows[0].seconds)
}

describe.each([
  ['ahead', HOUR_MS],
  ['behind', -HOUR_MS],
])('an hour %s', (which, offset) => {
  const tenantId = `clock-${which}`
  /** Of a process with the right clock, and of one with the wrong one. */
  let right: TenantContext
  let wrong: TenantContext
  beforeAll(async () => {
    await fixture.rowhouse.tenants.provision(tenantId, { tier: 'enterprise' })
    await fixture.rowhouse.queues.define(tenantId, { slots: 1 })
    await setLimits(fixture.rowhouse, tenantId, { money_per_month: 10, concurrency: 1 })
    right = fixture.rowhouse.tenant(tenantId)
    const other = openRowhouse(database)
    wrong = other.tenant(tenantId)
    return () => other.close()
  })
  const setWrongClock = () => vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + offset })
  beforeEach(() => void setWrongClock())
  afterEach(() => void vi.useRealTimers())

  test('values', async () => {
    await wrong.state.set('value', 1, { ttlMs: 60_000 })
    const [entry] = (await wrong.state.list()).entries
    expect(await lifetime(entry!.expiresAt)).toBeGreaterThan(50)
    expect(await lifetime(entry!.expiresAt)).toBeLessThan(60)
    await wrong.state.set('short', 1, { ttlMs: 30 })
    await expect.poll(() => wrong.state.get('short')).toBeUndefined()
    expect(await wrong.state.get('value')).toBe(1)
  })

  test('sessions', async () => {
    const session = await wrong.sessions.create({ expiresInMs: 60_000 })
    expect(await lifetime(session.expiresAt)).toBeGreaterThan(50)
    expect(await lifetime(session.expiresAt)).toBeLessThan(60)
    expect(await wrong.sessions.get(session.id)).toEqual(session)
  })

  test('locks', async () => {
    const lock = await wrong.locks.acquire('lock', { leaseMs: 60_000 })
    expect(await lifetime(lock!.expiresAt)).toBeLessThan(60)
    expect(await right.locks.acquire('lock')).toBeUndefined()
    await lock!.renew()
    expect(await lifetime(lock!.expiresAt)).toBeGreaterThan(50)
    expect(await lock!.release()).toBe(true)
    const held = await right.locks.acquire('lock', { leaseMs: 60_000 })
    expect(await wrong.locks.acquire('lock')).toBeUndefined()
    await held!.release()
  })

  test('slots of queues', async () => {
    const held = await right.queue(tenantId).acquire({ leaseMs: 60_000 })
    expect((await errorOf(wrong.queue(tenantId).acquire({ deadlineMs: 100 }))).code).toBe('queue_timeout')
    const waiting = wrong.queue(tenantId).acquire({ deadlineMs: 10_000, leaseMs: 60_000 })
    await held.release()
    const slot = await waiting
    expect(await lifetime(slot.expiresAt)).toBeGreaterThan(50)
    expect(await lifetime(slot.expiresAt)).toBeLessThan(60)
    await slot.release()
  })

  test('calls and their budgets', async () => {
    const call = { model: 'large', units: { inputTokens: 1_000_000 }, leaseMs: 60_000 }
    const { requestId, expiresAt } = await wrong.budget.admit(call)
    expect(await lifetime(expiresAt)).toBeGreaterThan(50)
    expect(await lifetime(expiresAt)).toBeLessThan(60)
    // The one call at a time that it may have is at work, whatever the client thinks of its lease.
    expect((await errorOf(wrong.budget.admit(call))).code).toBe('quota_exceeded')
    await wrong.budget.settle(requestId, { inputTokens: 500_000 })
    expect(await standing(fixture.rowhouse, tenantId, 'money_per_month')).toEqual([1, 0, 9])
    expect(await differences(fixture.rowhouse, tenantId)).toEqual([])
  })
})
