// Calls of several tenants share statements and transactions. Each is decided, booked and refused as if it were alone, and
// no tenant waits for what another one holds.
import { setTimeout as sleep } from 'node:timers/promises'
import { sql } from 'kysely'
import pg from 'pg'
import { beforeAll, describe, expect, test } from 'vitest'
import { isUndone } from '../../src/budgets/call-lane.ts'
import { type Rowhouse, TenantNotFoundError, TenantSuspendedError } from '../../src/index.ts'
import { withChangedFunction } from '../jobs/support.ts'
import { hourly, inTenant, rowhouseFor } from '../rate-limits/support.ts'
import { useDatabase } from '../setup/database.ts'
import { needs } from '../setup/needs.ts'
import { startProxy } from '../setup/proxy.ts'
import { differences, errorOf, expire, setPrices, standing } from './support.ts'

const database = useDatabase({ needs: ['parallelBackends'] })
const open = rowhouseFor(database)
/** The statements of the application, in the order in which they were sent. */
const statements: string[] = []
const shared = () => statements.filter((statement) => statement.includes('call_for_tenant')).length
const alone = () => statements.length - shared()
let rowhouse: Rowhouse
let owner: pg.Client
let sets = 0

beforeAll(async () => {
  rowhouse = open({ log: (event) => void statements.push(event.query.sql) })
  await setPrices(rowhouse)
  await rowhouse.rateLimits.setDefault('*', 'requests', hourly(1000))
  owner = await database.connect('owner')
})

/** New tenants, whose accounts are there already. */
async function newTenants(number: number): Promise<string[]> {
  const tenants = Array.from({ length: number }, (_, index) => `shared-${sets}-${String(index).padStart(2, '0')}`)
  sets++
  for (const tenant of tenants) {
    await rowhouse.tenants.provision(tenant, { tier: 'enterprise' })
    await rowhouse.tenant(tenant).budget.admit({ ...CALL, requestId: 'first' })
    await rowhouse.tenant(tenant).budget.settle('first', {})
  }
  statements.length = 0
  return tenants
}

const CALL = { model: 'large', units: { inputTokens: 1000, outputTokens: 800 }, rateLimit: null }
const admit = (tenant: string, requestId = 'r', request: object = {}) =>
  rowhouse.tenant(tenant).budget.admit({ ...CALL, ...request, requestId })
/** How many calls of a tenant are at work. */
const atWork = async (tenant: string) => (await standing(rowhouse, tenant, 'concurrency'))[1]
const settled = <T>(calls: readonly Promise<T>[]) => Promise.allSettled(calls)

/** Shared statements that wait for a tenant of {@link withSleep}. */
const SLEEPING = `select pid from pg_stat_activity where wait_event = 'PgSleep' and query like '%call_for_tenant%'`

/** Runs `fn` while each call of these tenants takes three seconds. */
const withSleep = <T>(tenants: readonly string[], fn: () => Promise<T>): Promise<T> => {
  const sleep = `begin perform pg_sleep(3) where rowhouse.current_tenant() = any ('{${tenants.join(',')}}');\n`
  return withChangedFunction(owner, 'lock_account', (source) => source.replace(/begin\n/, sleep), fn)
}

