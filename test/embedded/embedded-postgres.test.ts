import { execFile } from 'node:child_process'
import { cp, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { type AddressInfo, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { PGlite } from '@electric-sql/pglite'
import { PGLiteSocketServer } from '@electric-sql/pglite-socket'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type EmbeddedPostgres, startEmbeddedPostgres } from '../../src/embedded/index.ts'
import { RowhouseError } from '../../src/errors.ts'

const run = promisify(execFile)
const source = join(import.meta.dirname, '../../src')

describe('a running embedded Postgres', () => {
  let postgres: EmbeddedPostgres
  let pool: pg.Pool

  beforeAll(async () => {
    postgres = await startEmbeddedPostgres()
    pool = new pg.Pool({ connectionString: postgres.connectionString, max: 8 })
  })

  afterAll(async () => {
    await pool.end()
    await postgres.close()
  })

  test('is PostgreSQL 15 or later with pgvector', async () => {
    const { rows } = await pool.query<{ version: number; distance: number }>(
      `select current_setting('server_version_num')::int as version, '[1,0]'::vector <=> '[0,1]'::vector as distance`,
    )
    expect(rows[0]!.version).toBeGreaterThanOrEqual(150000)
    expect(rows[0]!.distance).toBe(1)
  })

  test('listens on the loopback interface only', () => {
    expect(new URL(postgres.connectionString).hostname).toBe('127.0.0.1')
    expect(Number(new URL(postgres.connectionString).port)).toBe(postgres.port)
  })

  test('lets several connections run transactions, one after the other', async () => {
    await pool.query('create table counters (id int primary key, value int not null)')
    await pool.query('insert into counters values (1, 0)')
    await Promise.all(
      Array.from({ length: 20 }, async () => {
        const client = await pool.connect()
        try {
          await client.query('begin')
          const { rows } = await client.query<{ value: number }>('select value from counters where id = $1', [1])
          await client.query('update counters set value = $1 where id = 1', [rows[0]!.value + 1])
          await client.query('commit')
        } finally {
          client.release()
        }
      }),
    )
    const { rows } = await pool.query('select value from counters')
    expect(rows).toEqual([{ value: 20 }])
  })

  test('gives every connection the result of its own statement, however long the values are', async () => {
    const answers = await Promise.all(
      Array.from({ length: 60 }, async (_, index) => {
        const sent = 'x'.repeat(index % 2 === 0 ? 300_000 : 10)
        const { rows } = await pool.query(`select $1::text = $2 as unchanged, ${index} as statement`, [sent, sent])
        return rows[0]
      }),
    )
    expect(answers).toEqual(answers.map((_, index) => ({ unchanged: true, statement: index })))
  })

  test('executes the statement that a connection parsed, whatever others send in between', async () => {
    expect(await executeWithInterruption(postgres.connectionString)).toEqual({ own: 'own', other: 'other' })
  })

  test('negative control: the socket server alone executes the statement of another connection', async () => {
    await using database = await PGlite.create()
    const server = new PGLiteSocketServer({ db: database, port: 0, maxConnections: 2 })
    await server.start()
    const results = await executeWithInterruption(`postgres://postgres@${server.getServerConn()}/postgres`)
    expect(results).toEqual({ own: 'other', other: 'other' })
    await server.stop()
  })

  test('applies row-level security after set local role', async () => {
    await pool.query(`
      create role embedded_reader nologin;
      create table notes (tenant_id text, body text);
      insert into notes values ('acme', 'one'), ('globex', 'two');
      alter table notes enable row level security;
      create policy own on notes using (tenant_id = current_setting('app.tenant_id', true));
      grant select on notes to embedded_reader`)
    const client = await pool.connect()
    await client.query(`begin; set local role embedded_reader; set local app.tenant_id = 'acme'`)
    expect((await client.query('select body from notes')).rows).toEqual([{ body: 'one' }])
    await client.query('commit')
    // Negative control: without the role, the superuser of the session sees every row.
    expect((await client.query('select body from notes')).rows).toHaveLength(2)
    client.release()
  })

  test('answers pipelined queries in order, errors included', async () => {
    const client = new pg.Client({ connectionString: postgres.connectionString, pipeline: true })
    await client.connect()
    const results = await Promise.allSettled([
      client.query('begin'),
      client.query('select $1::int as n', [1]),
      client.query('select no_such_column'),
      client.query('rollback'),
      client.query('select $1::int as n', [2]),
    ])
    expect(results.map((result) => result.status)).toEqual([
      'fulfilled',
      'fulfilled',
      'rejected',
      'fulfilled',
      'fulfilled',
    ])
    expect(results[4]).toMatchObject({ value: { rows: [{ n: 2 }] } })
    await client.end()
  })

  test('passes notices on', async () => {
    const client = await pool.connect()
    const notices: (string | undefined)[] = []
    client.on('notice', (notice) => notices.push(notice.message))
    await client.query(`do $$ begin raise notice 'seen'; end $$`)
    client.release()
    expect(notices).toEqual(['seen'])
  })

  test.each([
    ['an open transaction', (client: pg.Client) => client.query('begin; create table left_open ()')],
    ['a failed transaction', (client: pg.Client) => client.query('begin; select 1/0').catch(() => {})],
    ['a statement without its Sync', (client: pg.Client) => sendWithoutSync(client)],
  ])('rolls back %s of a connection that goes away, and the others go on', async (_, leaveOpen) => {
    const client = new pg.Client({ connectionString: postgres.connectionString })
    client.on('error', () => {})
    await client.connect()
    await leaveOpen(client)
    const answer = pool.query(`select to_regclass('left_open') as name`)
    ;(client as unknown as { connection: pg.Connection }).connection.stream.destroy()
    expect((await answer).rows).toEqual([{ name: null }])
  })

  test('warns when a transaction is idle while another connection waits', { timeout: 15_000 }, async () => {
    const client = await pool.connect()
    await client.query('begin')
    const waiting = pool.query('select 1')
    const warning = await new Promise<Error & { code?: string }>((resolve) => process.once('warning', resolve))
    expect(warning.code).toBe('ROWHOUSE_EMBEDDED_IDLE_TRANSACTION')
    await client.query('commit')
    await waiting
    client.release()
  })

  test('refuses a port that is in use', async () => {
    const other = createServer().listen(0, '127.0.0.1')
    await new Promise((resolve) => other.once('listening', resolve))
    const { port } = other.address() as AddressInfo
    await expect(startEmbeddedPostgres({ port })).rejects.toThrow(`Port ${port} on 127.0.0.1 is in use.`)
    await new Promise((resolve) => other.close(resolve))
  })
})

describe('the end of an embedded Postgres', () => {
  test('leaves nothing that keeps the process alive, with a connection and a transaction still open', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'rowhouse-embedded-'))
    const script = join(folder, 'script.ts')
    await writeFile(
      script,
      `
      import { createRequire } from 'node:module'
      import { startEmbeddedPostgres } from ${JSON.stringify(join(source, 'embedded/index.ts'))}
      const pg = createRequire(${JSON.stringify(import.meta.filename)})('pg')
      const postgres = await startEmbeddedPostgres()
      const client = new pg.Client({ connectionString: postgres.connectionString })
      client.on('error', (error) => console.log('cut:', error.message))
      await client.connect()
      await client.query('begin')
      await postgres.close()
      await postgres.close()
      console.log('closed')`,
    )
    // Without exit() in the script: it ends only when nothing is left open.
    const { stdout, stderr } = await run(process.execPath, [script], { timeout: 30_000 })
    expect(stdout.trim().split('\n')).toEqual(
      expect.arrayContaining(['cut: Connection terminated unexpectedly', 'closed']),
    )
    expect(stderr).toBe('')
    await rm(folder, { recursive: true })
  })

  test('keeps the committed rows of a data folder, and lets one process use it at a time', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'rowhouse-embedded-'))
    const dataDir = join(folder, 'nested', 'data')
    const first = await startEmbeddedPostgres({ dataDir })
    const client = new pg.Client({ connectionString: first.connectionString })
    client.on('error', () => {})
    await client.connect()
    await client.query('create table kept (id int); insert into kept values (1)')
    await client.query('begin; insert into kept values (2)')

    await expect(startEmbeddedPostgres({ dataDir })).rejects.toThrow(/is used by another embedded Postgres/)
    await first.close()

    // A lock file whose process is gone is taken over.
    await writeFile(`${dataDir}.lock`, '2147483646')
    await using second = await startEmbeddedPostgres({ dataDir })
    const reader = new pg.Client({ connectionString: second.connectionString })
    await reader.connect()
    expect((await reader.query('select id from kept')).rows).toEqual([{ id: 1 }])
    await reader.end()
    await second.close()
    await rm(folder, { recursive: true })
  })

  test('names the missing package and how to install it', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'rowhouse-embedded-'))
    await cp(join(source, 'embedded'), join(folder, 'embedded'), { recursive: true })
    for (const file of ['errors.ts', 'error-kinds.ts']) await cp(join(source, file), join(folder, file))
    await writeFile(join(folder, 'package.json'), '{ "type": "module" }')
    await writeFile(
      join(folder, 'main.ts'),
      `import { startEmbeddedPostgres } from './embedded/index.ts'
      await startEmbeddedPostgres().catch((error) => console.log(error.name + ': ' + error.message))`,
    )
    const { stdout } = await run(process.execPath, [join(folder, 'main.ts')])
    expect(stdout).toMatch(/^RowhouseError: The embedded Postgres needs the package @electric-sql\/pglite, /)
    expect(stdout).toMatch(/run `npm install @electric-sql\/pglite@0\.5\.14 .*`\.\n$/)
    await rm(folder, { recursive: true })
  })

  test.each([-1, 65_536, 1.5, Number.NaN])('refuses port %d', async (port) => {
    await expect(startEmbeddedPostgres({ port })).rejects.toBeInstanceOf(RowhouseError)
  })
})

