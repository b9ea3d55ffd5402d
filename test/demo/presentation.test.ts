import { expect, test } from 'vitest'
import { Presentation } from '../../src/demo/presentation.ts'

function present(): { lines: string[]; presentation: Presentation } {
  const lines: string[] = []
  return {
    lines,
    presentation: new Presentation({ output: (line) => lines.push(line), style: (_style, text) => text }),
  }
}

test('aligns the columns of a table, numbers to the right', () => {
  const { lines, presentation } = present()
  presentation.table(
    ['table', 'rows'],
    [
      ['documents', 1327],
      ['annotations', 12],
    ],
  )
  expect(lines).toEqual(['   table         rows', '   documents    1,327', '   annotations     12'])
})

test('cuts long cells, and breaks long prose', () => {
  const { lines, presentation } = present()
  presentation.table(['text'], [['word '.repeat(40)]])
  presentation.text('word '.repeat(40).trim())
  for (const line of lines) expect(line.length).toBeLessThanOrEqual(95)
  expect(lines[1]).toMatch(/\.\.\.$/)
})

test('counts claims that hold, and shows expected and seen of one that does not', () => {
  const { lines, presentation } = present()
  presentation.claim('two equals two', { n: 2 }, { n: 2 })
  presentation.claim('three equals two', 3, 2)
  expect({ held: presentation.held, failed: presentation.failed }).toEqual({ held: 1, failed: 1 })
  expect(lines).toEqual([
    '   ok  two equals two',
    '   FAILED  three equals two',
    '          expected: 2',
    '          got:      3',
  ])
})

test('a refusal must be the expected one', async () => {
  const { presentation } = present()
  const refuse = (code: string) => async () => {
    throw Object.assign(new Error('no'), { code })
  }
  await presentation.refused('refused with 42501', '42501', refuse('42501'))
  expect({ held: presentation.held, failed: presentation.failed }).toEqual({ held: 1, failed: 0 })
  await presentation.refused('refused with 42501', '42501', refuse('42P01'))
  await presentation.refused('refused with 42501', '42501', async () => 'let through')
  expect({ held: presentation.held, failed: presentation.failed }).toEqual({ held: 1, failed: 2 })
})

test('numbers the sections', () => {
  const { lines, presentation } = present()
  presentation.section('First')
  presentation.section('Second')
  expect(lines).toEqual(['', '1. First', '', '2. Second'])
})