/** What calls of many tenants at once did, where they and the books of each tenant do not agree. */
async function callInManyNames() {
  const tenants = await newTenants(24)
  const budgetOf = (tenant: string, n: number) =>
    rowhouse.tenant(tenant, { userId: `u-${n}`, requestId: `http-${n}` }).budget
  const admissions = await Promise.all(
    tenants.map((tenant, n) =>
      budgetOf(tenant, n).admit({ ...CALL, requestId: 'same', units: { inputTokens: 1000 * (n + 1) } }),
    ),
  )
  const settlements = await Promise.all(
    tenants.map((tenant, n) => budgetOf(tenant, n).settle('same', { inputTokens: 500 * (n + 1) })),
  )
  const sent = { shared: shared(), alone: alone() }
  const wrong: unknown[] = []
  for (const [n, tenant] of tenants.entries()) {
    const { rows } = await rowhouse.withTenant(tenant, (db) =>
      sql<{ user_id: string; cost: string }>`
        select user_id, cost::float8::text as cost from rowhouse.usage_events where request_id = 'same'`.execute(db),
    )
    const price = (2 * (n + 1)) / 1000
    const told = [
      Number(admissions[n]!.cost),
      Number(settlements[n]!.cost),
      ...rows,
      await differences(rowhouse, tenant),
    ]
    const expected = [price, price / 2, { user_id: `u-${n}`, cost: String(price / 2) }, []]
    if (JSON.stringify(told) !== JSON.stringify(expected)) wrong.push({ tenant, told, expected })
  }
  return { sent, wrong }
}

test('calls of many tenants share statements, each in the books of its own and in the name of its user', async () => {
  const { sent, wrong } = await callInManyNames()
  expect(wrong).toEqual([])
  expect(sent.alone).toBe(0)
  expect(sent.shared).toBeLessThanOrEqual(8)
})

test('control: calls that stay those of the first tenant are noticed', needs('realRoles'), async () => {
  await withChangedFunction(
    owner,
    'call_for_tenant',
    (source) => source.replace("p_call ->> 'tenant'", `'shared-${sets}-00'`),
    async () => {
      // Where the first tenant is at work elsewhere, a call is made alone, and its admission is not there.
      const noticed = await callInManyNames().then(
        ({ wrong }) => wrong.length > 0,
        (error) => error.code === 'unknown_request',
      )
      expect(noticed).toBe(true)
    },
  )
})

test('a tenant with many calls makes them in statements of its own', async () => {
  const [busy, ...others] = await newTenants(4)
  const all = [
    ...Array.from({ length: 20 }, (_, n) => admit(busy!, `r-${n}`)),
    ...others.map((tenant) => admit(tenant)),
  ]
  expect((await settled(all)).every(({ status }) => status === 'fulfilled')).toBe(true)
  expect(statements.filter((statement) => statement.includes('rowhouse.admit('))).toHaveLength(1)
  expect(shared()).toBeGreaterThan(0)
  expect(await atWork(busy!)).toBe(20)
})

