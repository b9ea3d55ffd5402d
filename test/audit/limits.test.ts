import { sql } from 'kysely'
import { expect, test } from 'vitest'
import { useDatabase } from '../setup/database.ts'
import { ACME, GLOBEX, inTransaction, useRowhouse } from './support.ts'

const database = useDatabase()
const fixture = useRowhouse(database)

test('every limit that operators set for a tenant is recorded in its trail', async () => {
  const { circuits, quotas, rateLimits, timeouts } = fixture.rowhouse
  await quotas.define('seats', { metric: 'seats', period: 'total' })
  await quotas.set(ACME, 'seats', { limit: 5, softLimit: 4 })
  await quotas.set(ACME, 'seats', null)
  await quotas.set(ACME, 'seats', null)
  await quotas.setAccount(ACME, { currency: 'EUR', timeZone: 'Europe/Berlin', models: ['small'] })
  await rateLimits.set(ACME, 'requests', [{ limit: 2, windowMs: 1000 }])
  await rateLimits.set(ACME, 'requests', null)
  await timeouts.set(ACME, { statementMs: 5000 })
  await circuits.trip(ACME, { circuit: 'anthropic', reason: 'bills are disputed' })
  await circuits.reset(ACME, 'anthropic')
  const entries = await fixture.rowhouse.tenant(ACME).audit.query({ order: 'oldest' })
  expect(entries.slice(1).map(({ action, detail }) => [action, detail])).toEqual([
    ['rowhouse.quota.set', { name: 'seats', hardLimit: 5, softLimit: 4 }],
    ['rowhouse.quota.unset', { name: 'seats' }],
    ['rowhouse.account.set', { currency: 'EUR', timeZone: 'Europe/Berlin', models: ['small'] }],
    ['rowhouse.rate_limit.set', { name: 'requests', windows: [{ limit: 2, windowMs: 1000 }] }],
    ['rowhouse.rate_limit.unset', { name: 'requests' }],
    ['rowhouse.timeouts.set', { statementMs: 5000, lockMs: null, idleInTransactionMs: null }],
    ['rowhouse.circuit.trip', { circuit: 'anthropic', reason: 'bills are disputed', pauseMs: null }],
    ['rowhouse.circuit.reset', { circuit: 'anthropic' }],
  ])
  expect((await fixture.rowhouse.auditLog.verify(ACME)).intact).toBe(true)
})

test('what tenants share is in no trail, and what was rolled back neither', async () => {
  const { operator, rowhouse } = fixture
  await rowhouse.quotas.setDefault('free', 'seats', { limit: 3 })
  await inTransaction(operator, { role: 'rowhouse_admin', rollback: true }, () =>
    operator.query(`select rowhouse.set_quota('${GLOBEX}', 'seats', 1)`),
  )
  const { rows } = await sql`select action from rowhouse.audit_entries`.execute(rowhouse.kysely(GLOBEX))
  expect(rows).toEqual([{ action: 'rowhouse.tenant.provision' }])
})
