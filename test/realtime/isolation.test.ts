// Two tenants use channels of the same names. Whatever one of them tries, it gets nothing of the other: by SQL that
// forgets the tenant, by notifications that it forges or hears, by names and ids of the other's.
import { setTimeout as sleep } from 'node:timers/promises'
import type pg from 'pg'
import { beforeAll, describe, expect, test } from 'vitest'
import { expectClosed } from '../isolation/support/expect-closed.ts'
import { rowsInTenant } from '../isolation/support/in-tenant.ts'
import { useDatabase } from '../setup/database.ts'
import { needs } from '../setup/needs.ts'
import { startProxy } from '../setup/proxy.ts'
import { ACME, collect, GLOBEX, useRealtime } from './support.ts'

const database = useDatabase()
const fixture = useRealtime(database)
let owner: pg.Client
let app: pg.Client
const channel = (tenantId: string, name: string) => fixture.rowhouse.tenant(tenantId).channel(name)

beforeAll(async () => {
  owner = await database.connect('owner')
  app = await database.connect('app')
  for (const tenantId of [ACME, GLOBEX]) {
    for (const name of ['shared', `only-${tenantId}`]) {
      await channel(tenantId, name).publish(`canary:${tenantId}`)
      await channel(tenantId, name).join(`member of ${tenantId}`)
    }
  }
})

const TABLES = ['channels', 'channel_messages', 'channel_members']
const protection = (state: 'disable' | 'enable') => async () => {
  const statements = TABLES.map((table) => `alter table rowhouse.${table} ${state} row level security`)
  await owner.query(`begin; set local role rowhouse_owner; ${statements.join('; ')}; commit`)
}
const foreignRows = async (sql: string) =>
  (await rowsInTenant(app, ACME, sql)).filter((row) => JSON.stringify(row).includes(GLOBEX))

describe('SQL that forgets the tenant', () => {
  test.for<[string, string]>([
    ['select channels', 'select * from rowhouse.channels'],
    ['take over channels', 'update rowhouse.channels set wake_key = gen_random_uuid() returning *'],
    ['delete channels', 'delete from rowhouse.channels returning *'],
    ['select messages', 'select * from rowhouse.channel_messages'],
    ['change messages', "update rowhouse.channel_messages set payload = '0' returning tenant_id"],
    ['delete messages', 'delete from rowhouse.channel_messages returning *'],
    ['select members', 'select * from rowhouse.channel_members'],
    ['delete members', 'delete from rowhouse.channel_members returning *'],
  ])('%s', async ([, sql]) => {
    await expectClosed({
      probe: () => foreignRows(sql),
      removeProtection: protection('disable'),
      restoreProtection: protection('enable'),
    })
  })
})

test('the functions say the tenant in every statement, so they need no policy', async () => {
  await protection('disable')()
  try {
    for (const [call, expected] of [
      ["(select count(*)::int from rowhouse.read_messages('only-globex', 0))", 0],
      ["(select count(*)::int from rowhouse.list_members('only-globex'))", 0],
      ["rowhouse.renew_members('only-globex', '{member of globex}')", []],
      ["rowhouse.leave_channel('only-globex', '{member of globex}')::int", 0],
      ["(select count(*)::int from rowhouse.open_channels('{only-globex}') where tenant_id <> 'acme')", 0],
      ['rowhouse.sweep_channels()', 0],
    ] as const) {
      expect(await rowsInTenant(app, ACME, `select ${call} as result`), call).toEqual([{ result: expected }])
    }
  } finally {
    await protection('enable')()
  }
  expect(await channel(GLOBEX, 'only-globex').members()).toHaveLength(1)
})

test('without a tenant the functions refuse', async () => {
  for (const call of [
    "publish_message('x', '1')",
    "open_channels('{x}')",
    "read_messages('x', 0)",
    "join_channel('x', 'm')",
    "renew_members('x', '{m}')",
    "leave_channel('x', '{m}')",
    "list_members('x')",
    'sweep_channels()',
    'sweep_members()',
  ]) {
    await expect(rowsInTenant(app, null, `select rowhouse.${call}`), call).rejects.toMatchObject({ code: 'RH001' })
  }
})

test('a channel of the same name, and an id of the other tenant, lead to nothing of it', async () => {
  const { id } = await channel(GLOBEX, 'only-globex').publish('canary:globex')
  expect(await channel(ACME, 'only-globex').read()).toEqual([])
  await channel(ACME, 'only-globex').publish('canary:acme')
  expect((await channel(ACME, 'only-globex').read()).map(({ payload }) => payload)).toEqual(['canary:acme'])
  expect((await channel(GLOBEX, 'only-globex').read({ after: id })).map(({ payload }) => payload)).toEqual([])
})

