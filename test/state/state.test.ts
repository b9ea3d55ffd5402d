import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'
import { expectError } from '../documents/fixture.ts'
import { rowsInTenant } from '../isolation/support/in-tenant.ts'
import { ACME, provision, useSessions } from '../sessions/fixture.ts'
import { useDatabase } from '../setup/database.ts'
import { needs } from '../setup/needs.ts'

const database = useDatabase()
const fixture = useSessions(database, { poolSize: 16 })

/** Lets values look as if they had expired already. */
async function expire(prefix: string): Promise<void> {
  const app = await database.connect('app')
  const sql = `update rowhouse.state set expires_at = now() - interval '1 s' where key like '${prefix}%'`
  await rowsInTenant(app, ACME, sql, { commit: true })
  await app.end()
}

describe('get and set', () => {
  test.for([
    ['null', null],
    ['false', false],
    ['zero', 0],
    ['a fraction', -1.5e-7],
    ['text', 'Grüße 👋 \\ " \n'],
    ['an empty object', {}],
    ['something deep', { a: [1, { b: null }], ключ: [[]] }],
  ] as const)('gives back %s', async ([name, value]) => {
    const { state } = fixture.acme
    await state.set(`value:${name}`, value)
    expect(await state.get(`value:${name}`)).toEqual(value)
  })

  test('a later value takes the place of the one before, and of its lifetime', async () => {
    const { state } = fixture.acme
    await state.set('twice', 1, { ttlMs: 60_000 })
    expect((await state.getMany(['twice']))[0]!.expiresAt).toBeInstanceOf(Date)
    await state.set('twice', 2)
    expect(await state.getMany(['twice'])).toEqual([{ key: 'twice', value: 2, expiresAt: null }])
  })

  test('several at once, in the order of the keys', async () => {
    const { state } = fixture.acme
    await state.set('m:1', 1)
    await state.set('m:2', 2)
    const entries = await state.getMany(['m:2', 'm:9', 'm:1', 'm:2'])
    expect(entries.map(({ key, value }) => [key, value])).toEqual([
      ['m:2', 2],
      ['m:1', 1],
    ])
    expect(await state.getMany([])).toEqual([])
  })

  test('nothing under a key that was never set', async () => {
    expect(await fixture.acme.state.get('never')).toBeUndefined()
  })

  test('joins the transaction of withTenant', async () => {
    const failure = fixture.rowhouse.withTenant(ACME, async (_db, tenant) => {
      await tenant.state.set('undone', 1)
      expect(await tenant.state.get('undone')).toBe(1)
      throw new Error('no')
    })
    await expect(failure).rejects.toThrow('no')
    expect(await fixture.acme.state.get('undone')).toBeUndefined()
  })
})

describe('a value that expired', () => {
  test('is gone for every call', async () => {
    const { state } = fixture.acme
    for (const key of ['gone:get', 'gone:absent', 'gone:compare', 'gone:increment', 'gone:delete', 'gone:clear']) {
      await state.set(key, 7, { ttlMs: 60_000 })
    }
    await expire('gone:')
    expect(await state.get('gone:get')).toBeUndefined()
    expect((await state.list({ prefix: 'gone:' })).entries).toEqual([])
    expect(await state.setIfAbsent('gone:absent', 8)).toBe(true)
    expect(await state.compareAndSet('gone:compare', 7, 8)).toBe(false)
    expect(await state.compareAndSet('gone:compare', undefined, 9)).toBe(true)
    expect(await state.increment('gone:increment', 2)).toBe(2)
    expect(await state.delete('gone:delete')).toBe(0)
    expect(await state.get('gone:absent')).toBe(8)
    expect(await state.get('gone:compare')).toBe(9)
    expect(await state.clear({ prefix: 'gone:clear' })).toBe(0)
  })

  test('is gone by the clock', async () => {
    const { state } = fixture.acme
    await state.set('short', 1, { ttlMs: 2000 })
    expect(await state.get('short')).toBe(1)
    await expect.poll(() => state.get('short')).toBeUndefined()
  })

  test('is gone inside of a transaction that began before', async () => {
    await fixture.rowhouse.withTenant(ACME, async (_db, tenant) => {
      await tenant.state.set('shorter', 1, { ttlMs: 100 })
      await sleep(120)
      expect(await tenant.state.get('shorter')).toBeUndefined()
      expect(await tenant.state.setIfAbsent('shorter', 2)).toBe(true)
    })
  })

  test('is swept in batches; others stay', async () => {
    await provision(database, 'sweeper')
    const { state } = fixture.rowhouse.tenant('sweeper')
    for (let number = 0; number < 12; number++)
      await state.set(`s:${number}`, number, { ttlMs: number < 10 ? 1 : 60_000 })
    await sleep(5)
    expect(await state.sweep({ batchSize: 3 })).toBe(10)
    expect(await state.sweep()).toBe(0)
    expect((await state.list()).entries).toHaveLength(2)
  })
})

