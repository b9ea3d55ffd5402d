// What limits a tenant is put together once and kept with its account: every change of a limit, and the end of every
// period, must be seen by the next call all the same.
import { beforeAll, describe, expect, test } from 'vitest'
import type { Rowhouse } from '../../src/index.ts'
import { expectClosed } from '../isolation/support/expect-closed.ts'
import { provision, rowhouseFor } from '../rate-limits/support.ts'
import { poll } from '../setup/connection.ts'
import { useDatabase } from '../setup/database.ts'
import { needs } from '../setup/needs.ts'
import { openSessions, waitUntilBlocked } from '../setup/sessions.ts'
import { asRowhouseOwner, errorOf, setPrices } from './support.ts'

const database = useDatabase()
const open = rowhouseFor(database)
let rowhouse: Rowhouse
beforeAll(async () => {
  rowhouse = open()
  await setPrices(rowhouse)
  await provision(database, 'acme', 'waiting')
  await rowhouse.quotas.define('pages_per_day', { metric: 'pages', period: 'day' })
  await rowhouse.quotas.set('acme', 'tokens_per_day', { limit: null })
})

const asOwner = (sql: string) => asRowhouseOwner(database, 'acme', sql)

/** Admits a call and gives it back: nothing when it is refused. */
async function admitted(request: { model?: string; units?: Record<string, number> }): Promise<string[]> {
  const { budget } = rowhouse.tenant('acme')
  const outcome = await budget.admit({ ...request, rateLimit: null }).then(
    ({ requestId }) => requestId,
    ({ code }: { code: string }) => {
      expect(['quota_exceeded', 'model_not_allowed']).toContain(code)
    },
  )
  if (outcome === undefined) return []
  await budget.release(outcome)
  return [outcome]
}

describe('the next call after a change of', () => {
  const page = { units: { pages: 1 } }
  const changes = {
    'the limit of its own': {
      table: 'quota_overrides',
      allow: () => rowhouse.quotas.set('acme', 'pages_per_day', { limit: 10 }),
      forbid: () => rowhouse.quotas.set('acme', 'pages_per_day', { limit: 0 }),
      request: page,
    },
    'whether it has one of its own': {
      table: 'quota_overrides',
      allow: () => rowhouse.quotas.set('acme', 'pages_per_day', null),
      forbid: () => rowhouse.quotas.set('acme', 'pages_per_day', { limit: 0 }),
      request: page,
    },
    'the limit of its tier': {
      table: 'quota_defaults',
      allow: () => rowhouse.quotas.setDefault('free', 'pages_per_day', { limit: 10 }),
      forbid: () => rowhouse.quotas.setDefault('free', 'pages_per_day', { limit: 0 }),
      request: page,
    },
    'the limit of all tiers': {
      table: 'quota_defaults',
      allow: () => rowhouse.quotas.setDefault('*', 'pages_per_day', null),
      forbid: () => rowhouse.quotas.setDefault('*', 'pages_per_day', { limit: 0 }),
      request: page,
    },
    'the models of its tier': {
      table: 'tier_models',
      allow: async () => {
        await rowhouse.quotas.setTierModels('free', null)
        // Its terms are put together anew, also while the trigger is gone.
        await rowhouse.quotas.setAccount('acme', {})
      },
      forbid: () => rowhouse.quotas.setTierModels('free', ['small']),
      request: { model: 'large' },
    },
  }
  test.each(Object.entries(changes))('%s sees it', async (_what, { table, allow, forbid, request }) => {
    await rowhouse.quotas.set('acme', 'pages_per_day', null)
    await rowhouse.quotas.setDefault('free', 'pages_per_day', null)
    await expectClosed({
      probe: async () => {
        await allow()
        expect(await admitted(request)).toHaveLength(1)
        await forbid()
        return admitted(request)
      },
      removeProtection: () => asOwner(`alter table rowhouse.${table} disable trigger rowhouse_terms`),
      restoreProtection: () => asOwner(`alter table rowhouse.${table} enable trigger rowhouse_terms`),
    })
    await allow()
  })

  test('its tier, and its own models, sees it', async () => {
    await rowhouse.quotas.setDefault('starter', 'pages_per_day', { limit: 0 })
    expect(await admitted(page)).toHaveLength(1)
    await rowhouse.tenants.setTier('acme', 'starter')
    expect(await admitted(page)).toEqual([])
    await rowhouse.tenants.setTier('acme', 'free')
    expect(await admitted({ model: 'large' })).toHaveLength(1)
    await rowhouse.quotas.setAccount('acme', { models: ['small'] })
    expect(await admitted({ model: 'large' })).toEqual([])
    await rowhouse.quotas.setAccount('acme', { models: null })
  })

  test('the rule of circuits counts for it', async () => {
    const { budget } = rowhouse.tenant('acme')
    const { requestId } = await budget.admit({ rateLimit: null })
    await rowhouse.circuits.setRule('free', { minCalls: 1, errorPercent: 1 })
    await budget.settle(requestId, {}, { failed: true })
    expect((await errorOf(budget.admit({ rateLimit: null }))).code).toBe('circuit_open')
    await rowhouse.circuits.setRule('free', null)
    await rowhouse.circuits.reset('acme')
    expect(await admitted(page)).toHaveLength(1)
  })
})

