// P25: a policy with a looser WITH CHECK lets a tenant give its rows to another one, or write rows in its name.
// Closed: both policies check what they show, and the restrictive one checks whatever a looser policy allows.
import { beforeAll, describe, test } from 'vitest'
import { useDatabase } from '../setup/database.ts'
import { needs } from '../setup/needs.ts'
import { ACME, GLOBEX, protect, useAppTables } from './support/app-tables.ts'
import { useClients } from './support/clients.ts'
import { expectClosed, unlessRefused } from './support/expect-closed.ts'
import { rowsInTenant } from './support/in-tenant.ts'

const database = useDatabase()
useAppTables(database)
const clients = useClients(database, 'owner', 'app')

/** Each tries to put a row of acme, or a new one, into globex; on success it returns the row. */
const MOVES: Record<string, string> = {
  update: `update %t set tenant_id = '${GLOBEX}', id = 1000 where tenant_id = '${ACME}' and id = 1 returning *`,
  insert: `insert into %t (tenant_id, id, kind, payload) values ('${GLOBEX}', 1001, '', '{}') returning *`,
  'insert of a query': `insert into %t (tenant_id, id, kind, payload)
    select '${GLOBEX}', id + 1000, kind, payload from %t where tenant_id = '${ACME}' and id = 2 returning *`,
  'on conflict do update': `insert into %t (id, kind, payload) values (3, '', '{}')
    on conflict (tenant_id, id) do update set tenant_id = '${GLOBEX}', id = 1002 returning *`,
  'a part of a query': `with moved as (update %t set tenant_id = '${GLOBEX}', id = 1003 where tenant_id = '${ACME}' and id = 4 returning *)
    select * from moved`,
}
const MERGES: Record<string, string> = {
  'merge that updates': `merge into %t t using (values (5)) s (id) on t.id = s.id and t.tenant_id = '${ACME}'
    when matched then update set tenant_id = '${GLOBEX}', id = 1004`,
  'merge that inserts': `merge into %t t using (values (1005)) s (id) on t.id = s.id
    when not matched then insert (tenant_id, id, kind, payload) values ('${GLOBEX}', s.id, '', '{}')`,
}

/** protect_table grants every column but the tenant's; here somebody granted the rest, so that the policies alone hold. */
const carelessGrant = (table: string) => `grant update on ${table} to rowhouse_app`

/** A policy's refusal; an upsert that would move a row between partitions is refused as such. */
const REFUSALS = ['42501', '0A000']

describe.each(['plain_events', 'events'])('%s', (table) => {
  beforeAll(async () => {
    if (table === 'plain_events') {
      await clients.owner.query('create table plain_events (like events including all)')
      await protect(clients.owner, 'plain_events')
      await rowsInTenant(
        clients.app,
        ACME,
        'insert into plain_events (id, kind, payload) select id, kind, payload from events',
        {
          commit: true,
        },
      )
    }
    await clients.owner.query(`create policy careless on ${table} for all to public using (true) with check (true)`)
    await clients.owner.query(carelessGrant(table))
  })

  const closed = (attack: string) =>
    expectClosed({
      probe: () =>
        unlessRefused(REFUSALS, async () => {
          const sql = attack.replaceAll('%t', table)
          await rowsInTenant(clients.app, ACME, sql)
          return [sql]
        }),
      removeProtection: () => clients.owner.query(`drop policy rowhouse_isolation on ${table}`),
      restoreProtection: async () => {
        await protect(clients.owner, table)
        await clients.owner.query(carelessGrant(table))
      },
    })

  const possible = Object.keys(MOVES).filter((name) => table === 'plain_events' || name !== 'on conflict do update')
  test.each(possible)('%s can not put a row into another tenant', (name) => closed(MOVES[name]!))
  test.each(Object.keys(MERGES))('%s can not put a row into another tenant', needs('postgres 15'), (name) =>
    closed(MERGES[name]!),
  )
})

test.each(['plain_events', 'events'])('the tenant column of %s can not be updated, policy or not', async (table) => {
  await protect(clients.owner, table)
  await expectClosed({
    probe: () =>
      unlessRefused(REFUSALS, async () => {
        await rowsInTenant(clients.app, ACME, `update ${table} set tenant_id = '${ACME}' where id = 1`)
        return ['the column was written']
      }),
    removeProtection: () => clients.owner.query(carelessGrant(table)),
    restoreProtection: () => protect(clients.owner, table),
  })
})

test('an upsert that would move a row between partitions is refused by the layout itself', async () => {
  const moved = await unlessRefused(REFUSALS, () =>
    rowsInTenant(clients.app, ACME, MOVES['on conflict do update']!.replaceAll('%t', 'events')),
  )
  if (moved.length > 0) throw new Error('the row was moved')
})
