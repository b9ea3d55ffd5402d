import { sql } from 'kysely'
import { beforeAll, describe, expect, test } from 'vitest'
import { createRowhouse } from '../../src/index.ts'
import { migrate } from '../../src/migrate/migrate.ts'
import { withParts } from '../setup/connection.ts'
import { useDatabase } from '../setup/database.ts'
import { needs } from '../setup/needs.ts'
import { createFixture, rowhouseFor } from './fixture.ts'

const select = (db: any) => db.selectFrom('invoices').selectAll().execute()

describe('start-up check', () => {
  const database = useDatabase()
  const open = rowhouseFor(database)
  beforeAll(() => createFixture(database))

  test('refuses a superuser', needs('superuser', 'realRoles'), async () => {
    const rowhouse = open({ connectionString: database.url('superuser'), role: null })
    const refused = { code: 'role_not_restricted', message: expect.stringContaining('superuser') }
    await expect(rowhouse.withTenant('acme', select)).rejects.toMatchObject(refused)
    await expect(rowhouse.query('acme', (db) => db.selectFrom('invoices').selectAll())).rejects.toMatchObject(refused)
    await expect(select(rowhouse.kysely('acme'))).rejects.toMatchObject(refused)
  })

  test('a superuser that becomes rowhouse_app is fine', needs('superuser'), async () => {
    const rowhouse = open({ connectionString: database.url('superuser') })
    expect(await rowhouse.withTenant('acme', select)).toHaveLength(10)
  })

  test('refuses a role that the policies do not hold back', needs('superuser', 'realRoles'), async () => {
    const superuser = await database.connect('superuser')
    const role = `bypass_${process.pid}`
    await superuser.query(
      `create role ${role} bypassrls; grant rowhouse_app to ${role}; grant ${role} to ${loginOf(database.url('app'))}`,
    )
    try {
      await expect(open({ role }).withTenant('acme', select)).rejects.toMatchObject({
        code: 'role_not_restricted',
        message: expect.stringContaining('BYPASSRLS'),
      })
    } finally {
      await superuser.query(`drop role ${role}`)
    }
  })

  test('names the grant that is missing', needs('realRoles'), async () => {
    const rowhouse = open({ connectionString: database.url('operator') })
    await expect(rowhouse.withTenant('acme', select)).rejects.toMatchObject({
      code: 'missing_privilege',
      message: expect.stringMatching(/run: grant "rowhouse_app" to ".*operator"/),
    })
  })

  test('a role that does not exist', needs('realRoles'), async () => {
    await expect(open({ role: 'nobody_here' }).withTenant('acme', select)).rejects.toMatchObject({
      code: 'invalid_argument',
      message: 'The role "nobody_here" does not exist.',
    })
  })

  test('runs once per pool', async () => {
    const pool = database.pool('app', { max: 1 })
    const statements: string[] = []
    pool.on('connect', (client) => {
      const { query } = client
      client.query = ((...args: any[]) => {
        statements.push(args[0].text)
        return (query as any).apply(client, args)
      }) as any
    })
    const { withTenant, query } = open({ pool })
    await Promise.all([withTenant('acme', select), withTenant('globex', select), query('acme', () => sql`select 1`)])
    expect(statements.filter((text) => text.includes('startup_check'))).toHaveLength(1)
  })

  test('reload() learns of a new tenant table', async () => {
    const rowhouse = open()
    const compiled = () =>
      rowhouse
        .kysely('acme')
        .selectFrom('later' as any)
        .selectAll()
        .compile().sql
    await rowhouse.query('acme', () => sql`select 1`)
    const owner = await database.connect('owner')
    await owner.query("create table later (tenant_id text not null, id int); select rowhouse.protect_table('later')")
    expect(compiled()).not.toContain('tenant_id')
    await rowhouse.reload()
    expect(compiled()).toContain('"later"."tenant_id" = $1')
  })
})

describe('a database without rowhouse', () => {
  const database = useDatabase({ migrated: false })
  const open = rowhouseFor(database)

  test('says what to run, and works once it has been run', async () => {
    const rowhouse = open()
    const missing = { code: 'not_migrated', hint: expect.stringContaining('rowhouse migrate') }
    await expect(rowhouse.withTenant('acme', select)).rejects.toMatchObject(missing)
    await migrate({ connectionString: database.url('owner') })
    await createFixture(database)
    expect(await rowhouse.withTenant('acme', select)).toHaveLength(10)
  })
})

describe('connecting', () => {
  const database = useDatabase()

  test('a server that does not answer', async () => {
    await using rowhouse = createRowhouse({ connectionString: withParts(database.url('app'), { port: 1 }) })
    await expect(rowhouse.withTenant('acme', select)).rejects.toMatchObject({
      code: 'connection_failed',
      httpStatus: 503,
    })
  })

  test('a wrong password, which the message does not repeat', needs('realRoles'), async () => {
    await using rowhouse = createRowhouse({ connectionString: withParts(database.url('app'), { password: 'wr0ng' }) })
    const error = await rowhouse.withTenant('acme', select).catch((reason: Error) => reason)
    expect(error).toMatchObject({
      code: 'connection_failed',
      message: expect.stringContaining('password authentication'),
    })
    expect(String(error)).not.toContain('wr0ng')
  })

  test('a pool that was closed', async () => {
    const rowhouse = createRowhouse({ connectionString: database.url('app') })
    await rowhouse.close()
    await rowhouse.close()
    await expect(rowhouse.withTenant('acme', select)).rejects.toMatchObject({ code: 'connection_failed' })
  })

  test('close() leaves a given pool open', async () => {
    const pool = database.pool('app')
    await createRowhouse({ pool }).close()
    expect((await pool.query('select 1 as one')).rows).toEqual([{ one: 1 }])
  })

  test.each([
    [{}, /needs either connectionString or pool/],
    [{ connectionString: 'mysql://x' }, /connectionString/],
    [{ connectionString: 'postgres://x', pool: {} }, /pool/],
    [{ connectionString: 'postgres://x', rol: 'x' }, /rol/],
    [{ connectionString: 'postgres://x', role: '' }, /role/],
    [{ connectionString: 'postgres://x', plugins: [1] }, /plugins/],
    [{ connectionString: 'postgres://x', admin: {} }, /admin needs either/],
  ])('refuses the options %j', (options, message) => {
    expect(() => createRowhouse(options as any)).toThrow(message)
  })

  test('pipeline needs a pool that is made for it', () => {
    const pool = database.pool('app')
    expect(() => createRowhouse({ pool, pipeline: true })).toThrow(/pipeline: true/)
  })
})

function loginOf(url: string): string {
  return decodeURIComponent(new URL(url).username)
}