describe('notifications', needs('parallelBackends'), () => {
  test('say a random key: no tenant, no channel, no message, and nothing that both tenants share', async () => {
    const listener = await database.connect('app')
    const heard: { channel: string; payload: string | undefined }[] = []
    listener.on('notification', ({ channel, payload }) => heard.push({ channel, payload }))
    await listener.query('listen rowhouse_channels')
    for (const tenantId of [ACME, GLOBEX]) {
      await channel(tenantId, 'shared').publish(`canary:${tenantId}`)
      await channel(tenantId, 'shared').publish(`canary:${tenantId}`)
    }
    await expect.poll(() => heard.length).toBe(4)
    const keys = heard.map(({ payload }) => payload!)
    for (const key of keys) expect(key).toMatch(/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/)
    expect(new Set(keys).size).toBe(2)
    // Whoever heard the key of another tenant finds nothing by it.
    const foreign = keys[2]
    expect(await rowsInTenant(app, ACME, `select from rowhouse.channels where wake_key = '${foreign}'`)).toEqual([])
  })

  test('that somebody forges are ignored, also with the key of a channel', async () => {
    const rowhouse = fixture.open()
    const received = collect()
    await using subscription = await rowhouse.tenant(ACME).channel('shared').subscribe(received.handler)
    const key = async (tenantId: string) =>
      (await rowsInTenant(app, tenantId, "select wake_key from rowhouse.open_channels('{shared}')"))[0].wake_key
    const forger = await database.connect('app')
    for (const payload of [
      'nonsense',
      '',
      '{"tenant":"globex","payload":"forged"}',
      'x'.repeat(7999),
      `${ACME}:shared`,
      GLOBEX,
      await key(ACME),
      await key(GLOBEX),
    ]) {
      await forger.query('select pg_notify($1, $2)', ['rowhouse_channels', payload])
      await forger.query('select pg_notify($1, $2)', ['rowhouse_tenants', payload])
    }
    await sleep(200)
    expect(received.messages).toEqual([])
    await channel(GLOBEX, 'shared').publish('canary:globex')
    const { id } = await channel(ACME, 'shared').publish('genuine')
    expect(await received.until(1)).toEqual(['genuine'])
    expect(subscription.lastId).toBe(id)
  })

  test('the control: a forged key makes a process look, under its own tenant, once for many', async () => {
    await using proxy = await startProxy(database.url('app'), { record: true })
    const pool = database.pool('app', { connectionString: proxy.url, max: 2 })
    const rowhouse = fixture.open({ pool })
    await using _subscription = await rowhouse
      .tenant(ACME)
      .channel('flooded')
      .subscribe(() => {})
    const [{ wake_key }] = await rowsInTenant(app, ACME, "select wake_key from rowhouse.open_channels('{flooded}')")
    await sleep(100)
    proxy.resetCounters()
    const forger = await database.connect('app')
    for (let n = 0; n < 50; n++) await forger.query('select pg_notify($1, $2)', ['rowhouse_channels', wake_key])
    await expect.poll(() => proxy.counters.flights, { timeout: 5000 }).toBeGreaterThan(0)
    await sleep(100)
    expect(proxy.counters.flights).toBeLessThanOrEqual(51)
    expect(proxy.received.toString('latin1')).not.toContain(GLOBEX)
  })

  test('a process whose subscriptions are of several tenants hands each only its own', async () => {
    const rowhouse = fixture.open()
    const received = { [ACME]: collect(), [GLOBEX]: collect() }
    await using _acme = await rowhouse.tenant(ACME).channel('shared').subscribe(received[ACME].handler)
    await using _globex = await rowhouse.tenant(GLOBEX).channel('shared').subscribe(received[GLOBEX].handler)
    for (let n = 0; n < 20; n++) await channel(n % 3 === 0 ? ACME : GLOBEX, 'shared').publish(n)
    expect(await received[ACME].until(7)).toEqual([0, 3, 6, 9, 12, 15, 18])
    expect((await received[GLOBEX].until(13)).every((n) => n % 3 !== 0)).toBe(true)
  })
})

test('erasure takes channels, messages and members along', async () => {
  await fixture.rowhouse.tenants.provision('leaving')
  await channel('leaving', 'a').publish(1)
  await channel('leaving', 'a').publish(2)
  await channel('leaving', 'b').join('m')
  const receipt = await fixture.rowhouse.tenants.erase('leaving')
  expect(receipt.tables).toMatchObject({
    'rowhouse.channels': 1,
    'rowhouse.channel_messages': 2,
    'rowhouse.channel_members': 1,
  })
  expect(await channel(GLOBEX, 'shared').read()).not.toEqual([])
})

test('channels work in a sealed context, and an unsealed process gets nothing', needs('parallelBackends'), async () => {
  const key = 'a key of this test, of 32 bytes or more'
  const operators = fixture.open({ pool: database.pool('owner', { max: 1 }), admin: undefined })
  await operators.seals.addKey(key)
  await operators.seals.require(true)
  try {
    const sealed = fixture.open({ seal: key })
    const received = collect()
    await using _subscription = await sealed.tenant(ACME).channel('sealed').subscribe(received.handler)
    await sealed.tenant(ACME).channel('sealed').publish('in')
    expect(await received.until(1)).toEqual(['in'])
    await expect(
      fixture
        .open()
        .tenant(ACME)
        .channel('sealed')
        .subscribe(() => {}),
    ).rejects.toMatchObject({ code: 'tenant_not_sealed' })
  } finally {
    await operators.seals.require(false)
  }
})
