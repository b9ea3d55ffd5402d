// Random sequences of calls against a model that knows only: what was spent, what is reserved, what the limit is.
import * as fc from 'fast-check'
import { beforeAll, expect, test } from 'vitest'
import { QuotaExceededError, type Rowhouse } from '../../src/index.ts'
import { provision, rowhouseFor } from '../rate-limits/support.ts'
import { useDatabase } from '../setup/database.ts'
import { differences, expire, setLimits } from './support.ts'

const database = useDatabase()
const open = rowhouseFor(database)
let rowhouse: Rowhouse
beforeAll(async () => {
  rowhouse = open()
})

interface Call {
  readonly requestId: string
  /** What it holds; 0 once it was released, ran out or ended. */
  held: number
  active: boolean
  ended: boolean
}

type Command =
  | { readonly do: 'admit'; readonly tokens: number }
  | {
      readonly do: 'settle' | 'part' | 'release' | 'expire' | 'extend'
      readonly which: number
      readonly tokens: number
    }
  | { readonly do: 'limit'; readonly tokens: number }

const tokens = fc.integer({ min: 0, max: 40 })
const which = fc.nat(30)
const command: fc.Arbitrary<Command> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ do: fc.constant('admit' as const), tokens }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('settle' as const), which, tokens }) },
  {
    weight: 4,
    arbitrary: fc.record({ do: fc.constantFrom('part', 'release', 'expire', 'extend' as const), which, tokens }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('limit' as const), tokens: fc.integer({ min: 0, max: 200 }) }) },
)

let runs = 0

test('the database does what the model does, step by step', { timeout: 180_000 }, async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(command, { minLength: 10, maxLength: 50, size: 'max' }), async (commands) => {
      const tenant = `model-${runs++}`
      await provision(database, tenant)
      const slots = 5
      let limit = 100
      await setLimits(rowhouse, tenant, { tokens_per_day: limit, concurrency: slots })
      const { budget } = rowhouse.tenant(tenant)
      const calls: Call[] = []
      let spent = 0
      let parts = 0
      const reserved = () => calls.reduce((sum, { held }) => sum + held, 0)
      const atWork = () => calls.filter(({ active }) => active).length

      for (const step of commands) {
        if (step.do === 'limit') {
          limit = step.tokens
          await rowhouse.quotas.set(tenant, 'tokens_per_day', { limit })
          continue
        }
        if (step.do === 'admit') {
          const requestId = `call ${calls.length}`
          const fits = (step.tokens === 0 || spent + reserved() + step.tokens <= limit) && atWork() < slots
          const admitted = await budget
            .admit({ requestId, units: { tokens: step.tokens }, rateLimit: null, leaseMs: 3_600_000 })
            .then(() => true)
            .catch((error) => {
              expect(error).toBeInstanceOf(QuotaExceededError)
              return false
            })
          expect(admitted).toBe(fits)
          if (admitted) calls.push({ requestId, held: step.tokens, active: true, ended: false })
        } else if (calls.length > 0) {
          const call = calls[step.which % calls.length]!
          await run(step.do, call, step.tokens)
        }
        const quota = (await budget.checkQuotas()).find(({ name }) => name === 'tokens_per_day')!
        expect({ spent: quota.used + quota.overrun, reserved: quota.reserved }).toEqual({ spent, reserved: reserved() })
        expect(quota.used + quota.reserved <= limit || quota.free === 0).toBe(true)
      }
      expect(await differences(rowhouse, tenant)).toEqual([])

      async function run(what: Exclude<Command['do'], 'admit' | 'limit'>, call: Call, amount: number): Promise<void> {
        const { requestId } = call
        switch (what) {
          case 'settle': {
            const { duplicate } = await budget.settle(requestId, { tokens: amount })
            expect(duplicate).toBe(call.ended)
            if (!duplicate) spent += amount
            Object.assign(call, { held: 0, active: false, ended: true })
            break
          }
          case 'part': {
            const part = budget.settle(requestId, { tokens: amount }, { part: `part ${parts++}` })
            if (call.ended) await expect(part).rejects.toMatchObject({ code: 'request_settled' })
            else {
              await part
              spent += amount
              call.held -= Math.min(call.held, amount)
            }
            break
          }
          case 'release': {
            if (call.ended) await expect(budget.release(requestId)).rejects.toMatchObject({ code: 'request_settled' })
            else expect(await budget.release(requestId)).toBe(call.active)
            Object.assign(call, { held: 0, active: false })
            break
          }
          case 'expire': {
            if (call.active) await expire(database, tenant, requestId)
            Object.assign(call, { held: 0, active: false })
            break
          }
          case 'extend': {
            if (call.active) await budget.extend(requestId, 3_600_000)
            else await expect(budget.extend(requestId)).rejects.toMatchObject({ httpStatus: 409 })
          }
        }
      }
    }),
    { numRuns: 20 },
  )
})
