// The adapters for Keyv and unstorage by themselves; test/compat runs the suites of those packages on them.
import { expect, test } from 'vitest'
import { KeyvState } from '../../src/keyv/index.ts'
import { stateDriver } from '../../src/unstorage/index.ts'
import { useSessions } from '../sessions/fixture.ts'
import { useDatabase } from '../setup/database.ts'

const database = useDatabase()
const fixture = useSessions(database)

test('Keyv: tenants, adapters and namespaces keep out of each other', async () => {
  const store = new KeyvState(fixture.acme.state)
  const foreign = new KeyvState(fixture.globex.state)
  await store.setMany([
    { key: 'one:a', value: '1' },
    { key: 'one:b', value: '2', ttl: 60_000 },
    { key: 'other:a', value: '3' },
  ])
  await foreign.set('one:a', 'theirs')
  expect(await store.getMany(['one:b', 'one:c', 'one:a'])).toEqual(['2', undefined, '1'])
  expect(await store.hasMany(['one:a', 'one:c'])).toEqual([true, false])
  const found: unknown[] = []
  for await (const entry of store.iterator('one')) found.push(entry)
  expect(found).toEqual([
    ['one:a', '1'],
    ['one:b', '2'],
  ])
  store.namespace = 'one'
  await store.clear()
  expect(await store.get('one:a')).toBeUndefined()
  expect(await store.get('other:a')).toBe('3')
  expect(await foreign.get('one:a')).toBe('theirs')
  expect(await store.delete('other:a')).toBe(true)
  expect(await store.delete('other:a')).toBe(false)
})

test('Keyv: without a namespace clearing spares what is not of Keyv', async () => {
  const { state } = fixture.acme
  await state.set('mine', 1)
  const store = new KeyvState(state)
  await store.set('a', '1')
  await store.clear()
  expect(await store.has('a')).toBe(false)
  expect(await state.get('mine')).toBe(1)
})

test('unstorage: tenants and prefixes keep out of each other', async () => {
  const driver = stateDriver(fixture.acme.state)
  const aside = stateDriver(fixture.acme.state, { prefix: 'aside:' })
  const foreign = stateDriver(fixture.globex.state)
  await driver.setItem('a:b', 'x', { ttl: 60 })
  await driver.setItem('a:c', 'y')
  await foreign.setItem('a:b', 'theirs')
  expect(await driver.getKeys('a:')).toEqual(['a:b', 'a:c'])
  expect(await aside.getKeys()).toEqual([])
  expect(await driver.getItems([{ key: 'a:c' }, { key: 'a:d' }])).toEqual([
    { key: 'a:c', value: 'y' },
    { key: 'a:d', value: null },
  ])
  expect(await driver.getMeta('a:b')).toMatchObject({ ttl: 60 })
  expect(await driver.getMeta('a:c')).toEqual({})
  expect(await driver.getMeta('a:d')).toBeNull()
  await driver.clear()
  expect(await driver.hasItem('a:b')).toBe(false)
  expect(await foreign.getItem('a:b')).toBe('theirs')
})
