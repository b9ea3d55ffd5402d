// Circuits: calls stop when too many fail or money runs away, in all processes; one tries, and its outcome decides.
import { setTimeout as sleep } from 'node:timers/promises'
import { beforeAll, describe, expect, test } from 'vitest'
import { CircuitOpenError, type Rowhouse } from '../../src/index.ts'
import { provision, rowhouseFor } from '../rate-limits/support.ts'
import { useDatabase } from '../setup/database.ts'
import { errorOf, setLimits, setPrices } from './support.ts'

const database = useDatabase()
const open = rowhouseFor(database)
let rowhouse: Rowhouse
let tenants = 0
const PAUSE_MS = 400
beforeAll(async () => {
  rowhouse = open()
  await setPrices(rowhouse)
  await rowhouse.circuits.setRule('free', { minCalls: 4, errorPercent: 50, maxSpend: 1, pauseMs: PAUSE_MS })
})

async function newTenant() {
  const tenant = `circuit-${tenants++}`
  await provision(database, tenant)
  await setLimits(rowhouse, tenant, {})
  return { tenant, budget: rowhouse.tenant(tenant).budget }
}

const CALL = { rateLimit: null, circuit: 'provider' }
const fail = () => Promise.reject(new Error('provider is down'))
const statusOf = async (tenant: string, circuit = 'provider') =>
  (await rowhouse.tenant(tenant).budget.circuits()).find((one) => one.circuit === circuit)

/** Four calls, half of which fail. */
async function openByErrors(tenant: string): Promise<void> {
  const { budget } = rowhouse.tenant(tenant)
  for (const fn of [() => 'fine', fail, () => 'fine', fail]) await budget.run(CALL, fn).catch(() => {})
}

describe('a circuit', () => {
  test('opens at the rate of errors, for every process, and for no other circuit or tenant', async () => {
    const { tenant } = await newTenant()
    const other = await newTenant()
    await openByErrors(tenant)
    const error = await errorOf<CircuitOpenError>(open().tenant(tenant).budget.admit(CALL))
    expect(error).toBeInstanceOf(CircuitOpenError)
    expect(error).toMatchObject({ code: 'circuit_open', httpStatus: 503, retryable: true })
    expect(error.message).toContain('2 of 4 calls failed')
    expect(error.retryAfterMs).toBeLessThanOrEqual(PAUSE_MS)
    await rowhouse.tenant(tenant).budget.admit({ ...CALL, circuit: 'another provider' })
    await other.budget.admit(CALL)
  })

  test('lets one call try after the pause, whose success closes it', async () => {
    const { tenant, budget } = await newTenant()
    await openByErrors(tenant)
    await sleep(PAUSE_MS + 50)
    const { requestId } = await budget.admit(CALL)
    expect((await errorOf(budget.admit(CALL))).code).toBe('circuit_open')
    expect(await statusOf(tenant)).toMatchObject({ status: 'half_open' })
    await budget.settle(requestId, {})
    expect(await statusOf(tenant)).toMatchObject({ status: 'closed', reason: undefined })
    await Promise.all([budget.admit(CALL), budget.admit(CALL)])
  })

  test('whose try fails stays open for another pause; calls that began before decide nothing', async () => {
    const { tenant, budget } = await newTenant()
    const before = await budget.admit(CALL)
    await openByErrors(tenant)
    await sleep(PAUSE_MS + 50)
    await budget
      .run(CALL, async () => {
        await budget.settle(before.requestId, {})
        expect(await statusOf(tenant)).toMatchObject({ status: 'half_open' })
        throw new Error('still down')
      })
      .catch(() => {})
    expect(await statusOf(tenant)).toMatchObject({ status: 'open' })
    expect((await errorOf(budget.admit(CALL))).code).toBe('circuit_open')
    await sleep(PAUSE_MS + 50)
    await budget.run(CALL, () => 'up again')
    expect(await statusOf(tenant)).toMatchObject({ status: 'closed' })
  })

  test('opens when money runs away', async () => {
    const { tenant, budget } = await newTenant()
    const call = { ...CALL, model: 'large', units: { images: 11 } }
    await budget.run(call, () => {})
    await budget.run(call, () => {})
    expect((await errorOf(budget.admit(call))).message).toContain('calls cost 1.1')
    expect(await statusOf(tenant)).toMatchObject({ status: 'open', spent: 1.1 })
  })

  test('does not count a call that its caller gave up', async () => {
    const { tenant, budget } = await newTenant()
    for (let call = 0; call < 6; call++) {
      const controller = new AbortController()
      const run = budget.run({ ...CALL, signal: controller.signal }, () => {
        controller.abort()
        throw new Error('gave up')
      })
      await expect(run).rejects.toThrow('gave up')
    }
    expect(await statusOf(tenant)).toBeUndefined()
  })
})

