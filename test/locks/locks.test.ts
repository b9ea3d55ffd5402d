import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createRowhouse, type Lock, type Rowhouse } from '../../src/index.ts'
import { expectError } from '../documents/fixture.ts'
import { rowsInTenant } from '../isolation/support/in-tenant.ts'
import { ACME, GLOBEX, provision, useSessions } from '../sessions/fixture.ts'
import { useDatabase } from '../setup/database.ts'
import { needs } from '../setup/needs.ts'

const database = useDatabase()
const fixture = useSessions(database, { poolSize: 12 })
const NEVER = '6f3a9c1e-0000-4000-8000-000000000000'

/** Lets the lease of a lock end now, as if its holder had crashed long enough ago. */
async function endLease(name: string, ago = '1 ms', tenantId = ACME): Promise<void> {
  const app = await database.connect('app')
  const sql = `update rowhouse.resource_locks set expires_at = clock_timestamp() - interval '${ago}' where name = '${name}'`
  await rowsInTenant(app, tenantId, sql, { commit: true })
  await app.end()
}

describe('acquire', () => {
  test('one holder at a time, until the lock is released', async () => {
    const { locks } = fixture.acme
    const first = await locks.acquire('one')
    expect(first).toMatchObject({ name: 'one', token: expect.any(Number) })
    expect(first!.expiresAt.getTime()).toBeGreaterThan(Date.now() + 20_000)
    expect(await locks.acquire('one')).toBeUndefined()
    expect(await locks.acquire('another')).toBeDefined()
    expect(await first!.release()).toBe(true)
    expect(await first!.release()).toBe(false)
    const second = await locks.acquire('one')
    expect(second!.token).toBeGreaterThan(first!.token)
  })

  test('tenants do not exclude each other', async () => {
    await fixture.acme.locks.acquire('same')
    expect(await fixture.globex.locks.acquire('same')).toBeDefined()
  })

  test('a lease that ended is free, and its holder has lost it', async () => {
    const { locks } = fixture.acme
    const crashed = await locks.acquire('crash')
    await endLease('crash')
    await expectError(crashed!.renew(), 'lock_lost', 'The lock "crash" is held no more')
    expect(crashed!.signal.aborted).toBe(true)
    const next = await locks.acquire('crash')
    expect(next!.token).toBeGreaterThan(crashed!.token)
    expect(await crashed!.release()).toBe(false)
    await next!.renew()
  })

  test('waits for a release', async () => {
    const { locks } = fixture.acme
    const first = await locks.acquire('wait')
    const waiting = locks.acquire('wait', { waitMs: 5000 })
    await sleep(50)
    await first!.release()
    expect(await waiting).toBeDefined()
  })

  test('waits for the end of a lease', async () => {
    const { locks } = fixture.acme
    const first = await locks.acquire('lease', { leaseMs: 200 })
    const second = await locks.acquire('lease', { leaseMs: 60_000, waitMs: 5000 })
    // By the clock of the database, whatever this process was held up.
    expect(second!.expiresAt.getTime() - 60_000).toBeGreaterThanOrEqual(first!.expiresAt.getTime())
  })

  test('waits no longer than it may', async () => {
    const { locks } = fixture.acme
    await locks.acquire('busy')
    const begun = performance.now()
    expect(await locks.acquire('busy', { waitMs: 100 })).toBeUndefined()
    expect(performance.now() - begun).toBeLessThan(20_000)
    const aborted = locks.acquire('busy', { waitMs: 60_000, signal: AbortSignal.timeout(50) })
    await expect(aborted).rejects.toThrow()
  })

  test('renewing begins the lease anew', async () => {
    const lock = await fixture.acme.locks.acquire('renewed', { leaseMs: 1000 })
    await lock!.renew({ leaseMs: 60_000 })
    expect(lock!.expiresAt.getTime()).toBeGreaterThan(Date.now() + 30_000)
  })

  test('is given back at the end of its block', async () => {
    const { locks } = fixture.acme
    {
      await using lock = await locks.acquire('block')
      expect(lock).toBeDefined()
      expect(await locks.acquire('block')).toBeUndefined()
    }
    expect(await locks.acquire('block')).toBeDefined()
  })

  test('tokens grow after the row was swept, too', async () => {
    const { locks } = fixture.acme
    const first = await locks.acquire('swept')
    await endLease('swept', '25 hours')
    expect(await locks.sweep()).toBeGreaterThan(0)
    expect((await locks.acquire('swept'))!.token).toBeGreaterThan(first!.token)
  })

  test('a lock that was taken in a transaction is free after its rollback', async () => {
    const { locks } = fixture.acme
    const failure = fixture.rowhouse.withTenant(ACME, async (_db, tenant) => {
      expect(await tenant.locks.acquire('rolled back')).toBeDefined()
      throw new Error('no')
    })
    await expect(failure).rejects.toThrow('no')
    expect(await locks.acquire('rolled back')).toBeDefined()
  })

  test('others do not wait for a transaction that holds a lock', needs('parallelBackends'), async () => {
    const app = await database.connect('app')
    await app.query(`begin; set local role rowhouse_app; set local app.tenant_id = '${ACME}'`)
    await app.query("select * from rowhouse.acquire_lock('open', interval '1 hour')")
    const begun = performance.now()
    expect(await fixture.acme.locks.acquire('open')).toBeUndefined()
    expect(performance.now() - begun).toBeLessThan(20_000)
    await app.query('rollback')
    expect(await fixture.acme.locks.acquire('open')).toBeDefined()
  })
})

