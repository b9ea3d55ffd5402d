// P44: the fields of an error (detail, hint, where, internal query) can carry values of rows.
// Closed: with policies in force Postgres leaves row values out, and errors of rowhouse name only what the caller named.

import { inspect } from 'node:util'
import { sql } from 'kysely'
import type pg from 'pg'
import { beforeAll, expect, test } from 'vitest'
import { createRowhouseError, mapDatabaseError, RowhouseError } from '../../src/index.ts'
import { useDatabase } from '../setup/database.ts'
import {
  ACME,
  APP_TABLES,
  canariesOf,
  GLOBEX,
  protect,
  provision,
  TEXT_COLUMN,
  useAppTables,
} from './support/app-tables.ts'
import { useClients, useOneConnection } from './support/clients.ts'
import { expectClosed } from './support/expect-closed.ts'
import { inTenant, rowsInTenant } from './support/in-tenant.ts'

const database = useDatabase()
useAppTables(database)
const clients = useClients(database, 'owner', 'app', 'operator')
const one = useOneConnection(database)

beforeAll(async () => {
  await clients.owner.query(`
    create function reject_low() returns trigger language plpgsql as $$
      begin if new.total < 0 then raise exception 'too low: %', new.total using detail = new::text; end if; return new; end $$;
    create trigger reject_low before insert or update on invoices for each row execute function reject_low()`)
})

/** Statements that fail in every way in which a row could end up in an error; most fail on rows of others only. */
const FAILURES: readonly string[] = [
  ...APP_TABLES.flatMap((table) => {
    const column = TEXT_COLUMN[table]
    const foreign = `case when tenant_id = '${ACME}' then '0' else ${column} end`
    return [
      `select * from ${table} where (${foreign})::int >= 0`,
      `select sum((${foreign})::numeric) from ${table}`,
      `select max((${foreign})::int) over () from ${table}`,
      `select * from ${table} order by (${foreign})::int`,
      `select * from ${table} a join ${table} b on (case when a.tenant_id = '${ACME}' then '0' else a.${column} end)::int = b.ctid::text::point[0]::int`,
      `select (select (${foreign})::int from ${table} limit 1 offset 8) from ${table}`,
      `update ${table} set ${column} = ${column} where (${foreign})::int >= 0`,
      `delete from ${table} where (${foreign})::int >= 0`,
      `select json_object_agg(case when tenant_id = '${ACME}' then ${column} end, 1) from ${table}`,
      `select to_date(case when tenant_id = '${ACME}' then '2026-01-01' else ${column} end, 'YYYY-MM-DD') from ${table}`,
      `select (case when tenant_id = '${ACME}' then '{}' else ${column} end)::jsonb from ${table}`,
      `insert into ${table} (tenant_id) select (${foreign})::int::text from ${table}`,
      `update ${table} set tenant_id = '${GLOBEX}'`,
      `insert into ${table} select * from ${table}`,
      `insert into ${table} (tenant_id) values ('${GLOBEX}')`,
      `insert into ${table} (tenant_id) values (null)`,
      `truncate ${table}`,
      `copy ${table} to '/tmp/rowhouse'`,
      `do $$ declare r record; begin for r in select * from ${table} where tenant_id <> '${ACME}' loop
        raise exception 'row: %', r using detail = r::text; end loop; end $$`,
      `create unique index on ${table} (tenant_id)`,
      `alter table ${table} add check (false)`,
    ]
  }),
  // Constraints and triggers.
  'insert into customers (email) select email from customers',
  'update invoices set id = 1',
  'update invoices set total = -1',
  "insert into invoices (id, customer_id, note, total) values (500, gen_random_uuid(), '', 1)",
  `insert into invoices (tenant_id, id, customer_id, note, total) select '${GLOBEX}', id, customer_id, note, total from invoices`,
  'update customers set id = gen_random_uuid()',
  `insert into events (tenant_id, id, kind, payload) values ('${GLOBEX}', 1, '', '{}')`,
  // The functions of rowhouse.
  `select rowhouse.erase_tenant('${GLOBEX}')`,
  `select rowhouse.check_tenant_status('${ACME}', null)`,
]

