// Tenants share slots and learn nothing of each other: not the schedule, nor the requests, nor by trying tickets.
import { beforeAll, expect, test } from 'vitest'
import { expectClosed, REFUSED, unlessRefused } from '../isolation/support/expect-closed.ts'
import { rowsInTenant } from '../isolation/support/in-tenant.ts'
import { useDatabase } from '../setup/database.ts'
import { provisionFor, QueueDriver, useRowhouse } from './support.ts'

const database = useDatabase()
const fixture = useRowhouse(database)
let globexTicket: string

beforeAll(async () => {
  await provisionFor(fixture.rowhouse, 'acme-q', 'globex-q')
  await fixture.rowhouse.queues.define('gpu', { slots: 1 })
  const slot = await fixture.rowhouse
    .tenant('globex-q', { userId: 'canary' })
    .queue('gpu')
    .acquire({ leaseMs: 3_600_000 })
  globexTicket = slot.ticket
})

test.each(['queues', 'queue_shares', 'queue_tenants', 'queue_tickets'])(
  'the application does not read rowhouse.%s',
  async (table) => {
    await expectClosed({
      probe: () => unlessRefused(REFUSED, () => rowsInTenant(fixture.app, 'acme-q', `select * from rowhouse.${table}`)),
      removeProtection: () =>
        asOwner(
          `grant select on rowhouse.${table} to rowhouse_app; alter table rowhouse.${table} disable row level security`,
        ),
      restoreProtection: () =>
        asOwner(
          `revoke select on rowhouse.${table} from rowhouse_app; alter table rowhouse.${table} enable row level security`,
        ),
    })
  },
)

test('requests of another tenant are not seen', async () => {
  await expectClosed({
    probe: () => rowsInTenant(fixture.app, 'acme-q', 'select user_id from rowhouse.queue_requests'),
    removeProtection: () => asOwner('alter table rowhouse.queue_requests disable row level security'),
    restoreProtection: () => asOwner('alter table rowhouse.queue_requests enable row level security'),
  })
})

test.each([
  ['renewed', (ticket: string) => `select status from rowhouse.renew_tickets('gpu', '{${ticket}}')`],
  ['given back', (ticket: string) => `select rowhouse.leave_queue('gpu', '${ticket}') as status`],
  ['looked at', (ticket: string) => `select status from rowhouse.queue_position('gpu', '${ticket}')`],
])('a ticket of another tenant can not be %s, and is no different from none', async (_, sql) => {
  for (const ticket of [globexTicket, '6f3a9c1e-0000-4000-8000-000000000000']) {
    expect(await rowsInTenant(fixture.app, 'acme-q', sql(ticket))).toEqual([{ status: 'gone' }])
  }
  expect(await fixture.rowhouse.tenant('globex-q').queue('gpu').position(globexTicket)).toMatchObject({
    status: 'running',
  })
})

test('the same ticket of two tenants is two requests', async () => {
  const joined = await rowsInTenant(
    fixture.app,
    'acme-q',
    `select status from rowhouse.join_queue('gpu', '${globexTicket}', 1, 60000, 60000, 60000)`,
    { commit: true },
  )
  expect(joined).toEqual([{ status: 'waiting' }])
  const driver = await QueueDriver.open(database, 'gpu')
  expect((await driver.tickets()).map(({ tenant }) => tenant)).toEqual(['globex-q', 'acme-q'])
  expect(await fixture.rowhouse.tenant('acme-q').queue('gpu').ticket(globexTicket).cancel()).toBe(true)
  expect((await driver.tickets()).map(({ tenant }) => tenant)).toEqual(['globex-q'])
})

test('operators see how many, and no requests', async () => {
  expect(await fixture.rowhouse.queues.utilization('gpu')).toMatchObject([
    { tenants: [{ tenantId: 'globex-q', running: 1 }] },
  ])
  await expect(
    fixture.operator.query('begin; set local role rowhouse_admin; select * from rowhouse.queue_requests; commit'),
  ).rejects.toMatchObject({ code: '42501' })
  await fixture.operator.query('rollback')
})

async function asOwner(sql: string): Promise<void> {
  const owner = await database.connect('owner')
  await owner.query(`begin; set local role rowhouse_owner; ${sql}; commit`)
}