describe('no tenant waits for another one', needs('realRoles'), () => {
  /**
   * Calls of twelve tenants while something of one is held: whether the others are answered meanwhile, how many calls were
   * made alone, and what becomes of the one when it is held no more.
   */
  async function callBeside(
    hold: (tenant: string, holder: pg.Client) => Promise<unknown>,
    { role = 'app', request = {} }: { readonly role?: 'app' | 'operator'; readonly request?: object } = {},
  ) {
    const tenants = await newTenants(12)
    const holder = await database.connect(role)
    const held = tenants[5]!
    await hold(held, holder)
    statements.length = 0
    let isAnswered = false
    const call = admit(held, 'r', request).finally(() => {
      isAnswered = true
    })
    call.catch(() => {})
    const others = Promise.all(tenants.filter((tenant) => tenant !== held).map((tenant) => admit(tenant, 'r', request)))
    others.catch(() => {})
    const answered = await Promise.race([others.then(() => true), sleep(2000, false)])
    const heldMeanwhile = !isAnswered
    await holder.query('rollback')
    const outcome = await call.then(
      () => 'admitted',
      (error) => error.code,
    )
    await others
    return { answered, heldMeanwhile, outcome, alone: alone() }
  }

  const asTenant = (tenant: string, call: string) => async (holder: pg.Client) => {
    await holder.query(`begin; set local role rowhouse_app; set local app.tenant_id = '${tenant}'`)
    await holder.query(call)
  }
  const holdAccount = (tenant: string, holder: pg.Client) =>
    asTenant(tenant, `select rowhouse.admit('holder', '{}', null, 60000, null)`)(holder)
  const holdCounter = (tenant: string, holder: pg.Client) =>
    asTenant(tenant, `select rowhouse.take_rate_limit('requests', null, null, null, '{""}', '{1}', '{1}')`)(holder)
  const ONE_WAITS = { answered: true, heldMeanwhile: true, outcome: 'admitted', alone: 1 }

  test('whose transaction holds its account', async () => {
    expect(await callBeside(holdAccount)).toEqual(ONE_WAITS)
  })

  test('which is being erased', async () => {
    const erase = async (tenant: string, holder: pg.Client) => {
      await holder.query('begin; set local role rowhouse_admin')
      await holder.query('select rowhouse.erase_tenant($1)', [tenant])
    }
    expect(await callBeside(erase, { role: 'operator' })).toEqual(ONE_WAITS)
  })

  test('whose rate limit is being decided on', async () => {
    const hold = async (tenant: string, holder: pg.Client) => {
      await admit(tenant, 'adds the counter', { rateLimit: 'requests' })
      await holdCounter(tenant, holder)
    }
    expect(await callBeside(hold, { request: { rateLimit: 'requests' } })).toEqual(ONE_WAITS)
  })

  test('whose rate limit is decided on for the first time: those beside it are made again', async () => {
    const seen = await callBeside(holdCounter, { request: { rateLimit: 'requests' } })
    expect(seen).toMatchObject({ ...ONE_WAITS, alone: expect.any(Number) })
    expect(seen.alone).toBeLessThanOrEqual(4)
  })

  test('whose calls take long', needs('superuser'), async () => {
    const superuser = await database.connect('superuser')
    const tenants = await newTenants(6)
    const slow = tenants.slice(0, 3)
    await withSleep(slow, async () => {
      let answers = 0
      // In the three statements that there are at once.
      const calls = slow.map((tenant) => admit(tenant).finally(() => answers++))
      await expect.poll(async () => (await superuser.query(SLEEPING)).rows.length).toBe(3)
      await Promise.all(tenants.slice(3).map((tenant) => admit(tenant)))
      expect(answers).toBe(0)
      await Promise.all(calls)
    })
  })

  test('control: if the statement waited for the account, the others would wait too', async () => {
    const withoutTimeout = (source: string) => source.replace(`'200ms'`, `'0'`)
    const waiting = (source: string) => source.replace('for update skip locked', 'for update')
    await withChangedFunction(owner, 'call_for_tenant', withoutTimeout, () =>
      withChangedFunction(owner, 'lock_account', waiting, async () => {
        expect(await callBeside(holdAccount)).toMatchObject({ answered: false, outcome: 'admitted' })
      }),
    )
  })

  test('of which reservations are to be given back first, however many', async () => {
    const [late, ...others] = await newTenants(6)
    await admit(late!, 'expired')
    await expire(database, late!, 'expired')
    statements.length = 0
    await Promise.all([late!, ...others].map((tenant) => admit(tenant)))
    expect(statements.filter((statement) => statement.includes('rowhouse.admit('))).toHaveLength(1)
    expect(await atWork(late!)).toBe(1)
  })
})

