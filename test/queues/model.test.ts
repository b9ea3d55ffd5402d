// The schedule against a model of it: random requests, releases, cancellations, lost processes and changes of the number
// of slots, by tenants of several weights and limits. After each step the same requests hold slots, in both.
import fc from 'fast-check'
import { afterEach, beforeAll, expect, test } from 'vitest'
import { functionsFile } from '../isolation/support/sql-files.ts'
import { useDatabase } from '../setup/database.ts'
import { provisionFor, QueueDriver, useRowhouse } from './support.ts'

const database = useDatabase()
const fixture = useRowhouse(database)

/** Powers of two, so that what the model computes is what the database does, to the last bit. */
const TENANTS = [
  { id: 'm-1', weight: 1, limit: null },
  { id: 'm-2', weight: 2, limit: null },
  { id: 'm-4', weight: 4, limit: 2 },
  { id: 'm-8', weight: 8, limit: 1 },
] as const

beforeAll(async () => {
  await provisionFor(fixture.rowhouse, ...TENANTS.map(({ id }) => id))
  for (const { id, weight, limit } of TENANTS) {
    await fixture.rowhouse.tenants.setTier(id, id)
    await fixture.rowhouse.queues.setShare('*', id, { weight, ...(limit === null ? {} : { maxRunning: limit }) })
  }
})

interface ModelTicket {
  readonly number: number
  readonly cost: number
  running: boolean
}
interface ModelTenant {
  readonly weight: number
  readonly limit: number
  nextStart: number
  turn: number
  readonly tickets: ModelTicket[]
}

/** Start-time fair queueing, as simply as it can be said. */
class Model {
  slots: number
  #virtualTime = 0
  #serial = 0
  readonly #tenants = new Map<string, ModelTenant>()

  constructor(slots: number) {
    this.slots = slots
    for (const { id, weight, limit } of TENANTS) {
      this.#tenants.set(id, { weight, limit: limit ?? Number.POSITIVE_INFINITY, nextStart: 0, turn: 0, tickets: [] })
    }
  }

  join(id: string, number: number, cost: number): void {
    const tenant = this.#tenants.get(id)!
    this.#serial++
    if (!tenant.tickets.some(({ running }) => !running)) {
      tenant.nextStart = Math.max(tenant.nextStart, this.#virtualTime)
      tenant.turn = this.#serial
    }
    tenant.tickets.push({ number, cost, running: false })
    this.grant()
  }

  leave(number: number): void {
    for (const { tickets } of this.#tenants.values()) {
      const index = tickets.findIndex((ticket) => ticket.number === number)
      if (index >= 0) tickets.splice(index, 1)
    }
    this.grant()
  }

  grant(): void {
    while (this.running().length < this.slots) {
      const [next] = [...this.#tenants.values()]
        .filter(({ tickets, limit }) => {
          const running = tickets.filter((ticket) => ticket.running).length
          return running < tickets.length && running < limit
        })
        .sort((a, b) => a.nextStart - b.nextStart || a.turn - b.turn)
      if (next === undefined) return
      const ticket = next.tickets.find(({ running }) => !running)!
      ticket.running = true
      this.#virtualTime = Math.max(this.#virtualTime, next.nextStart)
      next.nextStart = this.#virtualTime + ticket.cost / next.weight
      next.turn = ++this.#serial
    }
  }

  running(): number[] {
    return [...this.#tenants.values()]
      .flatMap(({ tickets }) => tickets.filter(({ running }) => running).map(({ number }) => number))
      .sort((a, b) => a - b)
  }

  waiting(): number[] {
    return [...this.#tenants.values()]
      .flatMap(({ tickets }) => tickets.filter(({ running }) => !running).map(({ number }) => number))
      .sort((a, b) => a - b)
  }
}

type Step =
  | { kind: 'join'; tenant: number; cost: number }
  | { kind: 'release' | 'cancel' | 'die'; pick: number }
  | { kind: 'slots'; slots: number }

const steps = fc.array(
  fc.oneof(
    {
      weight: 6,
      arbitrary: fc.record({
        kind: fc.constant('join' as const),
        tenant: fc.nat(TENANTS.length - 1),
        cost: fc.constantFrom(1, 2, 8),
      }),
    },
    { weight: 5, arbitrary: fc.record({ kind: fc.constant('release' as const), pick: fc.nat(100) }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('cancel' as const), pick: fc.nat(100) }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('die' as const), pick: fc.nat(100) }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('slots' as const), slots: fc.integer({ min: 0, max: 5 }) }) },
  ),
  { minLength: 10, maxLength: 60 },
)

let histories = 0
async function play(history: readonly Step[]): Promise<void> {
  const name = `model-${histories++}`
  await fixture.rowhouse.queues.define(name, { slots: 2 })
  driver ??= await QueueDriver.open(database, name)
  const queue = driver.on(name)
  const model = new Model(2)
  const owners = new Map<number, string>()
  let next = histories * 1000
  for (const step of history) {
    if (step.kind === 'slots') {
      model.slots = step.slots
      await fixture.rowhouse.queues.define(name, { slots: step.slots })
      model.grant()
    } else if (step.kind === 'join') {
      const { id } = TENANTS[step.tenant]!
      owners.set(next, id)
      model.join(id, next, step.cost)
      await queue.join(id, next++, step.cost)
    } else {
      const candidates =
        step.kind === 'release' ? model.running() : step.kind === 'cancel' ? model.waiting() : [...owners.keys()]
      const number = candidates[step.pick % candidates.length]
      if (number === undefined) continue
      if (step.kind === 'die') {
        await queue.expire(number)
        // Noticed by whoever comes next.
        await fixture.rowhouse.queues.define(name, { slots: model.slots })
      } else {
        await queue.leave(owners.get(number)!, number)
      }
      owners.delete(number)
      model.leave(number)
    }
    expect((await queue.running()).sort((a, b) => a - b)).toEqual(model.running())
    expect(await queue.differences()).toEqual([])
  }
}
let driver: QueueDriver | undefined
afterEach(() => {
  driver = undefined
})

test('slots are given out as the model says', { timeout: 120_000 }, async () => {
  await fc.assert(fc.asyncProperty(steps, play), { numRuns: 150, examples: [[WEIGHED]] })
})

/** Two tenants of different weights that always wait: seldom in random histories, and what the control needs. */
const WEIGHED: Step[] = [
  ...[0, 1].flatMap((tenant) => Array.from({ length: 6 }, (): Step => ({ kind: 'join', tenant, cost: 1 }))),
  ...Array.from({ length: 8 }, (): Step => ({ kind: 'release', pick: 0 })),
]

test('the control: a schedule that forgets the weights is found', { timeout: 120_000 }, async () => {
  const owner = await database.connect('owner')
  const file = await functionsFile('queue_tickets.sql')
  const broken = file.replace('v_queue.virtual_time + v_ticket.cost / t.weight', 'v_queue.virtual_time + v_ticket.cost')
  expect(broken).not.toBe(file)
  await owner.query(`begin; set local role rowhouse_owner; ${broken}; commit`)
  try {
    await expect(play(WEIGHED)).rejects.toThrow('to deeply equal')
  } finally {
    await owner.query(`begin; set local role rowhouse_owner; ${file}; commit`)
  }
})
