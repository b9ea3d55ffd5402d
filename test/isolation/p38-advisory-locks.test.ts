// P38: advisory locks are one space of numbers that any role can take, so who computes a tenant's key makes it wait.
// Closed: the key of the write guard is random for each tenant, and neither the application nor operators can read it.
// Documented: pg_locks shows the keys that are held, without saying whose; a wait is bounded by lock_timeout.
import { expect, test } from 'vitest'
import { useDatabase } from '../setup/database.ts'
import { needs } from '../setup/needs.ts'
import { openSessions } from '../setup/sessions.ts'
import { ACME, GLOBEX, useAppTables } from './support/app-tables.ts'
import { useClients } from './support/clients.ts'
import { expectClosed, REFUSED, unlessRefused } from './support/expect-closed.ts'
import { rowsInTenant } from './support/in-tenant.ts'

const database = useDatabase()
useAppTables(database)
const clients = useClients(database, 'owner', 'app', 'operator')

test('the key of a tenant can be read by nobody who works for one', async () => {
  const asOwner = (sql: string) => clients.owner.query(`begin; set local role rowhouse_owner; ${sql}; commit`)
  for (const role of ['rowhouse_app', 'rowhouse_admin'] as const) {
    const client = role === 'rowhouse_app' ? clients.app : clients.operator
    const reads = [
      'select lock_key from rowhouse.tenants',
      'select t from rowhouse.tenants t',
      'table rowhouse.tenants',
    ]
    for (const read of reads) {
      await expectClosed({
        probe: () => unlessRefused(REFUSED, () => rowsInTenant(client, ACME, read, { role })),
        removeProtection: () => asOwner(`grant select on rowhouse.tenants to ${role}`),
        // The grant of the table takes the place of those of the columns, so these are given again.
        restoreProtection: async () => {
          await asOwner(`revoke select on rowhouse.tenants from ${role}`)
          await asOwner(`grant select (tenant_id, name, status, tier, settings) on rowhouse.tenants to ${role}`)
        },
      })
    }
  }
})

test('keys are random, and each tenant has its own', async () => {
  const rows = await rowsInTenant(clients.owner, null, 'select lock_key::text as key from rowhouse.tenants', {
    role: 'rowhouse_owner',
  })
  const keys = rows.map(({ key }) => BigInt(key))
  expect(new Set(keys).size).toBe(keys.length)
  // Three random numbers of 64 bits are not all small.
  expect(keys.some((key) => key > 2n ** 40n || key < -(2n ** 40n))).toBe(true)
})

test('one tenant that guesses keys does not make another wait', needs('parallelBackends'), async () => {
  const { guesser, writer } = await openSessions(database, { guesser: 'app', writer: 'app' })
  await guesser.run(`begin; select pg_advisory_xact_lock(k) from generate_series(-100, 100) k;
    select pg_advisory_xact_lock(hashtext(t)), pg_advisory_xact_lock(hashtextextended(t, 0)) from unnest(array['${GLOBEX}', 'app.tenant_id', 'rowhouse']) t`)
  await writer.run(`begin; set local role rowhouse_app; set local app.tenant_id = '${GLOBEX}'; set local lock_timeout = '2s';
    insert into events (id, kind, payload) values (200, '', '{}'); rollback`)
  await guesser.run('rollback')
})

test(
  'documented: a lock that is held shows its key, and a wait for it ends at lock_timeout',
  needs('parallelBackends'),
  async () => {
    const { holder, spy, writer } = await openSessions(database, { holder: 'app', spy: 'app', writer: 'app' })
    const begin = `begin; set local role rowhouse_app; set local app.tenant_id = '${GLOBEX}'; set local lock_timeout = '100ms'`
    await holder.run(`${begin}; insert into events (id, kind, payload) values (201, '', '{}')`)
    const { rows } = await spy.client.query(
      `select (classid::bigint << 32 | objid::bigint)::text as key from pg_locks
        where locktype = 'advisory' and objsubid = 1 and granted
          and database = (select oid from pg_database where datname = current_database())`,
    )
    await holder.run('rollback')
    await spy.run(`begin; select pg_advisory_xact_lock(${rows[0].key})`)
    const write = writer.run(`${begin}; insert into events (id, kind, payload) values (202, '', '{}')`)
    await expect(write).rejects.toMatchObject({ code: '55P03' })
    await writer.run('rollback')
    await spy.run('rollback')
  },
)
