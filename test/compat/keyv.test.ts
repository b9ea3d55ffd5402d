// The suite of Keyv for storage adapters, on Keyv 5 for which it was written, and the calls of Keyv 6 by hand.
import keyvTestSuite, { keyvIteratorTests } from '@keyv/test-suite'
import Keyv from 'keyv'
import Keyv6 from 'keyv6'
import * as test from 'vitest'
import { createRowhouse } from '../../src/index.ts'
import { KeyvState } from '../../src/keyv/index.ts'

const rowhouse = createRowhouse({ connectionString: test.inject('appUrl'), poolOptions: { max: 3 } })
test.afterAll(() => rowhouse.close())
const store = () => new KeyvState(rowhouse.tenant('acme').state)

test.describe('@keyv/test-suite', () => {
  keyvTestSuite(test, Keyv, store)
  keyvIteratorTests(test, Keyv, store)
})

test.describe('Keyv 6', () => {
  test.it('sets, reads, expires, iterates, deletes and clears', async () => {
    const one = new Keyv6({ store: store(), namespace: 'one' })
    const other = new Keyv6({ store: store(), namespace: 'other' })
    await one.set('a', { deep: [1] })
    await one.set('b', 2, 60_000)
    await other.set('a', 'theirs')
    test.expect(await one.get('a')).toEqual({ deep: [1] })
    test.expect(await one.getMany(['b', 'a', 'c'])).toEqual([2, { deep: [1] }, undefined])
    test.expect(await one.has('b')).toBe(true)
    await one.set('short', 1, 20)
    await new Promise((resolve) => setTimeout(resolve, 40))
    test.expect(await one.get('short')).toBeUndefined()
    test.expect(await one.delete('a')).toBe(true)
    await one.clear()
    test.expect(await one.get('b')).toBeUndefined()
    test.expect(await other.get('a')).toBe('theirs')
  })
})