describe('conditions', () => {
  test('setIfAbsent', async () => {
    const { state } = fixture.acme
    expect(await state.setIfAbsent('absent', 1)).toBe(true)
    expect(await state.setIfAbsent('absent', 2)).toBe(false)
    expect(await state.get('absent')).toBe(1)
  })

  test('compareAndSet compares JSON', async () => {
    const { state } = fixture.acme
    await state.set('cas', { a: 1, b: [2] })
    expect(await state.compareAndSet('cas', { a: 1 }, 'x')).toBe(false)
    expect(await state.compareAndSet('cas', undefined, 'x')).toBe(false)
    expect(await state.compareAndSet('cas', { b: [2], a: 1.0 }, null)).toBe(true)
    expect(await state.compareAndSet('cas', null, 'end', { ttlMs: 1000 })).toBe(true)
    expect(await state.get('cas')).toBe('end')
    expect(await state.compareAndSet('nothing', 1, 2)).toBe(false)
  })

  test('one of 16 that compare wins', needs('parallelBackends'), async () => {
    const { state } = fixture.acme
    await state.set('race', 0)
    const won = await Promise.all(Array.from({ length: 16 }, (_, n) => state.compareAndSet('race', 0, n + 1)))
    expect(won.filter(Boolean)).toHaveLength(1)
    const absent = await Promise.all(Array.from({ length: 16 }, (_, n) => state.setIfAbsent('race:absent', n)))
    expect(absent.filter(Boolean)).toHaveLength(1)
  })
})

describe('increment', () => {
  test.each([null, 'x', true, [], {}])('%j is no number', async (value) => {
    const { state } = fixture.acme
    await state.set('count:wrong', value)
    await expectError(state.increment('count:wrong'), 'invalid_state', 'is no number')
    expect(await state.get('count:wrong')).toEqual(value)
  })

  test('begins at 0 and counts in any step', async () => {
    const { state } = fixture.acme
    expect(await state.increment('count')).toBe(1)
    expect(await state.increment('count', 41)).toBe(42)
    expect(await state.increment('count', -2.5)).toBe(39.5)
    expect(await state.get('count')).toBe(39.5)
  })

  test('keeps the lifetime of the number', async () => {
    const { state } = fixture.acme
    await state.increment('count:ttl', 1, { ttlMs: 60_000 })
    const [before] = await state.getMany(['count:ttl'])
    await state.increment('count:ttl', 1, { ttlMs: 3_600_000 })
    await state.increment('count:ttl')
    const [after] = await state.getMany(['count:ttl'])
    expect(after).toEqual({ ...before, value: 3 })
  })

  test('loses no count of 16 at the same time', needs('parallelBackends'), async () => {
    const { state } = fixture.acme
    const sums = await Promise.all(Array.from({ length: 160 }, () => state.increment('count:race')))
    expect(new Set(sums).size).toBe(160)
    expect(await state.get('count:race')).toBe(160)
  })
})