describe('withLock', () => {
  test('gives back what the work returns, and the lock', async () => {
    const { locks } = fixture.acme
    expect(await locks.withLock('work', (lock) => lock.name)).toBe('work')
    await expect(
      locks.withLock('work', () => {
        throw new Error('no')
      }),
    ).rejects.toThrow('no')
    expect(await locks.withLock('work', () => 'again')).toBe('again')
  })

  test('fails when somebody else holds it', async () => {
    const { locks } = fixture.acme
    await locks.acquire('taken')
    const error = await expectError(
      locks.withLock('taken', () => 'never'),
      'lock_held',
      'The lock "taken" is held by somebody else',
    )
    expect(error).toMatchObject({ httpStatus: 409, retryable: true })
  })

  test('renews the lease while the work runs', async () => {
    const { locks } = fixture.acme
    const intruders: unknown[] = []
    await locks.withLock(
      'long',
      async () => {
        for (let round = 0; round < 8; round++) {
          await sleep(400)
          intruders.push(await locks.acquire('long'))
        }
      },
      // Renewed after a third of it: a machine under load has 1.3 seconds to be late.
      { leaseMs: 2000 },
    )
    expect(intruders).toEqual(Array(8).fill(undefined))
  })

  test('without renewal the work is told when the lock was lost', async () => {
    const { locks } = fixture.acme
    let later: Lock | undefined
    const failure = locks.withLock(
      'lost',
      async () => {
        await endLease('lost')
        later = await locks.acquire('lost')
        return 'done'
      },
      { renew: false },
    )
    await expectError(failure, 'lock_lost')
    expect(later).toBeDefined()
    // The lock of the next holder was not given back by the one before.
    expect(await locks.acquire('lost')).toBeUndefined()
  })

  test('the signal of a lock that was lost is aborted', async () => {
    const { locks } = fixture.acme
    const failure = locks.withLock(
      'signal',
      async (lock) => {
        await endLease('signal')
        if (!lock.signal.aborted) await once(lock.signal, 'abort')
        expect(lock.signal.reason).toMatchObject({ code: 'lock_lost' })
      },
      { leaseMs: 150 },
    )
    await expectError(failure, 'lock_lost')
  })
})

