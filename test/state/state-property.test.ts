// For random histories over two tenants, what a tenant reads is what a model says that saw this tenant's operations only.
import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { State } from '../../src/index.ts'
import { ACME, GLOBEX, useSessions } from '../sessions/fixture.ts'
import { useDatabase } from '../setup/database.ts'

const database = useDatabase()
const fixture = useSessions(database)

type Value = number | string | null | { a: number }
type Operation =
  | { kind: 'set' | 'setIfAbsent'; tenant: string; key: string; value: Value }
  | { kind: 'compareAndSet'; tenant: string; key: string; expected: Value | undefined; value: Value }
  | { kind: 'increment'; tenant: string; key: string; by: number }
  | { kind: 'delete' | 'clear'; tenant: string; key: string }

// Few of each, so that they meet.
const tenant = fc.constantFrom(ACME, GLOBEX)
const key = fc.constantFrom('a', 'a:b', 'a:c', 'ü')
const value = fc.constantFrom<Value>(0, 1, 'x', null, { a: 1 })
const operation: fc.Arbitrary<Operation> = fc.oneof(
  fc.record({ kind: fc.constantFrom('set', 'setIfAbsent'), tenant, key, value }),
  fc.record({
    kind: fc.constant('compareAndSet'),
    tenant,
    key,
    expected: fc.option(value, { nil: undefined }),
    value,
  }),
  fc.record({ kind: fc.constant('increment'), tenant, key, by: fc.integer({ min: -5, max: 5 }) }),
  fc.record({ kind: fc.constantFrom('delete', 'clear'), tenant, key }),
)

/** What the operation does to the model, and returns. */
function model(entries: Map<string, Value>, step: Operation): unknown {
  const current = entries.get(step.key)
  switch (step.kind) {
    case 'set':
      entries.set(step.key, step.value)
      return undefined
    case 'setIfAbsent':
      if (entries.has(step.key)) return false
      entries.set(step.key, step.value)
      return true
    case 'compareAndSet': {
      const equal = entries.has(step.key) && JSON.stringify(current) === JSON.stringify(step.expected)
      if (step.expected === undefined ? entries.has(step.key) : !equal) return false
      entries.set(step.key, step.value)
      return true
    }
    case 'increment': {
      if (entries.has(step.key) && typeof current !== 'number') return 'invalid_state'
      const sum = ((current as number | undefined) ?? 0) + step.by
      entries.set(step.key, sum)
      return sum
    }
    case 'delete':
      return entries.delete(step.key) ? 1 : 0
    default: {
      const doomed = [...entries.keys()].filter((candidate) => candidate.startsWith(step.key))
      for (const candidate of doomed) entries.delete(candidate)
      return doomed.length
    }
  }
}

async function run(state: State, step: Operation): Promise<unknown> {
  switch (step.kind) {
    case 'set':
    case 'setIfAbsent':
      return state[step.kind](step.key, step.value)
    case 'compareAndSet':
      return state.compareAndSet(step.key, step.expected, step.value)
    case 'increment':
      return state.increment(step.key, step.by).catch((error) => error.code)
    case 'delete':
      return state.delete(step.key)
    default:
      return state.clear({ prefix: step.key })
  }
}

test('a tenant lives as if it were alone', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(operation, { maxLength: 40 }), async (steps) => {
      const models = new Map<string, Map<string, Value>>()
      for (const tenantId of [ACME, GLOBEX]) {
        models.set(tenantId, new Map())
        await fixture.rowhouse.tenant(tenantId).state.clear({ prefix: '' })
      }
      for (const step of steps) {
        const { state } = fixture.rowhouse.tenant(step.tenant)
        expect(await run(state, step)).toEqual(model(models.get(step.tenant)!, step))
      }
      for (const [tenantId, entries] of models) {
        const listed = (await fixture.rowhouse.tenant(tenantId).state.list()).entries
        expect(Object.fromEntries(listed.map((entry) => [entry.key, entry.value]))).toEqual(Object.fromEntries(entries))
      }
    }),
    { numRuns: 40 },
  )
}, 120_000)