describe('a call that fails fails alone', () => {
  /** One tenant's call fails; how many statements six tenants needed. */
  async function failBesideOthers([wrong, ...others]: readonly string[], name: string, request: object, code: string) {
    statements.length = 0
    const calls = [admit(wrong!, name, request), ...others.map((tenant) => admit(tenant, name))]
    const [bad, ...good] = await settled(calls)
    expect(good.map(({ status }) => status)).toEqual(others.map(() => 'fulfilled'))
    expect((bad as PromiseRejectedResult).reason).toMatchObject({ code })
    return { shared: shared(), alone: alone() }
  }

  test('and its tenant makes its calls alone for a while, which the others no longer notice', async () => {
    const tenants = await newTenants(6)
    const round = (name: string) => failBesideOthers(tenants, name, { units: { nothing: 1 } }, 'unknown_quota')
    // Split between three statements, so that those of one are undone and made alone.
    expect(await round('one')).toEqual({ shared: 3, alone: 2 })
    expect(await round('two')).toEqual({ shared: 3, alone: 1 })
    await sleep(1100)
    expect((await round('three')).alone).toBe(2)
    for (const tenant of tenants) expect(await differences(rowhouse, tenant)).toEqual([])
    expect(await atWork(tenants[1]!)).toBe(3)
  })

  test.for(['XX001', '57014', '53400', '40001'])('whatever it fails of: %s', needs('realRoles'), async (code) => {
    const tenants = await newTenants(6)
    const raise = `begin if rowhouse.current_tenant() = '${tenants[0]}' then
      raise exception using errcode = '${code}', message = 'for the test'; end if;\n`
    await withChangedFunction(
      owner,
      'lock_account',
      (source) => source.replace(/begin\n/, raise),
      async () => {
        const seen = await failBesideOthers(tenants, 'one', {}, code)
        expect(seen.shared).toBeLessThanOrEqual(3 + 4)
        expect((await failBesideOthers(tenants, 'two', {}, code)).shared).toBe(3)
      },
    )
  })

  test('in whatever language the server says so', async () => {
    const raised = (code: string, severity: string) =>
      Object.assign(new pg.DatabaseError('of a server', 0, 'error'), { code, severity })
    expect(isUndone(raised('RH050', 'ERROR'))).toBe(true)
    expect(isUndone(raised('RH050', 'FEHLER'))).toBe(true)
    expect(isUndone(new Error('wrapped', { cause: raised('XX001', 'ОШИБКА') }))).toBe(true)
    // The session is over, and nobody knows.
    expect(isUndone(raised('57P01', 'ВАЖНО'))).toBe(false)
    expect(isUndone(raised('XX000', 'PANIC'))).toBe(false)
    expect(isUndone(new Error('Connection terminated unexpectedly'))).toBe(false)
  })

  test('of tenants that may not work, without being told of the others', async () => {
    const [suspended, gone, ...others] = await newTenants(8)
    await admit(suspended!, 'before')
    await rowhouse.tenants.suspend(suspended!)
    statements.length = 0
    const results = await settled<unknown>([
      admit(suspended!),
      admit(`${gone}-unknown`),
      ...others.map((tenant) => admit(tenant)),
    ])
    const reasons = results.flatMap((result) => (result.status === 'rejected' ? [result.reason] : []))
    expect(reasons.map((reason) => reason.constructor)).toEqual([TenantSuspendedError, TenantNotFoundError])
    // Nothing was undone for them.
    expect(statements.filter((statement) => statement.includes('rowhouse.admit('))).toHaveLength(2)
    // What was admitted before is settled, beside the others.
    statements.length = 0
    const settlements = [suspended!, ...others].map((tenant) =>
      rowhouse.tenant(tenant).budget.settle(tenant === suspended ? 'before' : 'r', { inputTokens: 10 }),
    )
    expect((await Promise.all(settlements)).map(({ cost }) => Number(cost))).toEqual(settlements.map(() => 0.00002))
    await rowhouse.tenants.resume(suspended!)
  })

  test('and a denial is an answer, not a failure', async () => {
    const [poor, ...others] = await newTenants(6)
    await rowhouse.quotas.set(poor!, 'concurrency', { limit: 0 })
    statements.length = 0
    const [denied, ...admitted] = await settled([poor!, ...others].map((tenant) => admit(tenant)))
    expect((denied as PromiseRejectedResult).reason).toMatchObject({ code: 'quota_exceeded', retryAfterMs: undefined })
    expect(admitted.every(({ status }) => status === 'fulfilled')).toBe(true)
    expect(alone()).toBe(0)
  })
})

