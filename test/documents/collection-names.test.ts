import type pg from 'pg'
import { beforeAll, describe, expect, test } from 'vitest'
import { useDatabase } from '../setup/database.ts'
import { ACME, asOperator, expectError, useRowhouse } from './fixture.ts'

const database = useDatabase({ needs: ['pgvector'] })
const fixture = useRowhouse(database)
let owner: pg.Client
let operator: pg.Client

beforeAll(async () => {
  owner = await database.connect('owner')
  operator = await database.connect('operator')
})

const LONGEST = 'l'.repeat(48)

describe('names that a collection may have', () => {
  test.for<[string]>([
    ['a'],
    [LONGEST],
    // The same but for the last letter: names that Postgres derives from both are cut off before it.
    [`${LONGEST.slice(0, -1)}m`],
    ['select'],
    ['shared'],
    ['documents'],
    ['t16384_shared_00'],
    ['a__0'],
  ])('%s works from beginning to end', async ([name]) => {
    await fixture.rowhouse.collections.create(name, { dimensions: 3 })
    const documents = fixture.rowhouse.tenant(ACME).documents(name)
    await documents.upsert([{ id: 'x', content: name, embedding: [1, 0, 0] }])
    const found = await documents.search({ embedding: [1, 0, 0], strategy: 'index', limit: 1 })
    expect(found).toMatchObject([{ content: name, strategy: 'shared_index' }])
    expect(await fixture.rowhouse.collections.index(name, { m: 8 })).toBe(true)
    expect(await documents.search({ embedding: [1, 0, 0], strategy: 'index', limit: 1 })).toEqual(found)
  })

  test('a promoted tenant has a partition of each', async () => {
    await fixture.rowhouse.tenants.promote(ACME)
    for (const { name, table } of await fixture.rowhouse.collections.list()) {
      expect(table.replaceAll('"', '')).toBe(`rowhouse.documents_${name}`)
      const documents = fixture.rowhouse.tenant(ACME).documents(name)
      expect(await documents.search({ embedding: [1, 0, 0], strategy: 'index', limit: 1 })).toMatchObject([
        { content: name, strategy: 'own_index' },
      ])
      await fixture.rowhouse.collections.drop(name)
    }
    const { rows } = await owner.query("select relname from pg_class where relname like '%documents\\_%'")
    expect(rows.filter(({ relname }) => !relname.includes('reject'))).toEqual([])
    await fixture.rowhouse.tenants.demote(ACME)
  })
})

test.for<[string | null]>([
  [null],
  [''],
  ['A'],
  ['_a'],
  ['1a'],
  ['a-b'],
  ['a b'],
  ['a.b'],
  ['a"b'],
  ["a'b"],
  ['a\n'],
  ['a;drop table rowhouse.tenants'],
  ['a"; drop table rowhouse.tenants; --'],
  ['%I'],
  ['$1'],
  ['é'],
  ['a\u0430'],
  [`${LONGEST}l`],
])('SQL refuses the name %j, wherever it is said, and changes nothing', async ([name]) => {
  await expect(asOperator(operator, 'select rowhouse.create_collection($1, 3)', name)).rejects.toMatchObject({
    code: 'RH021',
    message: expect.stringContaining('the name of a collection is 1 to 48'),
  })
  for (const call of ['drop_collection($1)', 'index_collection($1)', 'configure_collection($1, 1)']) {
    const code = call.startsWith('configure') ? 'RH021' : 'RH020'
    await expect(asOperator(operator, `select rowhouse.${call}`, name)).rejects.toMatchObject({ code })
  }
  expect((await owner.query('select from rowhouse.collections')).rows).toEqual([])
  expect((await owner.query("select to_regclass('rowhouse.tenants') as tenants")).rows[0].tenants).toContain('tenants')
})

test('a name that is no name is not found in searches either', async () => {
  const name = 'a"; drop table rowhouse.tenants; --'
  await fixture.app.query('begin; set local role rowhouse_app')
  await fixture.app.query("set local app.tenant_id = 'acme'")
  await expect(
    fixture.app.query("select * from rowhouse.search_documents($1, '[1,2,3]')", [name]),
  ).rejects.toMatchObject({ code: 'RH020' })
  await fixture.app.query('rollback')
  await expectError(fixture.rowhouse.tenant(ACME).documents('nowhere').get('x'), 'collection_not_found')
})
