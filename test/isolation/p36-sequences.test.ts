// P36: a sequence is shared: its numbers tell a tenant how much all tenants write, and setval breaks the others' inserts.
// Closed: ids of rowhouse are no numbers of a sequence; the application gets no more than USAGE, where its own table
// needs it, and protect_table says so. Documented: who draws a number from a shared sequence learns the volume.
import { beforeAll, expect, test } from 'vitest'
import { useDatabase } from '../setup/database.ts'
import { ACME, GLOBEX, protect, useAppTables } from './support/app-tables.ts'
import { useClients, useOneConnection } from './support/clients.ts'
import { expectClosed, REFUSED, unlessRefused } from './support/expect-closed.ts'
import { rowsInTenant } from './support/in-tenant.ts'
import { reachableRelations } from './support/reachable-relations.ts'

const database = useDatabase()
useAppTables(database)
const clients = useClients(database, 'owner', 'app')
const one = useOneConnection(database)

let reports: Record<string, string[]>

beforeAll(async () => {
  await clients.owner.query(`
    create table tickets (tenant_id text not null, id serial, primary key (tenant_id, id));
    create table letters (tenant_id text not null, id int generated always as identity, primary key (tenant_id, id));
    create sequence unrelated`)
  reports = {}
  for (const table of ['tickets', 'letters']) {
    const { findings } = await protect(clients.owner, table)
    reports[table] = findings.filter(({ kind }) => kind === 'shared_sequence').map(({ object }) => object)
  }
  await rowsInTenant(clients.app, GLOBEX, 'insert into tickets select from generate_series(1, 40)', { commit: true })
})

/** How much of every sequence of the database the application can learn without drawing a number, or break. */
async function readable(): Promise<string[]> {
  const { rows: sequences } = await clients.owner.query(
    "select oid::regclass::text as name from pg_class where relkind = 'S'",
  )
  const found: string[] = []
  for (const { name } of sequences) {
    for (const attack of [
      `select last_value::text as value from ${name}`,
      `select setval('${name}', 1)::text as value`,
    ]) {
      const rows = await unlessRefused(REFUSED, () => rowsInTenant(clients.app, ACME, attack))
      found.push(...rows.map((row) => `${attack}: ${row.value}`))
    }
  }
  return found
}

test('the state of a sequence can be neither read nor changed', async () => {
  for (const privilege of ['select', 'update']) {
    await expectClosed({
      probe: readable,
      removeProtection: () => clients.owner.query(`grant ${privilege} on sequence tickets_id_seq to rowhouse_app`),
      // A sequence is not rolled back with the transaction that set it.
      restoreProtection: () =>
        clients.owner.query(
          `revoke ${privilege} on sequence tickets_id_seq from rowhouse_app; select setval('tickets_id_seq', 1000)`,
        ),
    })
  }
})

test('the matrix: the application has USAGE on the sequences of its own tables, and nothing on any other', async () => {
  const beyond = async () =>
    (await reachableRelations(clients.owner))
      .filter(({ kind }) => kind === 'S')
      .filter(({ name, privileges }) => name !== 'public.tickets_id_seq' || privileges.join() !== 'usage')
  for (const grant of [
    'usage on sequence unrelated',
    'select on sequence tickets_id_seq',
    'update on sequence letters_id_seq',
  ]) {
    await expectClosed({
      probe: beyond,
      removeProtection: () => clients.owner.query(`grant ${grant} to rowhouse_app`),
      restoreProtection: () => clients.owner.query(`revoke ${grant} from rowhouse_app`),
    })
  }
})

test('protect_table says which sequences are shared', () => {
  expect(reports).toEqual({ tickets: ['public.tickets_id_seq'], letters: ['public.letters_id_seq'] })
})

test('no table of rowhouse draws its ids from a sequence', async () => {
  const { rows } = await clients.owner.query(
    "select oid::regclass from pg_class where relkind = 'S' and relnamespace = 'rowhouse'::regnamespace",
  )
  expect(rows).toEqual([])
})

test('the last number of one tenant is not there for the next transaction on the connection', async () => {
  await one.rowhouse.withTenant(GLOBEX, (db) => db.insertInto('tickets').defaultValues().execute())
  const client = await one.pool.connect()
  try {
    // 55000: lastval is not yet defined in this session.
    await expect(client.query('select lastval()')).rejects.toMatchObject({ code: '55000' })
  } finally {
    client.release()
  }
})