describe('terms', () => {
  const kept = async () =>
    (await asOwner(`select ctid, (terms).valid_from from rowhouse.accounts where tenant_id = 'acme'`))[0]
  /** As nothing but the end of a period would do. */
  const changeTerms = (fields: string) =>
    asOwner(`update rowhouse.accounts a
      set terms = jsonb_populate_record(a.terms, jsonb_build_object(${fields})) where a.tenant_id = 'acme'`)
  const periodOf = async (requestId: string) =>
    (
      await asOwner(
        `select (r.periods)[array_position(r.quotas, 'pages_per_day')] = date_trunc('day', r.admitted_at, 'UTC') as right
          from rowhouse.reservations r where r.tenant_id = 'acme' and r.request_id = '${requestId}'`,
      )
    )[0]!.right

  beforeAll(async () => {
    await rowhouse.quotas.set('acme', 'pages_per_day', { limit: 10 })
  })

  test('are written once, not with every call', async () => {
    await admitted({})
    const before = await kept()
    await admitted({})
    await rowhouse.tenant('acme').budget.checkQuotas()
    expect(await kept()).toEqual(before)
  })

  test('end with the first of their periods', async () => {
    let validUntil = 'clock_timestamp()'
    const wrong = `'period_starts', (select jsonb_agg(p - interval '1 day') from unnest((a.terms).period_starts) p)`
    await expectClosed({
      probe: async () => {
        await admitted({})
        await changeTerms(`${wrong}, 'valid_until', ${validUntil}`)
        const [requestId] = await admitted({ units: { pages: 1 } })
        return (await periodOf(requestId!)) ? [] : [requestId]
      },
      removeProtection: async () => {
        validUntil = `'infinity'`
      },
      restoreProtection: async () => {
        validUntil = 'clock_timestamp()'
        await rowhouse.quotas.set('acme', 'pages_per_day', { limit: 10 })
      },
    })
  })

  test.each([
    ['of a later moment, because the clock was set back', `'valid_from', clock_timestamp() + interval '1 hour'`],
    ['of another database', `'revision', gen_random_uuid()`],
    ['of another tier', `'tier', 'enterprise'`],
  ])('%s are not believed', async (_what, change) => {
    await admitted({})
    const unlimited = `'hard_limits', (select jsonb_agg(null::numeric) from unnest((a.terms).hard_limits))`
    await changeTerms(`${unlimited}, ${change}`)
    expect(await admitted({ units: { pages: 11 } })).toEqual([])
    // The control: these are.
    await changeTerms(unlimited)
    expect(await admitted({ units: { pages: 11 } })).toHaveLength(1)
    await rowhouse.quotas.set('acme', 'pages_per_day', { limit: 10 })
  })

  test('of a rolling quota end with the first or the last of its sixtieths', async () => {
    const windowMs = 3_600_001
    await rowhouse.quotas.define('bursts', { metric: 'bursts', period: 'rolling', windowMs })
    await rowhouse.quotas.set('acme', 'bursts', { limit: 5 })
    const bucket = (at: string, backMs: number) => `rowhouse.rolling_bucket(${windowMs}, ${at}, ${backMs})`
    const end = 't.valid_until'
    const read = async () => {
      await admitted({})
      return asOwner(`
        select (t.counted_from)[n] = ${bucket(`${end} - interval '1 microsecond'`, windowMs)} as counts,
            (t.period_starts)[n] = ${bucket(`${end} - interval '1 microsecond'`, 0)} as begins,
            (t.counted_from)[n] <> ${bucket(end, windowMs)} or (t.period_starts)[n] <> ${bucket(end, 0)}
              -- Of its other quotas.
              or ${end} = date_trunc('day', ${end}, 'UTC') as ends
          from rowhouse.accounts a
          cross join lateral (select (a.terms).*, array_position((a.terms).names, 'bursts') as n) t
          where a.tenant_id = 'acme' and a.terms is distinct from null`)
    }
    // Terms that end within a second are not kept.
    const [terms] = await poll(async () => ((await read()).length > 0 ? read() : undefined), {
      message: () => 'no terms are kept',
    })
    expect(terms).toEqual({ counts: true, begins: true, ends: true })
    await rowhouse.quotas.set('acme', 'bursts', null)
  })
})

