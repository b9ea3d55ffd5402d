// Counters and limits belong to one tenant, can't be written around the limiter, and go with the tenant.
import type pg from 'pg'
import { beforeAll, describe, expect, test } from 'vitest'
import { expectClosed, REFUSED, unlessRefused } from '../isolation/support/expect-closed.ts'
import { rowsInTenant } from '../isolation/support/in-tenant.ts'
import { useDatabase } from '../setup/database.ts'
import { needs } from '../setup/needs.ts'
import { openSessions, waitUntilBlocked } from '../setup/sessions.ts'
import { hourly, provision, rowhouseFor } from './support.ts'

const database = useDatabase()
const open = rowhouseFor(database)
let app: pg.Client
let owner: pg.Client
beforeAll(async () => {
  await provision(database, 'acme', 'globex', 'leaving', 'waiting')
  app = await database.connect('app')
  owner = await database.connect('owner')
  const rowhouse = open()
  for (const tenant of ['acme', 'globex', 'leaving']) {
    await rowhouse.tenant(tenant).rateLimiter.allow('user:1', { windows: hourly(10) })
    await rowhouse.rateLimits.set(tenant, 'jobs', hourly(7))
  }
})

const asRowhouseOwner = (sql: string) => () => owner.query(`begin; set local role rowhouse_owner; ${sql}; commit`)

describe.for(['rate_limit_counters', 'rate_limit_overrides'])('%s', (table) => {
  test('a tenant sees its own rows only', async () => {
    expect(await rowsInTenant(app, 'acme', `select from rowhouse.${table}`)).toHaveLength(1)
    await expectClosed({
      probe: () => rowsInTenant(app, 'acme', `select * from rowhouse.${table} where tenant_id <> 'acme'`),
      removeProtection: asRowhouseOwner(`alter table rowhouse.${table} disable row level security`),
      restoreProtection: asRowhouseOwner(`alter table rowhouse.${table} enable row level security`),
    })
  })

  test('the application can change nothing but through the limiter', async () => {
    await expectClosed({
      probe: () =>
        unlessRefused(REFUSED, () => rowsInTenant(app, 'acme', `delete from rowhouse.${table} returning tenant_id`)),
      removeProtection: asRowhouseOwner(`grant delete on rowhouse.${table} to rowhouse_app`),
      restoreProtection: asRowhouseOwner(`revoke delete on rowhouse.${table} from rowhouse_app`),
    })
  })
})

test('the limits of tiers are read only, and setting limits is for operators', async () => {
  for (const sql of [
    'delete from rowhouse.rate_limit_defaults',
    `select rowhouse.set_rate_limit('acme', 'jobs', null)`,
    `select rowhouse.set_default_rate_limit('free', 'requests', null)`,
    `select rowhouse.sweep_rate_limits('globex')`,
  ]) {
    await expect(rowsInTenant(app, 'acme', sql)).rejects.toMatchObject({ code: REFUSED })
  }
})

test('an operator that sets a limit inside a tenant is in that tenant afterwards', async () => {
  const operator = await database.connect('operator')
  await operator.query("begin; set local role rowhouse_admin; set local app.tenant_id = 'acme'")
  await operator.query(`select rowhouse.set_rate_limit('globex', 'other', '[{"limit": 1, "windowMs": 1}]')`)
  const { rows } = await operator.query(`select current_setting('app.tenant_id') as tenant`)
  await operator.query('rollback')
  expect(rows).toEqual([{ tenant: 'acme' }])
})

test('counters are unlogged', async () => {
  const { rows } = await owner.query(
    `select relpersistence from pg_class where oid = 'rowhouse.rate_limit_counters'::regclass`,
  )
  expect(rows).toEqual([{ relpersistence: 'u' }])
})

describe('erasure', () => {
  test('takes counters and limits of the tenant, and none of others', async () => {
    const rowhouse = open()
    const { tables } = await rowhouse.tenants.erase('leaving')
    expect(tables).toMatchObject({ 'rowhouse.rate_limit_counters': 1, 'rowhouse.rate_limit_overrides': 1 })
    expect(await rowsInTenant(app, 'leaving', 'select from rowhouse.rate_limit_counters')).toEqual([])
    expect(await rowsInTenant(app, 'globex', 'select from rowhouse.rate_limit_counters')).toHaveLength(1)
  })

  test.for(['read committed', 'repeatable read'])(
    'a call in %s that began before leaves no counter behind',
    needs('parallelBackends'),
    async (isolation) => {
      const tenant = `waiting-${isolation.slice(0, 4)}`
      await provision(database, tenant)
      const { early, late } = await openSessions(database, { early: 'owner', late: 'app' })
      const enter = `set local role rowhouse_app; set local app.tenant_id = '${tenant}'`
      // The snapshot of the late one is older than the erasure.
      await late.client.query(`begin isolation level ${isolation}; ${enter}; select rowhouse.enter_tenant()`)
      await early.client.query(`begin; set local role rowhouse_admin`)
      await early.client.query('select rowhouse.erase_tenant($1)', [tenant])
      const call = late.client
        .query(`select rowhouse.rate_limit('x', p_windows => '[{"limit": 5, "windowMs": 3600000}]')`)
        .then(() => 'admitted')
        .catch((error) => error.code)
      await waitUntilBlocked(late)
      await early.client.query('commit')
      expect(await call).toBe(isolation === 'read committed' ? 'RH004' : '40001')
      await late.client.query('rollback')
      const superuser = await database.connect('superuser')
      const { rows } = await superuser.query('select from rowhouse.rate_limit_counters where tenant_id = $1', [tenant])
      expect(rows).toEqual([])
    },
  )
})

describe('counters that count nothing any more', () => {
  const count = async (tenant: string) =>
    (await rowsInTenant(app, tenant, 'select from rowhouse.rate_limit_counters')).length
  const age = () =>
    owner.query(`begin; set local role rowhouse_owner; set local app.tenant_id = 'acme';
      update rowhouse.rate_limit_counters set sweep_at = now() - interval '1 second'
        where tenant_id = 'acme' and subject like 'old%'; commit`)

  test('are deleted in bounded batches, and others stay', async () => {
    const before = await count('acme')
    const old = Array.from({ length: 25 }, (_, index) => `old:${index}`)
    await Promise.all(
      old.map((subject) =>
        open()
          .tenant('acme')
          .rateLimiter.allow(subject, { windows: hourly(2) }),
      ),
    )
    await age()
    const operator = await database.connect('operator')
    const sweep = async (most: number) =>
      (await operator.query<{ swept: number }>(
        `begin; set local role rowhouse_admin; select rowhouse.sweep_rate_limits('acme', ${most}) as swept; commit`,
      )) as unknown as { rows: { swept: number }[] }[]
    expect((await sweep(10))[2]!.rows).toEqual([{ swept: 10 }])
    expect(await open().rateLimits.sweep('acme')).toBe(15)
    expect(await count('acme')).toBe(before)
  })

  test('are taken away by calls for new subjects, without anybody sweeping', async () => {
    const old = Array.from({ length: 8 }, (_, index) => `old:${index}`)
    const { rateLimiter } = open().tenant('acme')
    await Promise.all(old.map((subject) => rateLimiter.allow(subject, { windows: hourly(2) })))
    const before = await count('acme')
    await age()
    await rateLimiter.allow('fresh:1', { windows: hourly(2) })
    await rateLimiter.allow('fresh:2', { windows: hourly(2) })
    expect(await count('acme')).toBe(before - 8 + 2)
  })
})
