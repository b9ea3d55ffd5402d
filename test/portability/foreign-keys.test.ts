// Rows find those that they refer to, whatever the order: other tables, their own, circles of tables; and rows that refer
// to what is not there are refused by the name of the constraint.

import type pg from 'pg'
import { beforeAll, expect, test } from 'vitest'
import type { Rowhouse } from '../../src/index.ts'
import { openRowhouse } from '../audit/support.ts'
import { failure, protect } from '../protect/support.ts'
import { useDatabase } from '../setup/database.ts'
import { exportToMemory, streamOf, textsOf } from './support.ts'

const database = useDatabase()
let owner: pg.Client
let rowhouse: Rowhouse

beforeAll(async () => {
  owner = await database.connect('owner')
  await owner.query(`
    create table kinds (kind text primary key);
    insert into kinds values ('a');
    create table zoo (tenant_id text not null, id int, kind text references kinds, primary key (tenant_id, id));
    create table animals (tenant_id text not null, id int, zoo int, parent int, primary key (tenant_id, id),
      foreign key (tenant_id, zoo) references zoo, foreign key (tenant_id, parent) references animals);
    create index on animals (tenant_id, parent);
    create table heads (tenant_id text not null, id int, tail int not null, primary key (tenant_id, id));
    create table tails (tenant_id text not null, id int, head int not null, primary key (tenant_id, id),
      foreign key (tenant_id, head) references heads);
    alter table heads add foreign key (tenant_id, tail) references tails deferrable;
  `)
  for (const table of ['zoo', 'animals', 'heads', 'tails']) await protect(owner, table, { partition: table === 'zoo' })
  rowhouse = openRowhouse(database)
  await rowhouse.tenants.provision('acme')
  await owner.query(`begin; set local role rowhouse_app; set local app.tenant_id = 'acme';
    insert into zoo select 'acme', g, 'a' from generate_series(1, 3) g;
    -- Sorted as text, parents come after their children and in other parts.
    insert into animals select 'acme', g, 1 + g % 3, case when g < 20000 then g + 1 end from generate_series(20000, 1, -1) g;
    with h as (insert into heads values ('acme', 1, 2), ('acme', 2, 1)) insert into tails values ('acme', 1, 1), ('acme', 2, 2);
    commit`)
  return () => rowhouse.close()
})

test('rows of tables that refer to each other, to themselves, and in a circle', async () => {
  const { data, receipt } = await exportToMemory(rowhouse, 'acme')
  await rowhouse.tenants.import(streamOf(data), { as: 'copy' })
  expect(await rowhouse.tenants.contentHash('copy')).toBe(receipt.contentHash)
  for (const table of ['zoo', 'heads', 'tails']) {
    expect(await textsOf(owner, table, 'copy')).toEqual(await textsOf(owner, table, 'acme'))
  }
  const { rows } = await owner.query('select from rowhouse.import_lines')
  expect(rows).toEqual([])
})

test('a row that refers to what is not there: the name of the constraint', async () => {
  const { data } = await exportToMemory(rowhouse, 'acme')
  for (const tenantId of ['acme', 'copy']) await rowhouse.tenants.erase(tenantId)
  await owner.query('delete from kinds')
  const error = await failure(rowhouse.tenants.import(streamOf(data), { as: 'copy-2' }))
  expect(error.message).toMatch(/rows of table .* refer to something that is not here: zoo_kind_fkey/)
  expect(await rowhouse.tenants.get('copy-2')).toBeUndefined()
})
