import { execFile } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'

const root = join(import.meta.dirname, '../..')
const program = join(root, 'examples/quickstart/main.ts')

test('runs by itself and prints what its comments say', async () => {
  const { stdout, stderr } = await promisify(execFile)(process.execPath, [program])
  expect(stdout.trim().split('\n')).toEqual(['[]', '1'])
  expect(stderr).toBe('')
})

test('is the program of the README', async () => {
  const [, shown] = /```ts run\n(.*?)```/s.exec(await readFile(join(root, 'README.md'), 'utf8'))!
  const statements = (source: string) =>
    source
      .split('\n')
      .map((line) => line.replace(/\s*\/\/.*$/, ''))
      .filter((line) => line.includes('rowhouse.') || line.includes('db.'))
  const own = statements(await readFile(program, 'utf8'))
  for (const statement of statements(shown!)) expect(own).toContain(statement)
})
