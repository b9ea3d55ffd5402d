// Never two holders: for random histories of several clients, and with many at once.
import { setTimeout as sleep } from 'node:timers/promises'
import fc from 'fast-check'
import type pg from 'pg'
import { beforeAll, expect, test } from 'vitest'
import type { Lock } from '../../src/index.ts'
import { rowsInTenant } from '../isolation/support/in-tenant.ts'
import { ACME, useSessions } from '../sessions/fixture.ts'
import { useDatabase } from '../setup/database.ts'
import { needs } from '../setup/needs.ts'

const database = useDatabase()
const fixture = useSessions(database, { poolSize: 12 })
let app: pg.Client
beforeAll(async () => {
  app = await database.connect('app')
})

type Step = { client: number; action: 'acquire' | 'renew' | 'release' | 'fence' | 'lease ends' }
const step: fc.Arbitrary<Step> = fc.record({
  client: fc.nat(2),
  action: fc.constantFrom('acquire', 'acquire', 'renew', 'release', 'fence', 'lease ends'),
})

test('one holder at a time, with growing tokens, for any history of three clients', async () => {
  let number = 0
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 40 }), async (steps) => {
      const { locks } = fixture.acme
      const name = `history ${number++}`
      /** The last lock that each client got, whether or not it still holds it. */
      const last: (Lock | undefined)[] = []
      let holder: number | undefined
      let token = 0
      for (const { client, action } of steps) {
        const lock = last[client]
        if (action === 'acquire') {
          const acquired = await locks.acquire(name, { leaseMs: 60_000 })
          expect(acquired === undefined).toBe(holder !== undefined)
          if (acquired === undefined) continue
          expect(acquired.token).toBeGreaterThan(token)
          ;[token, holder, last[client]] = [acquired.token, client, acquired]
        } else if (action === 'lease ends') {
          const sql = `update rowhouse.resource_locks set expires_at = clock_timestamp() where name = '${name}'`
          await rowsInTenant(app, ACME, sql, { commit: true })
          holder = undefined
        } else if (lock !== undefined) {
          const holds = holder === client && lock.token === token
          if (action === 'release') {
            expect(await lock.release()).toBe(holds)
            if (holds) holder = undefined
          } else {
            const outcome = action === 'renew' ? lock.renew() : locks.fence(lock)
            expect(
              await outcome.then(
                () => true,
                (error) => error.code,
              ),
            ).toBe(holds || 'lock_lost')
          }
        }
      }
    }),
    { numRuns: 40 },
  )
}, 120_000)

test('12 workers with short leases, some of which crash or are slow, never hold it at once', {
  ...needs('parallelBackends'),
  timeout: 120_000,
}, async () => {
  const { locks, state } = fixture.acme
  /** When each holder had the lock for sure, by the clock of this process, and its token. */
  const holds: { token: number; from: number; to: number }[] = []
  let overtaken = 0
  await state.set('counter', 0)
  const worker = async (number: number) => {
    for (let round = 0; round < 6; round++) {
      const lock = await locks.acquire('shared', { leaseMs: 80, waitMs: 100_000 })
      const from = performance.now()
      const kind = (number + round) % 4
      // Some crash: they never release. Some are slow: they go on when their lease has long ended.
      if (kind === 1) await sleep(160)
      const wrote = await fixture.rowhouse
        .withTenant(ACME, async (_db, tenant) => {
          await tenant.locks.fence(lock!)
          const count = (await tenant.state.get<number>('counter'))!
          await tenant.state.set('counter', count + 1)
          holds.push({ token: lock!.token, from: performance.now(), to: Number.POSITIVE_INFINITY })
          return true
        })
        .catch((error) => {
          expect(error.code).toBe('lock_lost')
          return false
        })
      const hold = holds.find(({ token }) => token === lock!.token)
      if (wrote) hold!.to = performance.now()
      else overtaken++
      expect(performance.now()).toBeGreaterThan(from)
      if (kind !== 2) await lock!.release()
    }
  }
  await Promise.all(Array.from({ length: 12 }, (_, number) => worker(number)))
  // Every transaction that wrote, wrote alone: no increment was lost.
  expect(await state.get('counter')).toBe(holds.filter(({ to }) => to !== Number.POSITIVE_INFINITY).length)
  expect(overtaken).toBeGreaterThan(0)
  const tokens = holds.map(({ token }) => token)
  expect([...tokens].sort((one, other) => one - other)).toEqual(tokens)
})
