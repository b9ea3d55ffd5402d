import type { Generated } from 'kysely'
import pg from 'pg'
import { afterAll } from 'vitest'
import { createRowhouse, type Rowhouse, type RowhouseOptions } from '../../src/index.ts'
import type { TestDatabase } from '../setup/database.ts'

/** The application's tables of the tests in this folder. */
export interface AppTables {
  invoices: { tenant_id: Generated<string>; id: number; total: number; note: string | null }
  'public.invoices': AppTables['invoices']
  lines: { tenant_id: Generated<string>; invoice_id: number; line: number; amount: number }
  /** Not a tenant table. */
  currencies: { code: string; name: string }
}

/** Creates the tables and two tenants, `acme` and `globex`, with rows of their own. */
export async function createFixture(database: TestDatabase): Promise<void> {
  const owner = await database.connect('owner')
  await owner.query(`
    create table invoices (
      tenant_id text not null, id integer not null, total integer not null default 0, note text,
      primary key (tenant_id, id));
    create table lines (
      tenant_id text not null, invoice_id integer not null, line integer not null, amount integer not null,
      primary key (tenant_id, invoice_id, line),
      foreign key (tenant_id, invoice_id) references invoices deferrable);
    create table currencies (code text primary key, name text not null);
    insert into currencies values ('EUR', 'Euro'), ('USD', 'Dollar');
    grant select on currencies to rowhouse_app;
    select rowhouse.protect_table('invoices');
    select rowhouse.protect_table('lines');
  `)
  const operator = await database.connect('operator')
  await operator.query('set role rowhouse_admin')
  for (const tenant of ['acme', 'globex']) await operator.query('select rowhouse.provision_tenant($1)', [tenant])
  for (const tenant of ['acme', 'globex']) await resetRows(database, tenant)
}

/** Ten invoices with two lines each. */
export async function resetRows(database: TestDatabase, tenant: string): Promise<void> {
  const app = new pg.Client(database.url('app'))
  await app.connect()
  await app.query(`begin; set local role rowhouse_app; set local app.tenant_id = '${tenant}';
    delete from lines; delete from invoices;
    insert into invoices (id, total, note) select i, i * 10, '${tenant} ' || i from generate_series(1, 10) i;
    insert into lines (invoice_id, line, amount) select i, l, i from generate_series(1, 10) i, generate_series(1, 2) l;
    commit`)
  await app.end()
}

/** Tests open many pools on a server that other files use too. */
export const SMALL_POOL: pg.PoolConfig = { max: 5, idleTimeoutMillis: 100 }

/** Opens rowhouse on the database; everything is closed after the file. */
export function rowhouseFor(database: TestDatabase) {
  const opened: Rowhouse[] = []
  afterAll(async () => {
    for (const rowhouse of opened) await rowhouse.close()
  })
  return (options: Omit<Partial<RowhouseOptions>, 'pool'> & { pool?: pg.Pool } = {}): Rowhouse<AppTables> => {
    const rowhouse = createRowhouse<AppTables>(
      options.pool === undefined
        ? { connectionString: database.url('app'), ...options, poolOptions: { ...SMALL_POOL, ...options.poolOptions } }
        : options,
    )
    opened.push(rowhouse)
    return rowhouse
  }
}
