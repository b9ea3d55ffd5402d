// P30: an insert waits for another transaction's uncommitted row of the same key, so a global key makes one tenant wait
// for another. Closed: keys start with the tenant, and the lock of the write guard is each tenant's own.
import { beforeAll, expect, test } from 'vitest'
import { poll } from '../setup/connection.ts'
import { backendOf, observer, useDatabase } from '../setup/database.ts'
import { openSessions } from '../setup/sessions.ts'
import { ACME, GLOBEX, protect, useAppTables } from './support/app-tables.ts'
import { useClients } from './support/clients.ts'
import { expectClosed } from './support/expect-closed.ts'

const database = useDatabase({ needs: ['parallelBackends'] })
useAppTables(database)
const clients = useClients(database, 'owner')

beforeAll(async () => {
  await clients.owner.query(
    'create table coupons (tenant_id text not null, code text not null, primary key (tenant_id, code))',
  )
  await protect(clients.owner, 'coupons')
})

/** Whether a statement of acme waits for an open transaction of globex. Neither sleeps: it ends, or it is seen to wait. */
async function waits(held: string, attempted: string): Promise<string[]> {
  const { holder, asker } = await openSessions(database, { holder: 'app', asker: 'app' })
  try {
    await holder.run(`begin; set local role rowhouse_app; set local app.tenant_id = '${GLOBEX}'; ${held}`)
    let ended = false
    const asking = asker
      .run(`begin; set local role rowhouse_app; set local app.tenant_id = '${ACME}'; ${attempted}; commit`)
      .finally(() => {
        ended = true
      })
    const waiting = await poll(
      async () => {
        const { rows } = await observer().query('select pg_blocking_pids($1) <> $2 as waiting', [
          backendOf(asker.client),
          [],
        ])
        return ended ? false : rows[0].waiting || undefined
      },
      { message: () => 'the statement neither ends nor waits' },
    )
    await holder.run('rollback')
    await asking
    return waiting ? [attempted] : []
  } finally {
    await holder.client.end()
    await asker.client.end()
  }
}

test('an insert does not wait for the same key of another tenant', async () => {
  let code = 0
  await expectClosed({
    probe: () => {
      const insert = `insert into coupons (code) values ('code-${++code}')`
      return waits(insert, insert)
    },
    removeProtection: () => clients.owner.query('create unique index everywhere on coupons (code)'),
    restoreProtection: () => clients.owner.query('drop index everywhere'),
  })
})

test('a reference does not wait for the same key of another tenant', async () => {
  await clients.owner.query(`
    create table shelves (tenant_id text not null, id int not null, primary key (tenant_id, id));
    create table books (tenant_id text not null, id int, shelf int, primary key (tenant_id, id),
      constraint books_shelf foreign key (tenant_id, shelf) references shelves)`)
  for (const table of ['shelves', 'books']) await protect(clients.owner, table)
  const withTenant = 'foreign key (tenant_id, shelf) references shelves'
  let number = 0
  await expectClosed({
    probe: async () => {
      const id = ++number
      const asker = `insert into shelves (id) values (${id}); insert into books (id, shelf) values (${id}, ${id})`
      return waits(`insert into shelves (id) values (${id})`, asker)
    },
    removeProtection: () =>
      clients.owner.query(`alter table shelves add constraint everywhere unique (id);
        alter table books drop constraint books_shelf, add constraint books_shelf foreign key (shelf) references shelves (id)`),
    restoreProtection: () =>
      clients.owner.query(`alter table books drop constraint books_shelf, add constraint books_shelf ${withTenant};
        alter table shelves drop constraint everywhere`),
  })
})

test.each([
  ['insert', "insert into events (id, kind, payload) values (500, '', '{}')"],
  ['update', "update events set kind = 'changed' where id = 1"],
  ['delete', 'delete from invoices where id = 9'],
  ['lock', 'select from customers for update'],
  [
    'upsert',
    "insert into events (id, kind, payload) values (1, '', '{}') on conflict (tenant_id, id) do update set kind = ''",
  ],
])('%s of one tenant does not wait for the same statement of another', async (_name, statement) => {
  expect(await waits(statement, statement)).toEqual([])
})