test('who writes limits of all tenants at once reaches their terms, or nothing', needs('superuser'), async () => {
  await rowhouse.quotas.set('acme', 'pages_per_day', { limit: 10 })
  const superuser = await database.connect('superuser')
  const forbid = `update rowhouse.quota_overrides set hard_limit = 0 where name = 'pages_per_day'`
  await expectClosed({
    probe: async () => {
      await rowhouse.quotas.set('acme', 'pages_per_day', { limit: 10 })
      expect(await admitted({ units: { pages: 1 } })).toHaveLength(1)
      await superuser.query(forbid)
      return admitted({ units: { pages: 1 } })
    },
    // As rowhouse_owner, whom policies hold back, it would find no account.
    removeProtection: () => superuser.query('alter function rowhouse.forget_terms() security definer'),
    restoreProtection: () => superuser.query('alter function rowhouse.forget_terms() security invoker'),
  })
  await rowhouse.quotas.set('acme', 'pages_per_day', { limit: 10 })
  await admitted({})
  await superuser.query('begin; truncate rowhouse.quota_overrides; commit')
  expect(await admitted({ units: { pages: 11 } })).toHaveLength(1)
})

test(
  'operators who change limits of tiers wait for each other, and never in a circle',
  needs('parallelBackends'),
  async () => {
    const { first, second } = await openSessions(database, { first: 'operator', second: 'operator' })
    const set = (tier: string, limit: number) =>
      `select rowhouse.set_default_quota('${tier}', 'pages_per_day', ${limit})`
    await first.run(`set role rowhouse_admin; begin; ${set('free', 100)}`)
    const waiting = second.run(`set role rowhouse_admin; ${set('professional', 101)}`)
    await waitUntilBlocked(second)
    await first.run(`${set('professional', 102)}; commit`)
    await waiting
    const { rows } = await first.client.query(
      `select hard_limit::int as limit from rowhouse.quota_defaults where name = 'pages_per_day' and tier = 'professional'`,
    )
    expect(rows).toEqual([{ limit: 101 }])
  },
)

test('a quota that is defined again leaves all terms as they are', async () => {
  const revision = () => asOwner('select revision from rowhouse.limits_revision')
  const before = await revision()
  await rowhouse.quotas.define('pages_per_day', { metric: 'pages', period: 'day' })
  expect(await revision()).toEqual(before)
})

test('a call that waits for another one sees the limit that was set meanwhile', needs('parallelBackends'), async () => {
  await rowhouse.quotas.set('waiting', 'pages_per_day', { limit: 10 })
  const { first, operator, second } = await openSessions(database, {
    first: 'app',
    operator: 'operator',
    second: 'app',
  })
  const begin = `begin; set local role rowhouse_app; set local app.tenant_id = 'waiting'`
  const admit = (id: string) =>
    `select rowhouse.admit('${id}', '{"pages": 1}', null, 60000, null) ->> 'admitted' as admitted`
  await first.run(`${begin}; ${admit('first')}`)
  const setting = operator.run(`set role rowhouse_admin; select rowhouse.set_quota('waiting', 'pages_per_day', 1)`)
  await waitUntilBlocked(operator)
  await second.run(begin)
  const waiting = second.client.query<{ admitted: string }>(admit('second'))
  await waitUntilBlocked(second)
  await first.run('commit')
  await setting
  expect((await waiting).rows).toEqual([{ admitted: 'false' }])
  await second.run('commit')
})
