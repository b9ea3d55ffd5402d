// Publish, subscribe, read: what arrives, in which order, and what is refused.
import { setTimeout as sleep } from 'node:timers/promises'
import { sql } from 'kysely'
import { describe, expect, test } from 'vitest'
import { rowsInTenant } from '../isolation/support/in-tenant.ts'
import { useDatabase } from '../setup/database.ts'
import { needs } from '../setup/needs.ts'
import { ACME, collect, GLOBEX, useRealtime } from './support.ts'

const database = useDatabase()
const fixture = useRealtime(database)
const channel = (name: string, tenantId = ACME) => fixture.rowhouse.tenant(tenantId).channel(name)

test('messages are kept, in order, with ids that count up by one', async () => {
  const room = fixture.rowhouse.tenant(ACME, { userId: 'u_1' }).channel('kept')
  const published = [await room.publish({ text: 'Hello' }), await room.publish(null), await room.publish([1, 'ä'])]
  expect(published.map(({ id }) => id - published[0]!.id)).toEqual([0, 1, 2])
  const messages = await room.read()
  expect(messages).toEqual(
    [{ text: 'Hello' }, null, [1, 'ä']].map((payload, index) => ({
      ...published[index],
      channel: 'kept',
      payload,
      userId: 'u_1',
    })),
  )
  expect(await room.read({ after: published[0]!.id, limit: 1 })).toEqual([messages[1]])
  expect(await room.read({ after: published[2]!.id })).toEqual([])
  expect(await channel('never published to').read()).toEqual([])
})

describe('subscriptions', needs('parallelBackends'), () => {
  test('another process hears what is published from then on, at once', async () => {
    const received = collect()
    await channel('live').publish('before')
    await using subscription = await fixture.open().tenant(ACME).channel('live').subscribe(received.handler)
    for (const payload of [1, 2, 3]) await channel('live').publish(payload)
    expect(await received.until(3)).toEqual([1, 2, 3])
    expect(received.messages).toEqual(await channel('live').read({ after: received.messages[0]!.id - 1 }))
    expect(subscription.lastId).toBe(received.messages[2]!.id)
  })

  test('after an id what was missed comes first, after 0 everything that is kept', async () => {
    const room = channel('missed')
    const ids: number[] = []
    for (let n = 0; n < 250; n++) ids.push((await room.publish(n)).id)
    const [all, some] = [collect(), collect()]
    await using _all = await room.subscribe(all.handler, { after: 0 })
    await using _some = await room.subscribe(some.handler, { after: ids[244]! })
    await room.publish(250)
    expect(await all.until(251)).toEqual(Array.from({ length: 251 }, (_, n) => n))
    expect(await some.until(6)).toEqual([245, 246, 247, 248, 249, 250])
  })

  test('nothing is seen of a transaction before its commit, nor after its rollback', async () => {
    const received = collect()
    await using _subscription = await fixture.open().tenant(ACME).channel('atomic').subscribe(received.handler)
    await fixture.rowhouse.withTenant(ACME, async (_db, tenant) => {
      await tenant.channel('atomic').publish('committed')
      await sleep(100)
      expect(received.payloads).toEqual([])
    })
    await fixture.rowhouse
      .withTenant(ACME, async (_db, tenant) => {
        await tenant.channel('atomic').publish('rolled back')
        throw new Error('no')
      })
      .catch(() => {})
    await channel('atomic').publish('last')
    expect(await received.until(2)).toEqual(['committed', 'last'])
    expect(received.messages[1]!.id - received.messages[0]!.id).toBe(1)
  })

  test('a publisher waits for the one before it, so a reader that saw n never misses n - 1', async () => {
    const received = collect()
    await using _subscription = await fixture.open().tenant(ACME).channel('ordered').subscribe(received.handler)
    let second: Promise<unknown> | undefined
    await fixture.rowhouse.withTenant(ACME, async (_db, tenant) => {
      await tenant.channel('ordered').publish('first')
      second = fixture.open().tenant(ACME).channel('ordered').publish('second')
      expect(await Promise.race([second, sleep(150, 'waits')])).toBe('waits')
    })
    await second
    expect(await received.until(2)).toEqual(['first', 'second'])
  })

  test('the handler gets one message at a time, as no tenant; one that throws ends the subscription', async () => {
    const seen: unknown[] = []
    let running = 0
    const subscription = await channel('careful').subscribe(async ({ payload }) => {
      expect(++running).toBe(1)
      await sleep(5)
      running--
      seen.push(payload)
      if (payload === 2) throw new Error('broken handler')
      await fixture.rowhouse.withTenant(GLOBEX, (db) => sql`select 1`.execute(db))
    })
    const { id } = await channel('careful').publish(1)
    for (const payload of [2, 3]) await channel('careful').publish(payload)
    await expect(subscription.ended).rejects.toThrow('broken handler')
    expect(seen).toEqual([1, 2])
    expect(subscription.lastId).toBe(id)
  })

  test('a closed subscription hears nothing more: by close, by a signal, by await using, by rowhouse', async () => {
    const rowhouse = fixture.open()
    const room = rowhouse.tenant(ACME).channel('closing')
    const received = collect()
    const abort = new AbortController()
    const subscriptions = [
      await room.subscribe(received.handler),
      await room.subscribe(received.handler, { signal: abort.signal }),
      await room.subscribe(received.handler),
    ]
    subscriptions[0]!.close()
    abort.abort()
    {
      await using _scoped = await room.subscribe(received.handler)
    }
    await rowhouse.close()
    await Promise.all(subscriptions.map(({ ended }) => ended))
    await channel('closing').publish('nobody')
    await sleep(100)
    expect(received.payloads).toEqual([])
    await expect(room.subscribe(() => {}, { signal: AbortSignal.abort(new Error('late')) })).rejects.toThrow('late')
  })

  test('one listening connection serves all subscriptions, and ends with the last', async () => {
    const rowhouse = fixture.open()
    const connections = async () => {
      const { rows } = await fixture.operator.query(
        "select from pg_stat_activity where datname = current_database() and application_name = 'rowhouse notifications'",
      )
      return rows.length
    }
    await expect.poll(connections).toBe(0)
    const subscriptions = await Promise.all(
      [ACME, GLOBEX].flatMap((tenantId) =>
        ['a', 'b', 'a'].map((name) =>
          rowhouse
            .tenant(tenantId)
            .channel(name)
            .subscribe(() => {}),
        ),
      ),
    )
    await expect.poll(connections).toBe(1)
    for (const subscription of subscriptions) subscription.close()
    await expect.poll(connections).toBe(0)
  })

  test('the subscription of a tenant that is suspended or erased ends with the reason', async () => {
    const rowhouse = fixture.open()
    for (const [tenantId, end, code] of [
      ['suspended', (id: string) => fixture.rowhouse.tenants.suspend(id), 'tenant_suspended'],
      ['erased', (id: string) => fixture.rowhouse.tenants.erase(id), 'tenant_inactive'],
    ] as const) {
      await fixture.rowhouse.tenants.provision(tenantId)
      const subscription = await rowhouse
        .tenant(tenantId)
        .channel('room')
        .subscribe(() => {})
      await channel('room', tenantId).publish(1)
      await end(tenantId)
      await expect(subscription.ended).rejects.toMatchObject({ code })
      await expect(
        rowhouse
          .tenant(tenantId)
          .channel('room')
          .subscribe(() => {}),
      ).rejects.toMatchObject({ code })
      await expect(channel('room', tenantId).publish(2)).rejects.toMatchObject({ code })
    }
  })
})

