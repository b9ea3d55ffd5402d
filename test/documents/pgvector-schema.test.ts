import type pg from 'pg'
import { beforeAll, expect, test } from 'vitest'
import { useDatabase } from '../setup/database.ts'
import { ACME, expectError, useRowhouse } from './fixture.ts'

// The extension in a schema that nobody has in the search path.
const database = useDatabase({ needs: ['pgvector', 'superuser', 'realRoles'] })
const fixture = useRowhouse(database)
const create = () => fixture.rowhouse.collections.create('documents', { dimensions: 3 })
let superuser: pg.Client

beforeAll(async () => {
  superuser = await database.connect('superuser')
  await superuser.query(
    'drop extension vector; create schema "the extensions"; create extension vector schema "the extensions"',
  )
})

test('in a schema that the roles may not use, an error says which grant is missing', async () => {
  const error = await expectError(
    create(),
    'pgvector_missing',
    'rowhouse_owner may not use pgvector, which is installed in schema "the extensions"',
  )
  await superuser.query(error.hint.replace(/^.*?grant/, 'grant'))
})

test('in another schema, everything works without a search path', async () => {
  await create()
  const documents = fixture.rowhouse.tenant(ACME).documents()
  await documents.upsert([{ id: 'x', content: 'x', embedding: [1, 0, 0] }])
  expect(await documents.search({ embedding: [1, 0, 0] })).toMatchObject([{ id: 'x', strategy: 'exact' }])
  expect(await documents.search({ embedding: [1, 0, 0], strategy: 'index', limit: 1 })).toMatchObject([
    { id: 'x', strategy: 'shared_index' },
  ])
  await fixture.rowhouse.tenants.promote(ACME)
  expect(await documents.search({ embedding: [1, 0, 0], strategy: 'index', limit: 1 })).toMatchObject([
    { id: 'x', strategy: 'own_index' },
  ])
  await expectError(documents.upsert([{ content: 'y', embedding: [1, 0] }]), 'invalid_embedding')
})

test('the extension may be moved later', async () => {
  await superuser.query(
    'create schema elsewhere; grant usage on schema elsewhere to rowhouse_owner, rowhouse_app; alter extension vector set schema elsewhere',
  )
  const documents = fixture.rowhouse.tenant(ACME).documents()
  await documents.upsert([{ id: 'y', content: 'y', embedding: [0, 1, 0] }])
  expect(await documents.search({ embedding: [0, 1, 0], limit: 1, strategy: 'index' })).toMatchObject([{ id: 'y' }])
})
