import pg from 'pg'
import { describe, expect, test } from 'vitest'
import { useDatabase } from './database.ts'
import { needs } from './needs.ts'

const database = useDatabase()
const other = useDatabase()

describe('the database of a test file', () => {
  test('is migrated, and is not that of another file', async () => {
    const client = await database.connect('owner')
    await client.query('create table only_here ()')
    const { rows } = await client.query(
      "select to_regnamespace('rowhouse') is not null as migrated, current_database() as name",
    )
    expect(rows[0].migrated).toBe(true)
    expect(rows[0].name).toBe(database.name)
    const elsewhere = await other.connect('owner')
    const { rows: there } = await elsewhere.query("select to_regclass('only_here') as found")
    expect(there[0].found).toBeNull()
  })

  test('grants on itself what its template grants', needs('realRoles'), async () => {
    const client = await database.connect('owner')
    const { rows } = await client.query(
      "select has_database_privilege('rowhouse_owner', current_database(), 'create') as can",
    )
    expect(rows[0].can).toBe(true)
  })

  test('has pgvector where the engine has', needs('pgvector'), async () => {
    const client = await database.connect('owner')
    const { rows } = await client.query("select '[1,0]'::vector <=> '[0,1]'::vector as distance")
    expect(rows[0].distance).toBe(1)
  })

  test('runs on the version the engine names', async () => {
    const client = await database.connect('owner')
    const { rows } = await client.query("select current_setting('server_version') as version")
    expect(rows[0].version.split('.')[0]).toBe(database.engine.version.split('.')[0])
  })
})

describe('logins', () => {
  const describeLogin = `
    select current_user as name, rolsuper, rolbypassrls, rolcreaterole, rolcreatedb,
           array(select b.rolname::text from pg_auth_members m join pg_roles b on b.oid = m.roleid
                 where m.member = r.oid order by 1) as member_of
    from pg_roles r where rolname = current_user`

  test('the application is a member of rowhouse_app and nothing else', needs('realRoles'), async () => {
    const { rows } = await (await database.connect('app')).query(describeLogin)
    expect(rows[0]).toMatchObject({
      ...{ rolsuper: false, rolbypassrls: false, rolcreaterole: false, rolcreatedb: false },
      member_of: ['rowhouse_app'],
    })
  })

  test('the operator is a member of rowhouse_admin and nothing else', needs('realRoles'), async () => {
    const { rows } = await (await database.connect('operator')).query(describeLogin)
    expect(rows[0]).toMatchObject({ rolsuper: false, rolbypassrls: false, member_of: ['rowhouse_admin'] })
  })

  test('the owner owns the database and is no superuser', needs('realRoles'), async () => {
    const owner = await database.connect('owner')
    const { rows } = await owner.query(describeLogin)
    expect(rows[0]).toMatchObject({ rolsuper: false, rolbypassrls: false, rolcreaterole: true })
    const { rows: owned } = await owner.query(
      'select datdba = current_user::regrole as mine from pg_database where datname = current_database()',
    )
    expect(owned[0].mine).toBe(true)
  })

  test('the superuser is one', needs('superuser'), async () => {
    const { rows } = await (await database.connect('superuser')).query('show is_superuser')
    expect(rows[0].is_superuser).toBe('on')
  })

  test('policies hold for the application; without them it sees everything', needs('realRoles'), async () => {
    const owner = await database.connect('owner')
    await owner.query(`
      create table policed (owner text);
      insert into policed values ('one'), ('two');
      alter table policed enable row level security;
      create policy only_one on policed using (owner = 'one');
      grant select on policed to rowhouse_app`)
    const app = await database.connect('app')
    const read = async () => (await app.query('select owner from policed order by 1')).rows.map((row) => row.owner)
    expect(await read()).toEqual(['one'])
    await owner.query('alter table policed disable row level security')
    expect(await read()).toEqual(['one', 'two'])
  })
})

describe('an empty database', () => {
  const empty = useDatabase({ migrated: false })

  test('has nothing of rowhouse', async () => {
    const client = await empty.connect('owner')
    const { rows } = await client.query(
      "select to_regnamespace('rowhouse') as schema, (select count(*)::int from pg_extension where extname = 'vector') as vector",
    )
    expect(rows[0]).toEqual({ schema: null, vector: 0 })
  })
})

describe('a server of its own', () => {
  const alone = useDatabase({ ownServer: true })

  test('never had the roles of rowhouse', needs('ownServer'), async () => {
    const client = await alone.connect('owner')
    const { rows } = await client.query(
      "select count(*)::int as count from pg_roles where rolname in ('rowhouse_owner', 'rowhouse_app')",
    )
    expect(rows[0].count).toBe(0)
  })
})

test('sessions are backends of their own', needs('parallelBackends'), async () => {
  const [one, two] = [await database.connect('app'), await database.connect('app')]
  await one.query("set application_name = 'changed'")
  const { rows } = await two.query('show application_name')
  expect(rows[0].application_name).toBe('test app')
})

test('a pool works and ends with the file', async () => {
  const pool = database.pool('app', { max: 2 })
  expect(pool).toBeInstanceOf(pg.Pool)
  const { rows } = await pool.query('select 1 as one')
  expect(rows).toEqual([{ one: 1 }])
})
