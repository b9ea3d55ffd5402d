// Analytics: events are recorded once, counted exactly, kept apart, and go with their tenant.
import { sql } from 'kysely'
import { beforeAll, describe, expect, test } from 'vitest'
import type { Rowhouse, TenantContext } from '../../src/index.ts'
import { useRowhouse } from '../audit/support.ts'
import { errorOf } from '../budgets/support.ts'
import { expectClosed } from '../isolation/support/expect-closed.ts'
import { rowsInTenant } from '../isolation/support/in-tenant.ts'
import { useDatabase } from '../setup/database.ts'

const database = useDatabase()
const fixture = useRowhouse(database)
let rowhouse: Rowhouse
let tenants = 0
beforeAll(() => {
  rowhouse = fixture.rowhouse
})

async function newTenant(): Promise<TenantContext> {
  const id = `analytics-${tenants++}`
  await rowhouse.tenants.provision(id)
  return rowhouse.tenant(id, { userId: 'u_0' })
}

const rowsOf = (tenant: TenantContext) =>
  tenant.db.selectFrom('rowhouse.analytics_events').selectAll().orderBy('event_id').execute()

describe('track', () => {
  test('records what it is told', async () => {
    const tenant = await newTenant()
    const occurredAt = new Date('2026-11-01T10:00:00Z')
    const options = { source: 'web', actor: 'u_1', runId: 'r_1', eventId: 'e_1', occurredAt }
    expect(await tenant.track('document.opened', { title: 'Straße "7"', nested: { list: [1, null] } }, options)).toBe(
      true,
    )
    expect(await rowsOf(tenant)).toMatchObject([
      {
        event: 'document.opened',
        source: 'web',
        actor: 'u_1',
        run_id: 'r_1',
        event_id: 'e_1',
        occurred_at: occurredAt,
        properties: { title: 'Straße "7"', nested: { list: [1, null] } },
      },
    ])
  })

  test('without anything else: the user of the context, now, and an id of its own', async () => {
    const tenant = await newTenant()
    await tenant.track('opened')
    await tenant.track('opened')
    const rows = await rowsOf(tenant)
    expect(rows).toHaveLength(2)
    expect(rows[0]).toMatchObject({ actor: 'u_0', source: '', run_id: '', properties: {} })
    expect(Math.abs(rows[0]!.occurred_at.getTime() - Date.now())).toBeLessThan(60_000)
  })

  test('an event of an id is recorded once, by whomever and however often; the first one stays', async () => {
    const tenant = await newTenant()
    const answers = await Promise.all(
      Array.from({ length: 8 }, (_, attempt) => tenant.track('paid', { attempt }, { eventId: 'once' })),
    )
    expect(answers.filter(Boolean)).toHaveLength(1)
    const all = [
      { event: 'paid', eventId: 'once' },
      { event: 'paid', eventId: 'twice' },
      { event: 'paid', eventId: 'twice' },
    ]
    expect(await tenant.analytics.trackAll(all)).toBe(1)
    expect(await tenant.analytics.trackAll([])).toBe(0)
    expect(await rowsOf(tenant)).toHaveLength(2)
    const other = await newTenant()
    expect(await other.track('paid', {}, { eventId: 'once' })).toBe(true)
  })

  test('inside of a transaction it is part of it', async () => {
    const tenant = await newTenant()
    const work = rowhouse.withTenant(tenant.tenantId, async (_, inside) => {
      await inside.track('tried')
      throw new Error('undone')
    })
    await expect(work).rejects.toThrow('undone')
    expect(await rowsOf(tenant)).toEqual([])
  })

  test.each([
    ['no name', '', {}, {}],
    ['a long name', 'x'.repeat(101), {}, {}],
    ['a long source', 'x', {}, { source: 'x'.repeat(101) }],
    ['an empty id', 'x', {}, { eventId: '' }],
    ['a time that is none', 'x', {}, { occurredAt: new Date('nonsense') }],
    ['a time to come', 'x', {}, { occurredAt: new Date(Date.now() + 86_400_000) }],
    ['properties that are an array', 'x', [], {}],
    ['large properties', 'x', { text: 'x'.repeat(65_537) }, {}],
    ['an unknown option', 'x', {}, { when: 'now' }],
  ])('refused: %s', async (_, event, properties, options) => {
    const tenant = rowhouse.tenant('acme')
    const error = await errorOf(tenant.track(event, properties as never, options as never))
    expect(error).toMatchObject({ code: 'invalid_event', httpStatus: 400 })
    expect(await rowsOf(tenant)).toEqual([])
  })

  test.each([
    "select rowhouse.track_events('{}')",
    `select rowhouse.track_events('[{"event": ""}]')`,
    `select rowhouse.track_events('[{"properties": {}}]')`,
    `select rowhouse.track_events('[{"event": "x", "properties": 1}]')`,
    `select rowhouse.track_events('[{"event": "x", "occurredAt": "never"}]')`,
    `select rowhouse.track_events('[7]')`,
    "select rowhouse.event_breakdown(now(), now(), '{day,hour}')",
    "select rowhouse.event_breakdown(now(), now(), '{properties}')",
  ])('refused as SQL: %s', async (statement) => {
    await expect(rowsInTenant(fixture.app, 'acme', statement)).rejects.toMatchObject({ code: 'RH096' })
  })
})

