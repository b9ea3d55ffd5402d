import { describe, expect, inject, test } from 'vitest'
import { useDatabase } from './database.ts'
import { currentEngine, needs, whyNone, whyNot } from './needs.ts'

const database = useDatabase()
const first = inject('engines')[0]!

test('a file without special needs takes the first engine', () => {
  expect(database.engine).toEqual(first)
})

describe('a suite with needs', () => {
  const special = useDatabase({ needs: ['pgvector'] })
  const engine = currentEngine()

  test('takes the first engine that has them', async () => {
    expect(engine).toBe(special.engine)
    expect(engine.pgvector).toBe(true)
    const { rows } = await (await special.connect('owner')).query("select to_regtype('vector')::text as type")
    expect(rows[0].type).toBe('vector')
  })
})

describe('a suite after it', () => {
  const engine = currentEngine()

  test("has the file's engine", () => {
    expect(engine).toEqual(first)
  })
})

test('reasons name what is missing', () => {
  const engine = { ...first, name: 'X', pgvector: false, version: '16.14' }
  expect(whyNot(engine, ['pgvector'])).toBe('needs pgvector, which this engine has not: X')
  expect(whyNot(engine, ['postgres 16'])).toBeUndefined()
  expect(whyNot(engine, ['postgres 17'])).toBe('needs postgres 17 or newer, which this engine has not: X')
  expect(whyNone([engine, { ...engine, name: 'Y' }], ['pgvector', 'postgres 17'])).toBe(
    'needs pgvector and postgres 17 or newer, which none of these has: X, Y',
  )
  expect(needs()).toEqual({})
})