test('when the connection breaks, every call on it learns that nobody knows', async () => {
  const tenants = await newTenants(8)
  const proxy = await startProxy(database.url('app'))
  const through = open({ connectionString: proxy.url })
  try {
    await through.tenant(tenants[0]!).budget.checkQuotas()
    // The answers are on their way when the connections break.
    proxy.delay({ toClient: 300 })
    proxy.resetCounters()
    const calls = settled(tenants.map((tenant) => through.tenant(tenant).budget.admit({ ...CALL, requestId: 'r' })))
    await expect.poll(() => proxy.counters.flights).toBeGreaterThan(0)
    await sleep(100)
    await proxy.cut()
    const reasons = (await calls).flatMap((call) => (call.status === 'rejected' ? [call.reason] : []))
    expect(reasons).toHaveLength(8)
    for (const reason of reasons) expect(reason.message).toMatch(/connection|terminated|ECONNRESET/i)
    // Whatever became of them: asked again, each is admitted once.
    await Promise.all(tenants.map((tenant) => admit(tenant)))
    for (const tenant of tenants) expect(await atWork(tenant)).toBe(1)
  } finally {
    await proxy.close()
  }
})

test(
  'when the session is ended, nobody is told what the others asked for',
  needs('superuser', 'realRoles'),
  async () => {
    const superuser = await database.connect('superuser')
    const tenants = await newTenants(6)
    const outcome = withSleep(tenants.slice(0, 1), async () => {
      const calls = tenants.map((tenant) => admit(tenant))
      calls.forEach((call) => void call.catch(() => {}))
      await expect.poll(async () => (await superuser.query(SLEEPING)).rows.length).toBe(1)
      await superuser.query(`select pg_terminate_backend(pid) from (${SLEEPING}) sleeping`)
      return settled(calls)
    })
    const reasons = (await outcome).flatMap((call) => (call.status === 'rejected' ? [call.reason] : []))
    // Two of the six, which were in its statement.
    expect(reasons.map(({ code }) => code)).toEqual(['57P01', '57P01'])
    expect(reasons.map(({ where, detail }) => where ?? detail)).toEqual([undefined, undefined])
    await Promise.all(tenants.map((tenant) => admit(tenant)))
    for (const tenant of tenants) expect(await atWork(tenant)).toBe(1)
  },
)

test('names that were cut in the middle of a character are those that Postgres makes of them', async () => {
  const tenants = await newTenants(6)
  const userId = 'Ann \u{1F600}'.slice(0, 5)
  await Promise.all(tenants.map((tenant) => rowhouse.tenant(tenant, { userId }).budget.admit({ ...CALL })))
  expect(alone()).toBe(0)
  const { rows } = await rowhouse.withTenant(tenants[0]!, (db) =>
    sql`select user_id from rowhouse.reservations`.execute(db),
  )
  expect(rows).toEqual([{ user_id: 'Ann \ufffd' }])
})

test('another default isolation level changes nothing', async () => {
  const tenants = await newTenants(6)
  const url = new URL(database.url('app'))
  url.searchParams.set('options', '-c default_transaction_isolation=serializable')
  const serializable = open({ connectionString: url.href, log: (event) => void statements.push(event.query.sql) })
  await serializable.tenant(tenants[0]!).budget.checkQuotas()
  statements.length = 0
  await Promise.all(tenants.map((tenant) => serializable.tenant(tenant).budget.admit({ ...CALL })))
  expect(alone()).toBe(0)
})

test('calls that belong to a transaction, or say what it is to be like, are not shared', async () => {
  const tenants = await newTenants(4)
  await Promise.all(
    tenants.map((tenant) => rowhouse.withTenant(tenant, (_, context) => context.budget.admit({ ...CALL }))),
  )
  const serializable = tenants.map((tenant) => rowhouse.tenant(tenant, { isolationLevel: 'serializable' }).budget)
  await Promise.all(serializable.map((budget) => budget.admit({ ...CALL })))
  expect(shared()).toBe(0)
})

