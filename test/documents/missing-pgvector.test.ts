import { beforeAll, expect, test } from 'vitest'
import { useDatabase } from '../setup/database.ts'
import { ACME, expectError, useRowhouse } from './fixture.ts'

const database = useDatabase({ needs: ['superuser', 'realRoles'] })
const fixture = useRowhouse(database)

beforeAll(async () => {
  const superuser = await database.connect('superuser')
  await superuser.query('drop extension if exists vector')
})

test('a collection cannot be created; the error says what is missing and who can add it', async () => {
  const create = fixture.rowhouse.collections.create('documents', { dimensions: 3 })
  const error = await expectError(
    create,
    'pgvector_missing',
    'need the extension pgvector, which is not installed in this database',
  )
  expect(error.sqlstate).toBe('RH022')
  expect(error.hint).toMatch(/(superuser|owner of the database).*create extension vector/)
  // Where the server has no such package, an administrator of the database alone can't help.
  if (!database.engine.pgvector) expect(error.hint).toContain('not on the server either')
})

test('nothing is left of the attempt, and the rest works', async () => {
  expect(await fixture.rowhouse.collections.list()).toEqual([])
  await expectError(fixture.rowhouse.tenant(ACME).documents().count(), 'collection_not_found')
  expect(await fixture.rowhouse.tenants.get(ACME)).toMatchObject({ id: ACME })
})