describe('fencing', () => {
  /** Another process, as far as the database can tell. */
  let other: Rowhouse
  beforeAll(async () => {
    await provision(database, 'fenced')
    other = createRowhouse({ pool: database.pool('app', { max: 1 }) })
  })
  afterAll(() => other?.close())

  test('a holder that was overtaken writes nothing', async () => {
    const { locks, state } = fixture.rowhouse.tenant('fenced')
    await state.set('log', [])
    const write = (lock: Lock, text: string) =>
      fixture.rowhouse.withTenant('fenced', async (_db, tenant) => {
        await tenant.locks.fence(lock)
        const log = await tenant.state.get<string[]>('log')
        await tenant.state.set('log', [...log!, text])
      })
    const slow = await locks.acquire('writer')
    await write(slow!, 'first')
    await endLease('writer', '1 ms', 'fenced')
    const quick = await locks.acquire('writer')
    await write(quick!, 'second')
    await expectError(write(slow!, 'late'), 'lock_lost')
    expect(await state.get('log')).toEqual(['first', 'second'])
  })

  test(
    'nobody takes the lock while a fenced transaction runs, even when its lease ends',
    needs('parallelBackends'),
    async () => {
      const { locks } = fixture.rowhouse.tenant('fenced')
      const lock = await locks.acquire('open', { leaseMs: 1000 })
      await fixture.rowhouse.withTenant('fenced', async (_db, tenant) => {
        await tenant.locks.fence(lock!)
        await sleep(1200)
        const taken = await other.tenant('fenced').locks.acquire('open')
        expect(taken).toBeUndefined()
      })
      expect(await locks.acquire('open')).toBeDefined()
    },
  )

  test('a token that never was, and one of another tenant', async () => {
    const { locks } = fixture.acme
    const foreign = await fixture.globex.locks.acquire('foreign')
    await expectError(
      locks.fence({ name: 'foreign', token: foreign!.token }),
      'lock_lost',
      /^the lock is held no more$/,
    )
    await expectError(locks.fence({ name: 'never', token: 1 }), 'lock_lost', /^the lock is held no more$/)
    await fixture.rowhouse.tenant(GLOBEX).locks.fence(foreign!)
  })
})

describe('bad input', () => {
  test.for<[string, string, object, string]>([
    ['an empty name', '', {}, 'The name of the lock is empty'],
    ['a zero byte', 'a\0', {}, 'contains a zero byte'],
    ['a long name', 'x'.repeat(513), {}, 'more than 512 characters'],
    ['a lease of nothing', 'a', { leaseMs: 0 }, 'leaseMs is not more than 0'],
    ['a lease of a week', 'a', { leaseMs: 604_800_000 }, 'leaseMs is more than a day'],
    ['a negative wait', 'a', { waitMs: -1 }, 'waitMs is less than 0'],
    ['an unknown option', 'a', { ttl: 1 }, 'unrecognized key: "ttl"'],
  ])('%s', async ([, name, options, message]) => {
    await expectError(fixture.acme.locks.acquire(name, options), 'invalid_state', message)
    await expectError(
      fixture.acme.locks.withLock(name, () => 'never', options),
      'invalid_state',
      message,
    )
  })

  test.for<[string, string]>([
    ["acquire_lock('', interval '1 s')", 'name of a lock'],
    ["acquire_lock(null, interval '1 s')", 'name of a lock'],
    ["acquire_lock('a', interval '0')", 'a lease is'],
    ["acquire_lock('a', null)", 'a lease is'],
    ["acquire_lock('a', interval '2 days')", 'a lease is'],
    [`renew_lock('a', '${NEVER}', interval '-1 s')`, 'a lease is'],
  ])('RH070: %s', async ([call, message]) => {
    const app = await database.connect('app')
    await expect(rowsInTenant(app, ACME, `select rowhouse.${call}`)).rejects.toMatchObject({
      code: 'RH070',
      message: expect.stringContaining(message),
    })
    await app.end()
  })
})