describe('rowhouse.call_for_tenant', () => {
  const call = (tenant: string, members: object = {}) => ({
    tenant,
    function: 'admit',
    requestId: 'by hand',
    units: {},
    leaseMs: 1000,
    subject: '',
    circuit: '',
    ...members,
  })
  const asApp = async (calls: unknown, before = '') => {
    const client = await database.connect('app')
    try {
      await client.query(`begin; set local role rowhouse_app; ${before}`)
      const { rows } = await client.query(
        'select rowhouse.call_for_tenant(c.value) as answer from jsonb_array_elements($1) c (value)',
        [JSON.stringify(calls)],
      )
      const { rows: left } = await client.query(
        `select name, current_setting(name, true) as value
          from unnest('{app.tenant_id,app.user_id,app.request_id}'::text[]) name where current_setting(name, true) <> ''`,
      )
      await client.query('commit')
      return { answers: rows.map(({ answer }) => answer), left }
    } finally {
      await client.end()
    }
  }

  test('refuses the transaction of a tenant, whoever injected it, and leaves nobody behind', async () => {
    const [acme, globex] = await newTenants(2)
    const inside = inTenant(await database.connect('app'), acme!, 'select rowhouse.call_for_tenant($1)', [
      JSON.stringify(call(globex!)),
    ])
    await expect(inside).rejects.toMatchObject({ code: 'RH005' })
    expect(await atWork(globex!)).toBe(0)
    expect(await asApp([call(acme!), call(globex!, { user: 'ann', request: 'http' })])).toMatchObject({
      answers: [{ admitted: true }, { admitted: true }],
      left: [],
    })
  })

  test('does nothing when one call is none, or not of a tenant', async () => {
    const [acme] = await newTenants(1)
    const wrong: [unknown, string][] = [
      [call(acme!, { function: 'release' }), 'RH052'],
      [call(acme!, { requestId: 'other', leaseMs: 0 }), 'RH052'],
      [call(acme!, { requestId: 'other', units: { nothing: 1 } }), 'RH050'],
      [{ ...call(''), tenant: undefined }, 'RH001'],
    ]
    for (const [bad, code] of wrong) {
      await expect(asApp([call(acme!), bad])).rejects.toMatchObject({ code })
    }
    expect(await atWork(acme!)).toBe(0)
    // One that is no tenant is to be made alone, where it is refused with the reason.
    expect(await asApp([call(acme!), call("o'nobody; set role postgres")])).toMatchObject({
      answers: [{ admitted: true }, null],
    })
  })

  test('works where set_config is revoked', needs('superuser', 'realRoles'), async () => {
    const superuser = await database.connect('superuser')
    const [acme] = await newTenants(1)
    await superuser.query('revoke execute on function pg_catalog.set_config(text, text, boolean) from public')
    try {
      expect(await asApp([call(acme!)])).toMatchObject({ answers: [{ admitted: true }] })
    } finally {
      await superuser.query('grant execute on function pg_catalog.set_config(text, text, boolean) to public')
    }
  })

  test('has no proof where seals are required, and clients with a seal do not use it', needs('realRoles'), async () => {
    const tenants = await newTenants(4)
    const key = 'k'.repeat(32)
    const { seals } = open({
      connectionString: database.url('owner'),
      admin: { connectionString: database.url('owner') },
    })
    await seals.addKey(key)
    const sealed = open({ seal: key, log: (event) => void statements.push(event.query.sql) })
    const admitSealed = () => Promise.all(tenants.map((tenant) => sealed.tenant(tenant).budget.admit({ ...CALL })))
    await admitSealed()
    await admitSealed()
    expect(shared()).toBe(0)
    await seals.require(true)
    try {
      const [first] = tenants
      await expect(asApp([call(first!)])).rejects.toMatchObject({ code: 'RH007' })
      expect((await errorOf(admit(first!, 'unsealed'))).code).toBe('tenant_not_sealed')
      await admitSealed()
    } finally {
      await seals.require(false)
    }
  })
})
