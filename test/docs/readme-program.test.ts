// The program at the top of the README runs as it stands there, and prints what its comments say.
import { execFile } from 'node:child_process'
import { mkdir, writeFile } from 'node:fs/promises'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'
import { useDatabase } from '../setup/database.ts'
import { collectCodeBlocks } from './code-blocks.ts'

const ROOT = new URL('../../', import.meta.url).pathname.replace(/\/$/, '')
const database = useDatabase({ migrated: false })

test('the program of the README runs', async () => {
  const blocks = await collectCodeBlocks(ROOT)
  const program = blocks.find((block) => block.file === 'README.md' && block.flags.includes('run'))
  expect(program).toBeDefined()
  expect(program!.code.split('\n').length).toBeLessThanOrEqual(30)

  const owner = await database.connect('owner')
  await owner.query('create table public.invoices (id uuid default gen_random_uuid(), number text, amount integer)')
  const folder = `${ROOT}/.cache/readme`
  await mkdir(folder, { recursive: true })
  await writeFile(`${folder}/program.ts`, program!.code)
  const { stdout } = await promisify(execFile)(
    process.execPath,
    ['--import', `${ROOT}/test/setup/resolve-source.ts`, `${folder}/program.ts`],
    { cwd: ROOT, env: { ...process.env, DATABASE_URL: database.url('owner') } },
  )
  expect(stdout.trim().split('\n')).toEqual(['[]', '1'])
}, 60_000)

test('the SQL of the README works without any client library', async () => {
  const blocks = await collectCodeBlocks(ROOT)
  const sql = blocks.filter((block) => block.language === 'sql' && /^(README|sql\/README)/.test(block.file))
  expect(sql.length).toBeGreaterThan(0)
  const owner = await database.connect('owner')
  await owner.query("select rowhouse.provision_tenant('globex')")
  await owner.query(
    "begin; set local role rowhouse_app; set local app.tenant_id = 'globex'; insert into invoices (number, amount) values ('G-1', 5); commit",
  )
  const app = await database.connect('app')
  for (const block of sql) {
    const results = (await app.query(block.code.replaceAll("'acme'", "'globex'"))) as unknown as {
      rows: { number?: string }[]
    }[]
    expect(results.flatMap((result) => result.rows).some((row) => row.number === 'G-1')).toBe(true)
  }
})