describe('list, delete and clear', () => {
  test('page by page, by prefix, byte by byte', async () => {
    await provision(database, 'lister')
    const { state } = fixture.rowhouse.tenant('lister')
    const keys = ['a', 'a:1', 'a:2', 'a:3', 'a:%', 'a:ü', 'a_', 'b', 'A:1']
    for (const key of keys) await state.set(key, key)
    const found: string[] = []
    let cursor: string | undefined
    do {
      const page = await state.list({ prefix: 'a:', limit: 2, cursor })
      found.push(...page.entries.map(({ key }) => key))
      cursor = page.nextCursor
    } while (cursor !== undefined)
    expect(found).toEqual(['a:%', 'a:1', 'a:2', 'a:3', 'a:ü'])
    expect((await state.list()).entries.map(({ key }) => key)).toEqual([...keys].sort())
    const page = await state.list({ prefix: 'a:', limit: 2 })
    await expectError(state.list({ prefix: 'b', cursor: page.nextCursor }), 'invalid_cursor')
    await expectError(fixture.acme.state.list({ prefix: 'a:', cursor: page.nextCursor }), 'invalid_cursor')
    expect(await state.delete(['a', 'b', 'nothing'])).toBe(2)
    expect(await state.delete('a_')).toBe(1)
    expect(await state.delete([])).toBe(0)
    expect(await state.clear({ prefix: 'a:' })).toBe(5)
    expect((await state.list()).entries.map(({ key }) => key)).toEqual(['A:1'])
    expect(await state.clear({ prefix: '' })).toBe(1)
  })
})

describe('bad input', () => {
  const circle: Record<string, unknown> = {}
  circle.self = circle
  test.for<[string, string, unknown, object, string]>([
    ['an empty key', '', 1, {}, 'The key is empty'],
    ['a long key', 'x'.repeat(513), 1, {}, 'The key has more than 512 characters'],
    ['a zero byte in the key', 'a\0', 1, {}, 'The key contains a zero byte'],
    ['half of a character in the key', '\ud83d', 1, {}, 'cut in the middle of a character'],
    ['the largest character in the key', 'a\u{10ffff}', 1, {}, 'U\\+10FFFF'],
    ['undefined', 'bad', undefined, {}, 'can not be written as JSON'],
    ['a function', 'bad', () => 1, {}, 'can not be written as JSON'],
    ['a circle', 'bad', circle, {}, 'can not be written as JSON'],
    ['a zero byte', 'bad', 'a\0b', {}, 'contains a zero byte'],
    ['half of a character', 'bad', ['\udc00'], {}, 'half of a character'],
    ['too much', 'bad', 'x'.repeat(1_048_576), {}, 'The value has more than 1048576 bytes'],
    ['a lifetime of nothing', 'bad', 1, { ttlMs: 0 }, 'ttlMs is not more than 0'],
    ['a lifetime that is no number', 'bad', 1, { ttlMs: Number.NaN }, 'ttlMs is not a finite number'],
    ['an unknown option', 'bad', 1, { ttl: 5 }, 'unrecognized key: "ttl"'],
  ])('%s', async ([, key, value, options, message]) => {
    const { state } = fixture.acme
    await expectError(state.set(key, value, options), 'invalid_state', message)
    await expectError(state.setIfAbsent(key, value, options), 'invalid_state', message)
    expect(await state.get('bad')).toBeUndefined()
  })

  test('to the other calls', async () => {
    const { state } = fixture.acme
    await expectError(state.increment('bad', Number.NaN), 'invalid_state', 'The amount is not a finite number')
    await expectError(state.getMany('bad' as never), 'invalid_state', 'The keys is not an array')
    await expectError(state.list({ limit: 0 }), 'invalid_state', 'limit is less than 1')
    await expectError(state.clear({ prefix: undefined as never }), 'invalid_state', 'The prefix is not a string')
    expect(await state.get('bad')).toBeUndefined()
  })

  test.for<[string, string, string]>([
    ['RH070', "set_state('', '1')", 'a key is 1 to 512'],
    ['RH070', "set_state(null, '1')", 'a key is 1 to 512'],
    ['RH070', "set_state('a', null)", 'null included'],
    ['RH070', "set_state('a', to_jsonb(repeat('x', 1048576)))", 'at most 1048576 bytes'],
    ['RH070', "set_state('a', '1', interval '0')", 'a lifetime is more than 0'],
    ['22023', "list_state('', null)", 'limit'],
  ])('%s: %s', async ([sqlstate, call, message]) => {
    const app = await database.connect('app')
    await expect(rowsInTenant(app, ACME, `select rowhouse.${call}`)).rejects.toMatchObject({
      code: sqlstate,
      message: expect.stringContaining(message),
    })
    await app.end()
  })
})
