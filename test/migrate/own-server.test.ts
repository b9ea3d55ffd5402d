import pg from 'pg'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { migrate } from '../../src/migrate/migrate.ts'
import { ROLE_NAMES } from '../../src/migrate/server-facts.ts'
import { useDatabase } from '../setup/database.ts'
import { needs } from '../setup/needs.ts'
import { createTestDatabase, failureOf, type TestDatabase, type TestDatabaseOptions } from './support.ts'

/** The four roles belong to every database of a server, so only a server of its own may lack or change them. */
const server = useDatabase({ ownServer: true })

describe('a server that never saw rowhouse', needs('ownServer', 'superuser'), () => {
  let databases: TestDatabase[]

  beforeEach(() => {
    databases = []
  })
  afterEach(async () => {
    // The first login may own the databases of the others.
    for (const database of databases.reverse()) await database.drop()
    const superuser = await server.connect('superuser')
    for (const role of ROLE_NAMES) await superuser.query(`drop role if exists ${role}`)
  })

  async function newDatabase(options: TestDatabaseOptions = {}): Promise<TestDatabase> {
    const database = await createTestDatabase({ ...options, server: server.url('superuser') })
    databases.push(database)
    return database
  }

  test('gets the four roles, each with a comment', async () => {
    const database = await newDatabase()
    const { preparations } = await migrate({ connectionString: database.url })
    expect(preparations[0]).toBe('create the roles rowhouse_owner, rowhouse_app, rowhouse_admin, rowhouse_search')
    const roles = await database.admin(
      `select rolname, shobj_description(oid, 'pg_authid') as comment from pg_roles where rolname = any ($1)`,
      [ROLE_NAMES],
    )
    expect(roles).toHaveLength(4)
    for (const { comment } of roles) expect(comment).toMatch(/\w/)
  })

  test('gets them once from 20 migrations of 5 databases at once', async () => {
    // From 16 on a login may grant only roles that it made or was given; there, one login owns all databases.
    const first = await newDatabase()
    const urls = [first.url]
    for (let index = 1; index < 5; index++) {
      const database = await newDatabase()
      if (database.serverVersion >= 160000) {
        await first.admin(`alter database ${database.name} owner to ${first.login}`)
        urls.push(new URL(new URL(database.url).pathname, first.url).href)
      } else {
        urls.push(database.url)
      }
    }
    const reports = await Promise.all(urls.flatMap((url) => [1, 2, 3, 4].map(() => migrate({ connectionString: url }))))
    const installed = reports.filter(({ applied }) => applied.some(({ file }) => file === 'migrations/1_tenants.sql'))
    expect(installed).toHaveLength(5)
  })

  test('without CREATEROLE: the statements of the message are all an administrator has to run', async () => {
    const database = await newDatabase({ createRole: false })
    const error = await failureOf(migrate({ connectionString: database.url }))
    expect(error.code).toBe('missing_privilege')
    expect(error.message).toContain('no CREATEROLE')
    await database.admin(/runs: (.*)$/.exec(error.hint)![1]!)
    expect((await migrate({ connectionString: database.url })).applied.length).toBeGreaterThan(1)
  })

  test(
    'from 16 on, roles of another creator: the statement of the message lets the second owner in',
    needs('postgres 16'),
    async () => {
      await migrate({ connectionString: (await newDatabase()).url })
      const second = await newDatabase({ createRole: false })
      await second.admin(`alter role ${pg.escapeIdentifier(second.login)} createrole`)
      const error = await failureOf(migrate({ connectionString: second.url }))
      expect(error.message).toContain('no ADMIN OPTION')
      await second.admin(/runs: (.*)$/.exec(error.hint)![1]!)
      expect((await migrate({ connectionString: second.url })).applied.length).toBeGreaterThan(1)
    },
  )

  test.each(['bypassrls', 'superuser'])(
    'a rowhouse_app that is %s is refused, and mended by the statement',
    async (attribute) => {
      const database = await newDatabase()
      await database.admin(`create role rowhouse_app ${attribute}`)
      const error = await failureOf(migrate({ connectionString: database.url }))
      expect(error.code).toBe('role_not_restricted')
      await database.admin(/runs: (.*)$/.exec(error.hint)![1]!)
      await database.admin(`grant rowhouse_app to ${pg.escapeIdentifier(database.login)} with admin option`)
      expect((await migrate({ connectionString: database.url })).applied.length).toBeGreaterThan(1)
    },
  )
})
