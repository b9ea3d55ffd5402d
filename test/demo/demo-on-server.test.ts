import { execFileSync } from 'node:child_process'
import { beforeAll, describe, expect, test } from 'vitest'
import { runDemo } from '../../src/demo/demo.ts'
import { useDatabase } from '../setup/database.ts'
import { needs } from '../setup/needs.ts'

async function play(databaseUrl: string, onLine: (line: string) => void = () => {}) {
  const lines: string[] = []
  const exitCode = await runDemo({
    databaseUrl,
    output(line) {
      lines.push(line)
      onLine(line)
    },
  })
  return { exitCode, lines, text: lines.join('\n') }
}

describe('on a server with pgvector', () => {
  const database = useDatabase({ needs: ['pgvector'] })

  test('plays the whole story as the owner of the database, and again', { timeout: 120_000 }, async () => {
    for (let run = 1; run <= 2; run++) {
      const { exitCode, lines } = await play(database.url('owner'))
      expect(lines.filter((line) => line.includes('FAILED'))).toEqual([])
      expect(exitCode).toBe(0)
      expect(lines).toContain('11. Clean up')
    }
  })

  test('removes what it added', async () => {
    const owner = await database.connect('owner')
    const { rows } = await owner.query(`
      select to_regnamespace('rowhouse_demo') as schema,
        (select count(*)::int from rowhouse.collections where name like 'rowhouse_demo%') as collections,
        (select count(*)::int from rowhouse.protected_tables
          where relation::text not like 'rowhouse.%' or relation::text like 'rowhouse.documents_%') as tables`)
    expect(rows).toEqual([{ schema: null, collections: 0, tables: 0 }])
    await owner.query('begin; set local role rowhouse_admin')
    const tenants = await owner.query(`select distinct status from rowhouse.tenants where tenant_id like 'demo-%'`)
    await owner.query('commit')
    expect(tenants.rows).toEqual([{ status: 'erased' }])
  })

  test('negative control: fails when the table loses its policies', async () => {
    const { exitCode, text } = await play(database.url('owner'), (line) => {
      if (line.startsWith('6. ')) disableRowSecurity(database.url('owner'))
    })
    expect(exitCode).toBe(1)
    expect(text).toMatch(/FAILED {2}Only its own rows are there to be counted\n {10}expected: .*\n {10}got: .*/)
    expect(text).toMatch(/FAILED: \d+ claims held and \d+ did not, after/)
    expect(text).toContain('7. Clean up')
  })

  test('touches nothing when an interrupted run left its schema', async () => {
    const owner = await database.connect('owner')
    await owner.query('create schema rowhouse_demo create table rowhouse_demo.kept ()')
    const { exitCode, text } = await play(database.url('owner'))
    expect(exitCode).toBe(1)
    expect(text).toContain('The schema rowhouse_demo exists already')
    expect(text).toContain('drop schema rowhouse_demo cascade')
    await owner.query('drop table rowhouse_demo.kept; drop schema rowhouse_demo')
  })
})

describe('without what it needs', () => {
  const database = useDatabase({ migrated: false })

  beforeAll(async () => {
    const owner = await database.connect('owner')
    const { rowCount } = await owner.query(`select from pg_extension where extname = 'vector'`)
    expect(rowCount).toBe(0)
  })

  test('says who can add pgvector, and cleans up', needs('realRoles'), async () => {
    const { exitCode, text } = await play(database.url('owner'))
    expect(exitCode).toBe(1)
    expect(text).toContain('collections need the extension pgvector, which is not installed in this')
    expect(text).toMatch(/create extension vector/)
    expect(text).toContain('ok  The schema and the collection of the demo are gone')
  })

  test('says what is wrong with a connection', async () => {
    const url = new URL(database.url('owner'))
    url.port = '1'
    const { exitCode, text } = await play(url.href)
    expect(exitCode).toBe(1)
    expect(text).toMatch(/FAILED {2}The demo could not go on\n {10}Nothing accepts connections at 127\.0\.0\.1:1/)
  })
})

/** While the demo waits: between two of its lines nothing else runs in this process. */
function disableRowSecurity(url: string): void {
  const script = `
    import pg from 'pg'
    const client = new pg.Client({ connectionString: process.env.URL })
    await client.connect()
    await client.query('alter table rowhouse_demo.annotations disable row level security')
    await client.end()`
  execFileSync(process.execPath, ['--input-type=module', '--eval', script], { env: { ...process.env, URL: url } })
}
