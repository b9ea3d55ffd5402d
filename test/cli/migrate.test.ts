import { beforeEach, describe, expect, test } from 'vitest'
import { MIGRATION_LOCK } from '../../src/migrate/lock.ts'
import { poll } from '../setup/connection.ts'
import { useDatabase } from '../setup/database.ts'
import { needs } from '../setup/needs.ts'
import { runCli } from './run-cli.ts'

describe('rowhouse migrate, from an empty database on', () => {
  const database = useDatabase({ migrated: false })
  let url: string

  beforeEach(() => {
    url = database.url('owner')
  })

  test('--status says that nothing is installed', async () => {
    const { exitCode, stdout } = await runCli(['migrate', '--status', '--database-url', url])
    expect(exitCode).toBe(0)
    expect(stdout).toContain('not installed')
    expect(stdout).toMatch(/^ {2}pending {2}migrations\/1_tenants\.sql$/m)
    expect(stdout).toContain('missing: create the schema rowhouse')
  })

  test('--dry-run names the files, --verbose shows the SQL, neither writes', async () => {
    const { exitCode, stdout } = await runCli(['migrate', '--dry-run'], { DATABASE_URL: url })
    expect(exitCode).toBe(0)
    expect(stdout).toContain('nothing was written')
    expect(stdout).toContain('- apply migrations/1_tenants.sql')
    expect(stdout).not.toContain('create table rowhouse.tenants')
    const verbose = await runCli(['migrate', '--dry-run', '--verbose'], { DATABASE_URL: url })
    expect(verbose.stdout).toContain('create table rowhouse.tenants')
    const client = await database.connect('owner')
    const { rows } = await client.query("select to_regnamespace('rowhouse') as schema")
    expect(rows).toEqual([{ schema: null }])
  })

  test('installs, with a plain line for each step', async () => {
    const { exitCode, stdout } = await runCli(['migrate', '--database-url', url])
    expect(exitCode).toBe(0)
    expect(stdout).toMatch(/^ {2}✓ connected \([\d.]+ m?s\)$/m)
    expect(stdout).toMatch(/^ {2}✓ migrations\/1_tenants\.sql \([\d.]+ m?s\)$/m)
    expect(stdout).toMatch(/^rowhouse \S+ is installed in \S+ \(PostgreSQL \d+\.\d+\), in \d/m)
    expect(stdout).not.toContain('\u001b')
  })

  test('has nothing to do the second time', async () => {
    const { exitCode, stdout } = await runCli(['migrate', '--database-url', url])
    expect(exitCode).toBe(0)
    expect(stdout).toContain('there was nothing to do')
    expect(stdout).not.toContain('1_tenants')
  })

  test('--json prints the report and nothing else', async () => {
    const { exitCode, stdout } = await runCli(['migrate', '--json', '--database-url', url])
    expect(exitCode).toBe(0)
    expect(JSON.parse(stdout)).toMatchObject({ database: database.name, dryRun: false, applied: [] })
    const status = await runCli(['migrate', '--json', '--status', '--database-url', url])
    expect(JSON.parse(status.stdout)).toMatchObject({ upToDate: true, preparations: [] })
  })

  test('--status says that it is up to date', async () => {
    const { stdout } = await runCli(['migrate', '--status', '--database-url', url])
    expect(stdout).toMatch(/^ {2}applied {2}migrations\/1_tenants\.sql .*Z$/m)
    expect(stdout).toContain('Up to date.')
  })

  test('says that it waits for another migration', needs('parallelBackends'), async () => {
    const holder = await database.connect('owner')
    await holder.query('begin; set local role rowhouse_owner')
    await holder.query("update rowhouse.applied_functions set checksum = 'x'; commit")
    await holder.query(`begin; select pg_advisory_xact_lock(${MIGRATION_LOCK.join(', ')})`)
    const run = runCli(['migrate', '--database-url', url])
    const waits = `select from pg_locks where locktype = 'advisory' and not granted and classid = $1 and objid = $2
      and database = (select oid from pg_database where datname = current_database())`
    await poll(async () => (await holder.query(waits, [...MIGRATION_LOCK])).rows[0], {
      message: () => 'nobody waits for the lock',
      timeoutMs: 15_000,
    })
    // It says so after two seconds.
    await new Promise((resolve) => setTimeout(resolve, 2500))
    await holder.query('commit')
    const { exitCode, stdout } = await run
    expect(exitCode).toBe(0)
    expect(stdout).toContain('another migration is running, waiting for it')
  })

  test('--database-url goes before DATABASE_URL', async () => {
    const { exitCode } = await runCli(['migrate', '--database-url', url], {
      DATABASE_URL: 'postgres://x@localhost:1/x',
    })
    expect(exitCode).toBe(0)
  })
})

describe('failures', () => {
  test('one sentence and the mend on standard error, exit code 1, no stack', async () => {
    const { exitCode, stdout, stderr } = await runCli([
      'migrate',
      '--database-url',
      'postgres://a:s3cret@127.0.0.1:1/x',
    ])
    expect(exitCode).toBe(1)
    expect(stdout).toBe('')
    expect(stderr).toBe(
      'error: Nothing accepts connections at 127.0.0.1:1.\n' +
        '  Check host and port in the connection string, and that the server runs.\n',
    )
  })

  test('--debug adds the stack, and still no password', async () => {
    const { exitCode, stderr } = await runCli([
      'migrate',
      '--debug',
      '--database-url',
      'postgres://a:s3cret@127.0.0.1:1/x',
    ])
    expect(exitCode).toBe(1)
    expect(stderr).toContain('    at ')
    expect(stderr).not.toContain('s3cret')
  })
})
