import type pg from 'pg'
import { beforeAll, expect, test } from 'vitest'
import { useDatabase } from '../setup/database.ts'
import { openSessions, waitUntilBlocked } from '../setup/sessions.ts'
import { ACME, useRowhouse } from './support.ts'

const database = useDatabase({ needs: ['parallelBackends'] })
const fixture = useRowhouse(database)

const APPEND = `select rowhouse.append_audit('{"action": "busy.entry"}')`
const asTenant = (tenantId: string) => `begin; set local role rowhouse_app; set local app.tenant_id = '${tenantId}'`
const asOperator = 'begin; set local role rowhouse_admin'

let clients: pg.Client[]
beforeAll(async () => {
  clients = await Promise.all(Array.from({ length: 16 }, () => database.connect('app')))
})

test('16 connections append to one tenant without waiting for each other', async () => {
  // Each in an open transaction: if one had to wait for another, this would never end.
  for (const client of clients) {
    await client.query(asTenant(ACME))
    await client.query(APPEND)
  }
  await Promise.all(clients.map((client) => client.query('commit')))
  expect(await fixture.rowhouse.tenant(ACME).audit.query({ action: 'busy.entry' })).toHaveLength(16)
})

test('appends, sealing and verification by several processes at once keep one intact chain', async () => {
  const { auditLog } = fixture.rowhouse
  const operators = await Promise.all(Array.from({ length: 4 }, () => database.connect('operator')))
  let appending = true
  const sealing = operators.map(async (operator) => {
    while (appending) {
      await operator.query(`${asOperator}; select rowhouse.seal_audit('${ACME}', 7); commit`)
    }
  })
  const verifying = (async () => {
    let verified = 0
    while (appending) {
      expect(await auditLog.verify(ACME)).toMatchObject({ intact: true })
      verified++
    }
    return verified
  })()
  await Promise.all(
    clients.map(async (client) => {
      for (let round = 0; round < 25; round++) await client.query(`${asTenant(ACME)}; ${APPEND}; commit`)
    }),
  )
  appending = false
  await Promise.all(sealing)
  expect(await verifying).toBeGreaterThan(0)
  await auditLog.seal(ACME)
  const verified = await auditLog.verify(ACME)
  // The 16 of the first test, 400, and the provisioning.
  expect(verified).toMatchObject({ intact: true, entries: 417, unsealed: 0 })
})

test('an entry that commits after a younger one was sealed comes into a later segment', async () => {
  const { auditLog } = fixture.rowhouse
  const sessions = await openSessions(database, { late: 'app', early: 'app' })
  await sessions.late.client.query(asTenant(ACME))
  await sessions.late.client.query(APPEND)
  await sessions.early.client.query(`${asTenant(ACME)}; ${APPEND}; commit`)
  const first = await auditLog.seal(ACME)
  expect(first.sealed).toBe(1)
  await sessions.late.client.query('commit')
  const second = await auditLog.seal(ACME)
  expect(second.sealed).toBe(1)
  expect(await auditLog.verify(ACME)).toMatchObject({ intact: true, unsealed: 0 })
})

test('a second sealer waits for the first, and finds its work done', async () => {
  await clients[0]!.query(`${asTenant(ACME)}; ${APPEND}; commit`)
  const sessions = await openSessions(database, { one: 'operator', other: 'operator' })
  await sessions.one.client.query(asOperator)
  const { rows: first } = await sessions.one.client.query(`select rowhouse.seal_audit('${ACME}') as result`)
  await sessions.other.client.query(asOperator)
  const waiting = sessions.other.client.query(`select rowhouse.seal_audit('${ACME}') as result`)
  await waitUntilBlocked(sessions.other)
  // Appends go on meanwhile.
  await clients[0]!.query(`${asTenant(ACME)}; ${APPEND}; commit`)
  await sessions.one.client.query('commit')
  const { rows: second } = await waiting
  await sessions.other.client.query('commit')
  expect(first[0].result.sealed).toBe(1)
  // What was appended meanwhile.
  expect(second[0].result).toMatchObject({ sealed: 1, segment: first[0].result.segment + 1 })
})

test('suspending is recorded without waiting for the writers of the tenant, or for its promotion', async () => {
  const { rowhouse } = fixture
  await rowhouse.tenants.provision('busy')
  const sessions = await openSessions(database, { writer: 'app', mover: 'operator', operator: 'operator' })
  await sessions.writer.client.query(asTenant('busy'))
  await sessions.writer.client.query(APPEND)
  await sessions.mover.client.query(asOperator)
  const moving = sessions.mover.client.query("select rowhouse.promote_tenant('busy')")
  await waitUntilBlocked(sessions.mover)
  await sessions.operator.client.query(`${asOperator}; select rowhouse.suspend_tenant('busy'); commit`)
  await sessions.writer.client.query('commit')
  await moving
  await sessions.mover.client.query('commit')
  await rowhouse.tenants.resume('busy')
  const entries = await rowhouse.tenant('busy').audit.query({ order: 'oldest' })
  expect(entries.map(({ action }) => action).sort()).toEqual([
    'busy.entry',
    'rowhouse.tenant.promote',
    'rowhouse.tenant.provision',
    'rowhouse.tenant.resume',
    'rowhouse.tenant.suspend',
  ])
})

test('an erasure waits for an append, takes it along, and later ones are refused', async () => {
  const { rowhouse } = fixture
  await rowhouse.tenants.provision('ending')
  const sessions = await openSessions(database, { writer: 'app', late: 'app', eraser: 'operator' })
  await sessions.writer.client.query(asTenant('ending'))
  await sessions.writer.client.query(APPEND)
  await sessions.eraser.client.query(asOperator)
  const erasing = sessions.eraser.client.query("select rowhouse.erase_tenant('ending') as receipt")
  await waitUntilBlocked(sessions.eraser)
  await sessions.late.client.query(asTenant('ending'))
  const late = sessions.late.client.query(APPEND).catch((error) => error)
  await waitUntilBlocked(sessions.late)
  await sessions.writer.client.query('commit')
  const { rows } = await erasing
  await sessions.eraser.client.query('commit')
  expect(await late).toMatchObject({ code: 'RH004' })
  await sessions.late.client.query('rollback')
  expect(rows[0].receipt.tables['rowhouse.audit_entries']).toBe(3)
  expect(await rowhouse.auditLog.verify('ending')).toMatchObject({ intact: true, purgedEntries: 3, unsealed: 0 })
})
