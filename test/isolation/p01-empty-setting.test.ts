// P01: after "set local" and commit a setting reads '' instead of null, so a cast to uuid fails on a used connection,
// and without missing_ok the read fails on a fresh one. Closed: policies and functions take both for "no tenant".
import { beforeAll, expect, test } from 'vitest'
import { useDatabase } from '../setup/database.ts'
import { needs } from '../setup/needs.ts'
import { ACME, protect, useAppTables } from './support/app-tables.ts'
import { useClients } from './support/clients.ts'
import { expectClosed } from './support/expect-closed.ts'
import { rowsInTenant } from './support/in-tenant.ts'

const database = useDatabase()
useAppTables(database)
const clients = useClients(database, 'owner')

beforeAll(async () => {
  for (const type of ['uuid', 'integer']) {
    await clients.owner.query(
      `create table ${type}_notes (tenant_id ${type} not null, id int, primary key (tenant_id, id))`,
    )
    await protect(clients.owner, `${type}_notes`)
  }
})

/** A connection that never had a tenant, one that had, and one that was cleaned by the server. */
const PAST = {
  fresh: [],
  used: [`begin; set local app.tenant_id = '${ACME}'; commit`],
  discarded: [`set app.tenant_id = '${ACME}'`, 'discard all'],
}

const ASKED = {
  'select count(*)::int as answer from invoices': 0,
  'select count(*)::int as answer from uuid_notes': 0,
  'select count(*)::int as answer from integer_notes': 0,
  'select rowhouse.current_tenant() as answer': null,
  'select rowhouse.require_tenant() as answer': 'RH001',
  "insert into events (id, kind, payload) values (1, '', '{}') returning 1 as answer": 'RH001',
  'insert into uuid_notes (id) values (1) returning 1 as answer': 'RH001',
}

async function surprises(): Promise<string[]> {
  const found: string[] = []
  for (const [past, prepare] of Object.entries(PAST)) {
    for (const [sql, expected] of Object.entries(ASKED)) {
      const client = await database.connect('app')
      for (const statement of prepare) await client.query(statement)
      const answer = await rowsInTenant(client, null, sql).then(
        (rows) => rows[0].answer,
        (error) => error.code,
      )
      if (answer !== expected) found.push(`${past}: ${sql}: ${answer}`)
      await client.end()
    }
  }
  return found
}

test(
  'a connection without a tenant answers the same, whatever it was used for before',
  needs('parallelBackends'),
  async () => {
    await expectClosed({
      probe: surprises,
      removeProtection: () =>
        clients.owner.query(`
        alter policy rowhouse_tenant on uuid_notes using (tenant_id = current_setting('app.tenant_id')::uuid);
        alter policy rowhouse_isolation on uuid_notes using (tenant_id = current_setting('app.tenant_id')::uuid)`),
      restoreProtection: () => protect(clients.owner, 'uuid_notes'),
    })
  },
)

test("nobody is the tenant '', which every used connection would be", async () => {
  const { owner } = clients
  const plain = "tenant_id = current_setting('app.tenant_id', true)"
  // As a careless import could leave it, past the policies.
  await owner.query(`begin; alter table events no force row level security;
    insert into events (tenant_id, id, kind, payload) values ('', 1, 'planted', '{}');
    alter table events force row level security; commit`)
  await owner.query("set app.tenant_id = ''")
  const asNobody = (sql: string) => rowsInTenant(owner, null, sql, { role: 'rowhouse_app' })
  await expectClosed({
    probe: async () => {
      const open: string[] = []
      const { length } = await asNobody('select from events')
      if (length > 0) open.push('rows are read')
      await asNobody("insert into events (tenant_id, id, kind, payload) values ('', 2, '', '{}')").then(
        () => open.push('a row is written'),
        (error) => expect(error).toMatchObject({ code: '42501' }),
      )
      return open
    },
    removeProtection: () =>
      owner.query(
        ['rowhouse_tenant', 'rowhouse_isolation']
          .map((policy) => `alter policy ${policy} on events using (${plain}) with check (${plain})`)
          .join(';'),
      ),
    restoreProtection: () => protect(owner, 'events'),
  })
})
