// Who is in a channel: joining, renewing, leaving, and being gone without saying so.
import { expect, test } from 'vitest'
import { rowsInTenant } from '../isolation/support/in-tenant.ts'
import { useDatabase } from '../setup/database.ts'
import { ACME, GLOBEX, useRealtime } from './support.ts'

const database = useDatabase()
const fixture = useRealtime(database)
const room = (name: string, tenantId = ACME) => fixture.rowhouse.tenant(tenantId).channel(name)
const present = async (name: string) => (await room(name).members()).map(({ id }) => id)

test('a member joins, changes what others know of it, and leaves', async () => {
  const joined = await room('lobby').join('u_1', { metadata: { name: 'Ada' }, ttlMs: 60_000 })
  await room('lobby').join('u_2')
  expect(await room('lobby').members()).toMatchObject([joined, { id: 'u_2', metadata: {} }])
  expect(joined.expiresAt.getTime() - joined.joinedAt.getTime()).toBe(60_000)
  const again = await room('lobby').join('u_1', { metadata: { name: 'Ada L.' } })
  expect(again.joinedAt).toEqual(joined.joinedAt)
  expect(await room('lobby').members({ limit: 1, after: 'u_1' })).toMatchObject([{ id: 'u_2' }])
  expect(await room('lobby').leave(['u_1', 'nobody'])).toBe(1)
  expect(await present('lobby')).toEqual(['u_2'])
  expect(await present('elsewhere')).toEqual([])
  expect(await room('lobby', GLOBEX).members()).toEqual([])
})

test('who is not renewed is gone by the clock of the database, and has to join again', async () => {
  await room('short').join('renewed', { ttlMs: 2000 })
  const { joinedAt } = await room('short').join('gone', { ttlMs: 2000 })
  expect(await room('short').renew('renewed', { ttlMs: 60_000 })).toEqual(['renewed'])
  expect(await present('short')).toEqual(['gone', 'renewed'])
  await expect.poll(() => present('short')).toEqual(['renewed'])
  expect(await room('short').renew(['gone', 'renewed'], { ttlMs: 60_000 })).toEqual(['renewed'])
  expect(await room('short').leave('gone')).toBe(0)
  await room('short').join('gone', { ttlMs: 1 })
  expect((await room('short').join('gone')).joinedAt.getTime()).toBeGreaterThan(joinedAt.getTime())
})

test('inside a transaction a member is there from the commit on', async () => {
  await fixture.rowhouse.withTenant(ACME, async (_db, tenant) => {
    await tenant.channel('later').join('u_1')
    expect(await tenant.channel('later').members()).toHaveLength(1)
  })
  expect(await present('later')).toEqual(['u_1'])
})

test('bad input is refused, with nothing written', async () => {
  const refused = { code: 'invalid_channel' }
  for (const id of ['', 'x'.repeat(513), 'a\0b', null]) {
    await expect(room('bad').join(id as string)).rejects.toMatchObject(refused)
    await expect(room('bad').leave(id as string)).rejects.toMatchObject(refused)
    await expect(room('bad').renew([id as string])).rejects.toMatchObject(refused)
  }
  for (const options of [{ ttlMs: 0 }, { ttlMs: 86_400_001 }, { metadata: [] }, { metadata: { a: 'a\0' } }, { x: 1 }]) {
    await expect(room('bad').join('u_1', options as never), JSON.stringify(options)).rejects.toMatchObject(refused)
  }
  for (const options of [{ limit: 0 }, { limit: 10_001 }, { after: '' }]) {
    await expect(room('bad').members(options), JSON.stringify(options)).rejects.toMatchObject(refused)
  }
  for (const call of [
    "join_channel('', 'u')",
    "join_channel('bad', null)",
    "join_channel('bad', 'u', '[]')",
    "join_channel('bad', 'u', null)",
    "join_channel('bad', 'u', jsonb_build_object('a', repeat('x', 65536)))",
    "join_channel('bad', 'u', '{}', interval '0')",
    "join_channel('bad', 'u', '{}', interval '2 days')",
    "renew_members('bad', null)",
    "renew_members('bad', array_fill('u'::text, array[10001]))",
    "list_members('bad', 0)",
  ]) {
    const sql = `select rowhouse.${call}`
    await expect(rowsInTenant(fixture.app, ACME, sql, { commit: true }), call).rejects.toMatchObject({ code: 'RH072' })
  }
  expect(await rowsInTenant(fixture.app, ACME, "select from rowhouse.channel_members where channel = 'bad'")).toEqual(
    [],
  )
})
