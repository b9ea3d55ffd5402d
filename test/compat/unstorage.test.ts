// What unstorage asks of a driver. Its own driver tests are not published: with UNSTORAGE_REPOSITORY=/path/to/a/checkout
// of github.com/unjs/unstorage they run as well.
import { createStorage, type Driver, prefixStorage } from 'unstorage'
import { afterAll, beforeEach, describe, expect, inject, it } from 'vitest'
import { createRowhouse } from '../../src/index.ts'
import { stateDriver } from '../../src/unstorage/index.ts'

const rowhouse = createRowhouse({ connectionString: inject('appUrl'), poolOptions: { max: 3 } })
afterAll(() => rowhouse.close())
// Assigned to the type of unstorage: the structural one of rowhouse fits it.
const driver = (): Driver => stateDriver(rowhouse.tenant('acme').state)
const storage = createStorage({ driver: driver() })

const repository = process.env.UNSTORAGE_REPOSITORY
describe.skipIf(repository === undefined)('the driver tests of unstorage', async () => {
  if (repository === undefined) return it('need UNSTORAGE_REPOSITORY')
  const { testDriver } = await import(`${repository}/test/drivers/utils.ts`)
  testDriver({ driver })
})

describe('a storage', () => {
  beforeEach(() => storage.clear())

  it('keeps text, JSON, falsy values and bytes', async () => {
    const values = { 's:text': 'a', 's:json': { a: [1, null] }, 's:zero': 0, 's:false': false, 's:null': null }
    for (const [key, value] of Object.entries(values)) await storage.setItem(key, value)
    for (const [key, value] of Object.entries(values)) expect(await storage.getItem(key)).toEqual(value)
    const bytes = new Uint8Array([0, 1, 255])
    await storage.setItemRaw('raw', bytes)
    expect(new Uint8Array(await storage.getItemRaw('raw'))).toEqual(bytes)
    expect(await storage.getItem('nothing')).toBeNull()
  })

  it('lists keys by base and depth, and clears a base', async () => {
    for (const key of ['a', 'a:b', 'a:b:c', 'ab', 'z:y']) await storage.setItem(key, key)
    expect((await storage.getKeys()).sort()).toEqual(['a', 'a:b', 'a:b:c', 'ab', 'z:y'])
    expect((await storage.getKeys('a')).sort()).toEqual(['a:b', 'a:b:c'])
    expect((await storage.getKeys(undefined, { maxDepth: 0 })).sort()).toEqual(['a', 'ab'])
    expect((await prefixStorage(storage, 'a').getKeys()).sort()).toEqual(['b', 'b:c'])
    await driver().clear?.('a:', {})
    expect((await storage.getKeys()).sort()).toEqual(['a', 'ab', 'z:y'])
  })

  it('reads and writes several at once, and removes one', async () => {
    await storage.setItems([
      { key: 'm:1', value: 'one' },
      { key: 'm:2', value: 'two' },
    ])
    expect(await storage.getItems(['m:2', { key: 'm:1' }, 'm:3'])).toEqual([
      { key: 'm:2', value: 'two' },
      { key: 'm:1', value: 'one' },
      { key: 'm:3', value: null },
    ])
    await storage.removeItem('m:1')
    expect(await storage.hasItem('m:1')).toBe(false)
    expect(await storage.hasItem('m:2')).toBe(true)
  })

  it('forgets items whose time is over', async () => {
    await storage.setItem('short', 'x', { ttl: 0.05 })
    await storage.setItem('long', 'x', { ttl: 60 })
    expect(await storage.getItem('short')).toBe('x')
    expect(await storage.getMeta('long')).toMatchObject({ ttl: 60 })
    await new Promise((resolve) => setTimeout(resolve, 70))
    expect(await storage.getItem('short')).toBeNull()
    expect(await storage.getKeys()).toEqual(['long'])
  })
})