describe('breakdown', () => {
  test('counts events and actors by event, source, actor, run and day', async () => {
    const tenant = await newTenant()
    const on = (day: number, event: string, source: string, actor: string, runId = '') => ({
      event,
      source,
      actor,
      ...(runId === '' ? {} : { runId }),
      occurredAt: new Date(Date.UTC(2026, 9, day, 12)),
    })
    await tenant.analytics.trackAll([
      on(1, 'opened', 'web', 'a'),
      on(1, 'opened', 'web', 'b'),
      on(1, 'answered', 'agent', 'a', 'r_1'),
      on(2, 'opened', 'mobile', 'a'),
      on(2, 'answered', 'agent', 'a', 'r_2'),
      on(2, 'answered', 'agent', 'c', 'r_2'),
      on(9, 'opened', 'web', 'z'),
    ])
    const span = { from: new Date('2026-10-01'), to: new Date('2026-10-03') }
    const counts = async (options: object) =>
      (await tenant.analytics.breakdown({ ...span, ...options })).map(({ events, actors, ...line }) => [
        ...Object.values(line).flatMap((value) => (value instanceof Date ? value.getUTCDate() : (value ?? []))),
        events,
        actors,
      ])
    expect(await counts({})).toEqual([
      ['answered', 3, 2],
      ['opened', 3, 2],
    ])
    expect(await counts({ by: ['day', 'event'] })).toEqual([
      [1, 'opened', 2, 2],
      [1, 'answered', 1, 1],
      [2, 'answered', 2, 2],
      [2, 'opened', 1, 1],
    ])
    expect(await counts({ by: ['source'] })).toEqual([
      ['agent', 3, 2],
      ['web', 2, 2],
      ['mobile', 1, 1],
    ])
    expect(await counts({ by: ['actor'], event: 'opened' })).toEqual([
      ['a', 2, 1],
      ['b', 1, 1],
    ])
    expect(await counts({ by: ['run'], event: 'answered' })).toEqual([
      ['r_2', 2, 2],
      ['r_1', 1, 1],
    ])
    expect(await counts({ by: [] })).toEqual([[6, 3]])
    expect(await counts({ from: new Date('2027-01-01'), to: new Date('2027-02-01') })).toEqual([])
  })

  test('days are those of the time zone of the tenant', async () => {
    const tenant = await newTenant()
    await rowhouse.quotas.setAccount(tenant.tenantId, { timeZone: 'Asia/Tokyo' })
    await tenant.track('opened', {}, { occurredAt: new Date('2026-10-01T20:00:00Z') })
    const [line] = await tenant.analytics.breakdown({ by: ['day'], from: new Date('2026-10-01') })
    expect(line!.periodStart).toEqual(new Date('2026-10-01T15:00:00Z'))
  })
})

describe('what becomes of them', () => {
  test('another tenant neither reads nor counts nor deletes them', async () => {
    const tenant = await newTenant()
    await tenant.track('secret.canary')
    await expectClosed({
      probe: () =>
        rowsInTenant(
          fixture.app,
          'globex',
          "select event from rowhouse.event_breakdown('-infinity', 'infinity') union all select event from rowhouse.analytics_events",
        ),
      removeProtection: () => asOwner('alter table rowhouse.analytics_events disable row level security'),
      restoreProtection: () => asOwner('alter table rowhouse.analytics_events enable row level security'),
    })
    expect(
      await rowsInTenant(fixture.app, 'globex', 'delete from rowhouse.analytics_events returning *', { commit: true }),
    ).toEqual([])
    await expect(
      rowsInTenant(fixture.app, tenant.tenantId, "update rowhouse.analytics_events set event = 'changed'"),
    ).rejects.toMatchObject({ code: '42501' })
    expect(await rowsOf(tenant)).toHaveLength(1)
  })

  test('they go after the retention of the tenant, and with the tenant', async () => {
    const tenant = await newTenant()
    const days = [1, 6, 29, 31, 400]
    await tenant.analytics.trackAll(
      days.map((day) => ({ event: 'opened', eventId: `${day}`, occurredAt: new Date(Date.now() - day * 86_400_000) })),
    )
    expect(await tenant.analytics.sweep({ batchSize: 1 })).toBe(2)
    await asOwner(
      `update rowhouse.tenants set settings = '{"retentionDays": {"events": 5}}' where tenant_id = '${tenant.tenantId}'`,
    )
    expect(await rowhouse.sweep({ tenantId: tenant.tenantId })).toMatchObject([{ events: 2 }])
    expect((await rowsOf(tenant)).map((row) => row.event_id)).toEqual(['1'])
    const receipt = await rowhouse.tenants.erase(tenant.tenantId)
    expect(receipt.tables['rowhouse.analytics_events']).toBe(1)
    const [left] = await rowhouse.query(
      'acme',
      () => sql<{ n: number }>`select count(*)::int as n from rowhouse.analytics_events`,
    )
    expect(left).toEqual({ n: 0 })
  })
})

async function asOwner(statement: string): Promise<void> {
  const owner = await database.connect('owner')
  await owner.query(`begin; set local role rowhouse_owner; ${statement}; commit`)
}
