// P33: a cheap function that prints its argument could be evaluated before the policy and so see every row (f_leak of
// PostgreSQL's own tests). Postgres holds functions back until after the policy, unless they are marked LEAKPROOF.
import { beforeAll, expect, test } from 'vitest'
import { useDatabase } from '../setup/database.ts'
import { ACME, APP_TABLES, canariesOf, GLOBEX, TEXT_COLUMN, useAppTables } from './support/app-tables.ts'
import { useClients } from './support/clients.ts'
import { expectClosed } from './support/expect-closed.ts'
import { inTenant } from './support/in-tenant.ts'

const database = useDatabase({ needs: ['superuser'] })
useAppTables(database)
const clients = useClients(database, 'owner', 'superuser', 'app')

beforeAll(() =>
  clients.superuser.query(`
    create function f_leak(text) returns boolean language plpgsql cost 0.0000001 stable parallel safe
      as $$ begin raise notice 'leak: %', $1; return true; end $$;
    create function leaky_less(text, text) returns boolean language plpgsql cost 0.0000001 stable parallel safe
      as $$ begin raise notice 'leak: %', $1; return true; end $$;
    create operator <<< (leftarg = text, rightarg = text, function = leaky_less)`),
)

/** Statements that hand a column to the function in every place where a condition can stand. */
const QUERIES = (table: string, column: string): string[] => [
  `select * from ${table} where f_leak(${column})`,
  `select * from ${table} where ${column} <<< 'x'`,
  `select count(*) from ${table} a join ${table} b on f_leak(a.${column}) and f_leak(b.${column})`,
  `select count(*) from ${table} group by tenant_id having f_leak(max(${column}))`,
  `select (select f_leak(u.${column}) from ${table} u where f_leak(u.${column}) limit 1) from ${table} t where f_leak(t.${column})`,
  `select * from (select * from ${table} offset 0) t where f_leak(${column})`,
  `select case when f_leak(${column}) then 1 end from ${table} order by f_leak(${column})`,
  `select * from ${table} where tenant_id = '${ACME}' and f_leak(${column})`,
  `select * from ${table} where tenant_id = '${GLOBEX}' or f_leak(${column})`,
  `update ${table} set ${column} = ${column} where f_leak(${column})`,
  `delete from ${table} where f_leak(${column})`,
  `with c as (select * from ${table}) select * from c where f_leak(${column})`,
]

async function noticed(table: (typeof APP_TABLES)[number]): Promise<string[]> {
  const found: string[] = []
  let own = 0
  const listen = ({ message = '' }: { message?: string | undefined }) => {
    if (message.includes(canariesOf(GLOBEX))) found.push(message)
    if (message.includes(canariesOf(ACME))) own++
  }
  clients.app.on('notice', listen)
  try {
    for (const query of QUERIES(table, TEXT_COLUMN[table])) {
      // By an index or by partitions other rows are not even read; an attacker turns that off.
      for (const indexes of ['on', 'off']) {
        await inTenant(clients.app, ACME, async () => {
          await clients.app.query(`set local enable_indexscan = ${indexes}; set local enable_bitmapscan = ${indexes};
            set local enable_partition_pruning = ${indexes}`)
          await clients.app.query(query)
        })
      }
    }
  } finally {
    clients.app.off('notice', listen)
  }
  expect(own, 'the function was called for rows of the own tenant').toBeGreaterThan(0)
  return found
}

test.each(APP_TABLES)('a leaky function is never handed a row of another tenant: %s', async (table) => {
  await expectClosed({
    probe: () => noticed(table),
    removeProtection: () =>
      clients.superuser.query('alter function f_leak(text) leakproof; alter function leaky_less(text, text) leakproof'),
    restoreProtection: () =>
      clients.superuser.query(
        'alter function f_leak(text) not leakproof; alter function leaky_less(text, text) not leakproof',
      ),
  })
})

test('no function of rowhouse, and none that an ordinary role made, is leakproof', async () => {
  const { rows } = await clients.owner.query(
    "select oid::regprocedure from pg_proc where proleakproof and pronamespace <> 'pg_catalog'::regnamespace",
  )
  expect(rows).toEqual([])
})