/** Every field that an error of the server has. */
const textOf = (error: pg.DatabaseError) =>
  inspect(
    {
      ...error,
      message: error.message,
      detail: error.detail,
      hint: error.hint,
      where: error.where,
      internalQuery: error.internalQuery,
    },
    { depth: 5 },
  )

/** Errors that acme gets, with a value of globex in any field. The statements themselves hold no canary. */
async function leaks(): Promise<string[]> {
  const found: string[] = []
  let failed = 0
  for (const statement of FAILURES) {
    await inTenant(clients.app, ACME, () => clients.app.query(statement)).catch((error) => {
      failed++
      if (textOf(error).includes(canariesOf(GLOBEX))) found.push(`${statement}: ${textOf(error)}`)
    })
  }
  expect(failed).toBeGreaterThan(FAILURES.length / 3)
  return found
}

test('no field of an error holds a value of another tenant', async () => {
  await expectClosed({
    probe: leaks,
    removeProtection: async () => {
      for (const table of APP_TABLES) await clients.owner.query(`alter table ${table} disable row level security`)
    },
    restoreProtection: async () => {
      for (const table of APP_TABLES) await protect(clients.owner, table)
    },
  })
})

test('a refused row is not printed, not even the own one', async () => {
  for (const [statement, code] of [
    [`update invoices set tenant_id = '${GLOBEX}'`, '42501'],
    [`update invoices set id = 1`, '23505'],
    [`insert into invoices (id, customer_id, note, total) values (500, gen_random_uuid(), '', 1)`, '23503'],
    [`insert into events (id, kind) values (500, '')`, '23502'],
  ]) {
    const error = await rowsInTenant(clients.app, ACME, statement!).catch((reason) => reason)
    expect(error).toMatchObject({ code })
    // A foreign key names the table, without the key.
    expect(error.detail ?? '').not.toMatch(/[(=]|canary/)
  }
})

test('an error of rowhouse names only what the caller named, and keeps its cause out of logs', async () => {
  await provision(clients.operator, 'closed')
  await rowsInTenant(
    clients.operator,
    null,
    `select rowhouse.suspend_tenant('closed', '${canariesOf(GLOBEX)}reason')`,
    {
      role: 'rowhouse_admin',
      commit: true,
    },
  )
  const errors: unknown[] = []
  const collect = (work: Promise<unknown>) =>
    work.then(
      () => {},
      (error) => void errors.push(error),
    )
  await collect(one.rowhouse.withTenant('closed', (db) => sql`select 1`.execute(db)))
  await collect(one.rowhouse.withTenant('nobody', (db) => sql`select 1`.execute(db)))
  await collect(one.rowhouse.withTenant(`${GLOBEX}'`, (db) => sql`select 1`.execute(db)))
  await collect(one.rowhouse.withTenant(ACME, () => one.rowhouse.withTenant(ACME, (db) => sql`commit`.execute(db))))
  expect(errors).toHaveLength(4)
  for (const error of errors) {
    expect(error).toBeInstanceOf(RowhouseError)
    const shown = [JSON.stringify(error), String(error), (error as RowhouseError).hint].join('\n')
    expect(shown).not.toContain(GLOBEX)
    expect(Object.keys(error as object)).not.toContain('cause')
  }
})

test('what a database error says beyond its message does not become part of ours', () => {
  const error = Object.assign(new Error('tenant "x" is suspended'), {
    code: 'RH003',
    severity: 'ERROR',
    detail: `Failing row contains (${canariesOf(GLOBEX)}).`,
    where: canariesOf(GLOBEX),
    internalQuery: canariesOf(GLOBEX),
  })
  for (const mapped of [mapDatabaseError(error), createRowhouseError('tenant_suspended', 'x', { cause: error })]) {
    expect(JSON.stringify(mapped) + String(mapped)).not.toContain('canary')
  }
})