describe('what is refused', () => {
  test('names, messages and options, before anything is sent', async () => {
    for (const name of ['', 'x'.repeat(513), 'a\0b', '\ud800', 7, undefined]) {
      expect(() => channel(name as string), String(name)).toThrow(expect.objectContaining({ code: 'invalid_channel' }))
    }
    const room = channel('refused')
    const circular: Record<string, unknown> = {}
    circular.self = circular
    for (const payload of [undefined, () => {}, 1n, circular, 'a\0b', 'x'.repeat(262_144)]) {
      await expect(room.publish(payload)).rejects.toMatchObject({ code: 'invalid_channel' })
    }
    for (const options of [{ after: -1 }, { after: 0.5 }, { after: '1' }, { limit: 0 }, { limit: 1001 }, { from: 1 }]) {
      await expect(room.read(options as never), JSON.stringify(options)).rejects.toMatchObject({
        code: 'invalid_channel',
      })
    }
    for (const handler of [undefined, null, 'x', {}]) {
      await expect(room.subscribe(handler as never)).rejects.toMatchObject({ code: 'invalid_channel' })
    }
    await expect(room.subscribe(() => {}, { after: -1 })).rejects.toMatchObject({ code: 'invalid_channel' })
    await expect(room.subscribe(() => {}, { signal: {} } as never)).rejects.toMatchObject({ code: 'invalid_channel' })
    expect(await rowsInTenant(fixture.app, ACME, "select from rowhouse.channels where channel = 'refused'")).toEqual([])
  })

  test('the same by SQL alone, with nothing written', async () => {
    for (const call of [
      "publish_message('', '1')",
      "publish_message(null, '1')",
      "publish_message('bad', null)",
      "publish_message('bad', to_jsonb(repeat('x', 262143)))",
      "publish_message(repeat('x', 513), '1')",
      "read_messages('bad', -1)",
      "read_messages('bad', null)",
      "read_messages('bad', 0, 1001)",
      "open_channels(array['bad', ''])",
      "open_channels(array['bad', null])",
      'open_channels(null)',
      "open_channels(array_fill('bad'::text, array[1001]))",
    ]) {
      const sql = `select rowhouse.${call}`
      await expect(rowsInTenant(fixture.app, ACME, sql, { commit: true }), call).rejects.toMatchObject({
        code: 'RH072',
      })
    }
    expect(await rowsInTenant(fixture.app, ACME, "select from rowhouse.channels where channel = 'bad'")).toEqual([])
  })

  test('an id that the channel never had', async () => {
    const { id } = await channel('young').publish(1)
    await expect(channel('young').read({ after: id + 1 })).rejects.toMatchObject({ code: 'invalid_channel' })
    await expect(channel('young').subscribe(() => {}, { after: id + 1 })).rejects.toMatchObject({
      code: 'invalid_channel',
    })
  })

  test('to subscribe inside withTenant, whose transaction ends before it', async () => {
    await fixture.rowhouse.withTenant(ACME, async (_db, tenant) => {
      const refused = { code: 'invalid_argument' }
      await expect(tenant.channel('inside').subscribe(() => {})).rejects.toMatchObject(refused)
      await expect(channel('inside').subscribe(() => {})).rejects.toMatchObject(refused)
      await expect(channel('inside', GLOBEX).subscribe(() => {})).rejects.toMatchObject({ code: 'tenant_mismatch' })
    })
  })
})
