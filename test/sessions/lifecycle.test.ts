// What happens to conversations when they expire, and when their tenant is moved, suspended or erased.
import type pg from 'pg'
import { beforeAll, describe, expect, test } from 'vitest'
import { asOperator, expectError } from '../documents/fixture.ts'
import { rowsInTenant } from '../isolation/support/in-tenant.ts'
import { useDatabase } from '../setup/database.ts'
import { needs } from '../setup/needs.ts'
import { ACME, GLOBEX, provision, say, texts, useSessions } from './fixture.ts'

const database = useDatabase()
const fixture = useSessions(database)
let app: pg.Client
beforeAll(async () => {
  app = await database.connect('app')
})

/** Lets the session look as if it had been last used, or as if it expired, so long ago. */
async function age(tenantId: string, id: string, column: 'updated_at' | 'expires_at', interval: string): Promise<void> {
  const sql = `update rowhouse.sessions set ${column} = now() - interval '${interval}' where session_id = '${id}'`
  await rowsInTenant(app, tenantId, sql, { commit: true })
}

async function expectGone(tenantId: string, id: string): Promise<void> {
  const { sessions } = fixture.rowhouse.tenant(tenantId)
  expect(await sessions.get(id)).toBeUndefined()
  expect((await sessions.list()).sessions.map((session) => session.id)).not.toContain(id)
  expect(await sessions.delete(id)).toBe(false)
}

describe('a session that is over', () => {
  test('because it expired, is gone at once', async () => {
    const { sessions } = fixture.acme
    const { id } = await sessions.create({ expiresInMs: 60_000 })
    await sessions.append(id, [say('hello')])
    await age(ACME, id, 'expires_at', '1 ms')
    await expectError(sessions.append(id, [say('late')]), 'session_not_found')
    await expectError(sessions.touch(id, { expiresInMs: 1000 }), 'session_not_found')
    await expectError(sessions.messages(id), 'session_not_found')
    await expectError(sessions.fork(id), 'session_not_found')
    await expectGone(ACME, id)
  })

  test('because its retention ended: by tier, or by the settings of the tenant', async () => {
    await provision(database, 'pro', 'professional')
    await provision(database, 'big', 'enterprise')
    await provision(database, 'own', 'enterprise', { retentionDays: { sessions: 7 } })
    await provision(database, 'odd', 'free', { retentionDays: { sessions: 'many' } })
    for (const [tenantId, days] of [
      [ACME, 30],
      ['pro', 90],
      ['big', 365],
      ['own', 7],
      ['odd', 30],
    ] as const) {
      const { sessions } = fixture.rowhouse.tenant(tenantId)
      const { id } = await sessions.create()
      await age(tenantId, id, 'updated_at', `${days} days - 1 minute`)
      expect(await sessions.get(id)).toBeDefined()
      await age(tenantId, id, 'updated_at', `${days} days 1 minute`)
      await expectGone(tenantId, id)
    }
  })

  test('use begins its retention anew', async () => {
    const { sessions } = fixture.acme
    const { id } = await sessions.create()
    for (const use of [
      () => sessions.touch(id),
      () => sessions.append(id, [say('x')]),
      () => sessions.update(id, {}),
    ]) {
      await age(ACME, id, 'updated_at', '29 days')
      await use()
      expect((await sessions.get(id))!.updatedAt.getTime()).toBeGreaterThan(Date.now() - 60_000)
    }
  })

  test('is swept in batches, with its messages; others stay', async () => {
    await provision(database, 'sweeper')
    const { sessions } = fixture.rowhouse.tenant('sweeper')
    const ids: string[] = []
    for (let number = 0; number < 12; number++) ids.push((await sessions.create({ expiresInMs: 60_000 })).id)
    for (const id of ids) await sessions.append(id, [say(id)])
    for (const id of ids.slice(0, 5)) await age('sweeper', id, 'expires_at', '1 s')
    for (const id of ids.slice(5, 10)) await age('sweeper', id, 'updated_at', '31 days')
    expect(await sessions.sweep({ batchSize: 3 })).toBe(10)
    expect(await sessions.sweep()).toBe(0)
    const left = await rowsInTenant(app, 'sweeper', 'select session_id from rowhouse.messages order by created_at')
    expect(left.map((row) => row.session_id)).toEqual(ids.slice(10))
  })

  test('is swept once by several at the same time', needs('parallelBackends'), async () => {
    await provision(database, 'sweepers')
    const { sessions } = fixture.rowhouse.tenant('sweepers')
    for (let number = 0; number < 40; number++) {
      await age('sweepers', (await sessions.create()).id, 'updated_at', '31 days')
    }
    const counts = await Promise.all(Array.from({ length: 4 }, () => sessions.sweep({ batchSize: 5 })))
    const rest = await sessions.sweep()
    expect(counts.reduce((sum, count) => sum + count) + rest).toBe(40)
  })
})

test('a suspended tenant has no sessions until it is resumed', async () => {
  await provision(database, 'pausing')
  const { sessions } = fixture.rowhouse.tenant('pausing')
  const { id } = await sessions.create()
  await fixture.rowhouse.tenants.suspend('pausing')
  await expectError(sessions.get(id), 'tenant_suspended')
  await expectError(sessions.append(id, [say('x')]), 'tenant_suspended')
  await fixture.rowhouse.tenants.resume('pausing')
  expect(await sessions.get(id)).toMatchObject({ messageCount: 0 })
})

test('promotion and demotion carry the messages along', async () => {
  await provision(database, 'grown')
  const { sessions } = fixture.rowhouse.tenant('grown')
  const { id } = await sessions.create()
  await sessions.append(id, [say('before')])
  await fixture.rowhouse.tenants.promote('grown')
  await sessions.append(id, [say('promoted')])
  await fixture.rowhouse.tenants.demote('grown')
  await sessions.append(id, [say('demoted')], { expectedLength: 2 })
  expect(texts((await sessions.messages(id)).messages)).toEqual(['before', 'promoted', 'demoted'])
  expect(await sessions.delete(id)).toBe(true)
})

test('erasure takes the sessions and messages of the tenant, and of no other', async () => {
  await provision(database, 'leaving')
  const { sessions } = fixture.rowhouse.tenant('leaving')
  for (let number = 0; number < 3; number++) {
    const { id } = await sessions.create()
    await sessions.append(id, [say('a'), say('b')])
  }
  const other = await fixture.globex.sessions.create()
  await fixture.globex.sessions.append(other.id, [say('stays')])
  const receipt = await fixture.rowhouse.tenants.erase('leaving')
  expect(receipt.tables).toMatchObject({ 'rowhouse.sessions': 3, 'rowhouse.messages': 6 })
  await expectError(sessions.list(), 'tenant_inactive')
  expect(texts((await fixture.rowhouse.tenant(GLOBEX).sessions.messages(other.id)).messages)).toEqual(['stays'])
  const operator = await database.connect('operator')
  const rows = await asOperator(operator, 'select relation::text from rowhouse.protected_tables')
  expect(rows.map((row) => row.relation)).toEqual(expect.arrayContaining(['rowhouse.sessions', 'rowhouse.messages']))
})
