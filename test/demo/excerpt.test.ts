import { expect, test } from 'vitest'
import { excerpt } from '../../src/demo/excerpt.ts'

const content = 'Four score and seven years ago our fathers brought forth a new nation, conceived in liberty.'

test('cuts out the words that a question shares with a passage', () => {
  expect(excerpt(content, 'nations of liberty', 40)).toBe('... a new nation, conceived in liberty.')
  expect(excerpt(content, 'the years', 30)).toBe('Four score and seven years ago ...')
})

test('keeps a short passage whole', () => {
  expect(excerpt(content, 'liberty', 200)).toBe(content)
  expect(excerpt('', 'liberty', 200)).toBe('')
})
