// Messages are kept for a while: what is swept is told to those who would have read it, and live channels stay.
import { expect, test } from 'vitest'
import { rowsInTenant } from '../isolation/support/in-tenant.ts'
import { useDatabase } from '../setup/database.ts'
import { needs } from '../setup/needs.ts'
import { ACME, useRealtime } from './support.ts'

const database = useDatabase()
const fixture = useRealtime(database)
const room = (name: string) => fixture.rowhouse.tenant(ACME).channel(name)
const asAcme = (sql: string) => rowsInTenant(fixture.app, ACME, sql, { commit: true })
const age = (name: string, upTo: number, days: number) =>
  asAcme(`update rowhouse.channel_messages set published_at = now() - interval '${days} days'
    where channel = '${name}' and message_id <= ${upTo}`)
const sweep = async () => (await fixture.rowhouse.sweep({ tenantId: ACME }))[0]!.channelRows

test('messages are kept for 7 days, or for as long as the tenant says', async () => {
  const ids: number[] = []
  for (let n = 0; n < 5; n++) ids.push((await room('old').publish(n)).id)
  await age('old', ids[2]!, 6)
  expect(await sweep()).toBe(0)
  await age('old', ids[1]!, 8)
  expect(await sweep()).toBe(2)
  expect((await room('old').read()).map(({ payload }) => payload)).toEqual([2, 3, 4])
  await fixture.rowhouse.tenant(ACME).settings.change({ retentionDays: { channels: 3 } })
  expect(await sweep()).toBe(1)

  // Who would miss some is told; who saw the last that is gone misses none.
  const expired = { code: 'messages_expired', httpStatus: 410 }
  await expect(room('old').read({ after: ids[1]! })).rejects.toMatchObject(expired)
  await expect(room('old').subscribe(() => {}, { after: ids[0]! })).rejects.toMatchObject(expired)
  expect((await room('old').read({ after: ids[2]! })).map(({ payload }) => payload)).toEqual([3, 4])
})

test('a subscription that sleeps too long ends with messages_expired', needs('parallelBackends'), async () => {
  let release = () => {}
  const stuck = new Promise<void>((resolve) => {
    release = resolve
  })
  const subscription = await room('slow').subscribe(() => stuck)
  const { id } = await room('slow').publish(1)
  await expect.poll(async () => (await room('slow').read()).length).toBe(1)
  await new Promise((resolve) => setTimeout(resolve, 200))
  const last = await room('slow').publish(2)
  await age('slow', last.id, 30)
  await room('slow').publish(3)
  await sweep()
  release()
  await expect(subscription.ended).rejects.toMatchObject({ code: 'messages_expired' })
  expect(subscription.lastId).toBe(id)
})

test('a channel that was made again has larger ids, so nobody goes on as if nothing had happened', {
  ...needs('parallelBackends'),
}, async () => {
  const rowhouse = fixture.open({ channels: { pollMs: 100 } })
  const before = await room('idle').publish('before')
  const subscription = await rowhouse
    .tenant(ACME)
    .channel('idle')
    .subscribe(() => {})
  // A sweep leaves what is listened to; this is somebody who deletes rows.
  await asAcme("delete from rowhouse.channels where channel = 'idle'")
  expect((await room('idle').publish('after')).id).toBeGreaterThan(before.id)
  await expect(subscription.ended).rejects.toMatchObject({ code: 'messages_expired' })
})

test('what is listened to, or published to, is not swept', async () => {
  await asAcme(`select rowhouse.open_channels('{listened,forgotten}');
    update rowhouse.channels set used_at = now() - interval '30 days' where channel in ('listened', 'forgotten')`)
  await asAcme("select rowhouse.open_channels('{listened}')")
  expect(await sweep()).toBe(1)
  expect(await asAcme("select channel from rowhouse.channels where channel in ('listened', 'forgotten')")).toEqual([
    { channel: 'listened' },
  ])
})

test('members that were not renewed are deleted', async () => {
  for (let n = 0; n < 5; n++) await room('left').join(`m${n}`, { ttlMs: 1 })
  await room('left').join('stays')
  await new Promise((resolve) => setTimeout(resolve, 20))
  expect(await sweep()).toBe(5)
  expect(await asAcme("select member_id from rowhouse.channel_members where channel = 'left'")).toEqual([
    { member_id: 'stays' },
  ])
})