/** A statement whose messages are sent one by one: Parse at once, the rest when told. */
class SlowStatement {
  readonly parsed = Promise.withResolvers<void>()
  readonly value = Promise.withResolvers<string>()
  readonly #text: string
  #connection: any

  constructor(text: string) {
    this.#text = text
  }

  submit(connection: any): void {
    this.#connection = connection
    connection.once('parseComplete', () => this.parsed.resolve())
    connection.parse({ text: this.#text, name: '', types: [] })
    connection.flush()
  }

  finish(): void {
    this.#connection.bind({ portal: '', statement: '', values: [] })
    this.#connection.execute({ portal: '', rows: 0 })
    this.#connection.sync()
  }

  handleDataRow(row: { fields: Buffer[] }): void {
    this.value.resolve(String(row.fields[0]))
  }

  handleCommandComplete(): void {}
  handleReadyForQuery(): void {}
  handleError(error: Error): void {
    this.value.reject(error)
  }
}

/** Parses a statement on one connection, runs another statement on a second one, then executes the first. */
async function executeWithInterruption(connectionString: string): Promise<{ own: unknown; other: unknown }> {
  const first = new pg.Client({ connectionString })
  const second = new pg.Client({ connectionString })
  await Promise.all([first.connect(), second.connect()])
  const statement = first.query(new SlowStatement(`select 'own' as value`))
  await statement.parsed.promise

  const other = second.query({ text: `select 'other' as value`, queryMode: 'extended' } as pg.QueryConfig)
  await new Promise((resolve) => setTimeout(resolve, 100))
  statement.finish()
  const results = { own: await statement.value.promise, other: (await other).rows[0]?.value }
  await Promise.all([first.end(), second.end()])
  return results
}

/** Sends Parse and then nothing, as a client does that dies in the middle of a statement. */
async function sendWithoutSync(client: pg.Client): Promise<void> {
  const statement = client.query(new SlowStatement('select 1'))
  statement.value.promise.catch(() => {})
  await statement.parsed.promise
}