describe('by hand', () => {
  test('an operator stops all calls of a tenant until it is reset; those at work go on', async () => {
    const { tenant, budget } = await newTenant()
    const { requestId } = await budget.admit(CALL)
    await rowhouse.circuits.trip(tenant, { reason: 'runaway agent' })
    const error = await errorOf<CircuitOpenError>(budget.admit(CALL))
    expect(error.message).toBe('Calls of the tenant are stopped: runaway agent.')
    expect(error.retryAfterMs).toBeUndefined()
    await budget.settle(requestId, {})
    expect((await errorOf(budget.admit(CALL))).code).toBe('circuit_open')
    await rowhouse.circuits.reset(tenant)
    await budget.admit(CALL)
  })

  test('or one circuit for a while', async () => {
    const { tenant, budget } = await newTenant()
    await rowhouse.circuits.trip(tenant, { circuit: 'provider', reason: 'maintenance', pauseMs: 200 })
    await budget.admit({ ...CALL, circuit: 'other' })
    expect((await errorOf(budget.admit(CALL))).code).toBe('circuit_open')
    await sleep(250)
    await budget.admit(CALL)
  })

  test.for<[string, () => Promise<void>, string]>([
    ['a rule that is none', () => rowhouse.circuits.setRule('free', { errorPercent: 101 }), 'invalid_quota'],
    ['a tier that is none', () => rowhouse.circuits.setRule('No!', {}), 'invalid_quota'],
    ['an unknown tenant', () => rowhouse.circuits.trip('nobody', { reason: 'x' }), 'tenant_not_found'],
    [
      'too long a name',
      () => rowhouse.circuits.trip('default', { circuit: 'x'.repeat(101), reason: 'x' }),
      'invalid_quota',
    ],
  ])('refused: %s', async ([, call, code]) => {
    expect((await errorOf(call())).code).toBe(code)
  })
})

describe('money that runs away', () => {
  test('is seen while a call goes on, in its parts', async () => {
    const { tenant, budget } = await newTenant()
    const { requestId } = await budget.admit({ ...CALL, units: { money: 10 } })
    await budget.settle(requestId, { money: 0.9 }, { part: 'one' })
    await budget.admit(CALL)
    await budget.settle(requestId, { money: 0.9 }, { part: 'two' })
    const error = await errorOf<CircuitOpenError>(budget.admit(CALL))
    expect(error).toBeInstanceOf(CircuitOpenError)
    expect(error.message).toContain('calls cost 1.8')
    // Parts are no calls.
    expect(await statusOf(tenant)).toMatchObject({ status: 'open', calls: 0, spent: 1.8 })
    await budget.settle(requestId, {})
    expect(await statusOf(tenant)).toMatchObject({ calls: 1, spent: 1.8 })
  })

  test('is seen in all providers together', async () => {
    const { tenant, budget } = await newTenant()
    for (const circuit of ['one', 'two']) {
      await budget.run({ ...CALL, circuit, units: { money: 1 } }, (call) => call.report({ money: 0.6 }))
    }
    expect(await statusOf(tenant, 'one')).toMatchObject({ status: 'closed', spent: 0.6 })
    expect(await statusOf(tenant, '')).toMatchObject({ status: 'open', calls: 0, spent: 1.2 })
    expect(await errorOf(budget.admit({ ...CALL, circuit: 'three' }))).toBeInstanceOf(CircuitOpenError)
  })

  test('is seen in what was recorded', async () => {
    const { tenant, budget } = await newTenant()
    await rowhouse.tenant(tenant).usage.record('billed', { money: 1 })
    await budget.admit(CALL)
    await rowhouse.tenant(tenant).usage.record('more', { money: 0.1 })
    expect(await errorOf(budget.admit(CALL))).toBeInstanceOf(CircuitOpenError)
  })
})

describe('the call that tries', () => {
  /** A circuit whose pause is over. */
  async function trying(leaseMs: number) {
    const { tenant, budget } = await newTenant()
    await rowhouse.circuits.trip(tenant, { circuit: 'provider', reason: 'a test', pauseMs: 20 })
    await sleep(50)
    const { requestId } = await budget.admit({ ...CALL, leaseMs })
    expect((await errorOf(budget.admit(CALL))).code).toBe('circuit_open')
    return { tenant, budget, requestId }
  }

  test('and is given back without having failed lets the next one try at once', async () => {
    const { tenant, budget, requestId } = await trying(3_600_000)
    await budget.release(requestId)
    const next = await budget.admit(CALL)
    expect((await errorOf(budget.admit(CALL))).code).toBe('circuit_open')
    await budget.settle(next.requestId, {})
    expect(await statusOf(tenant)).toMatchObject({ status: 'closed' })
  })

  test('and is given back because it failed does not', async () => {
    const { tenant, budget, requestId } = await trying(3_600_000)
    await budget.release(requestId, { failed: true })
    expect((await errorOf(budget.admit(CALL))).code).toBe('circuit_open')
    expect(await statusOf(tenant)).toMatchObject({ status: 'open' })
  })

  test('longer than its lease is waited for when that is extended, and its success closes the circuit', async () => {
    const { tenant, budget, requestId } = await trying(300)
    await budget.extend(requestId, 60_000)
    await sleep(350)
    expect((await errorOf(budget.admit(CALL))).code).toBe('circuit_open')
    await budget.settle(requestId, {})
    expect(await statusOf(tenant)).toMatchObject({ status: 'closed' })
  })

  test('control: whose lease runs out is not waited for', async () => {
    const { budget } = await trying(300)
    await sleep(350)
    await budget.admit(CALL)
  })
})
