// The role of full-text search: its operator runs before the policy of the tenant is looked at, so what the role sees,
// what it may do and who may be it are attacked here; each probe leaks once what closes it is taken away.
import type pg from 'pg'
import { beforeAll, describe, expect, test } from 'vitest'
import { createRowhouse } from '../../src/index.ts'
import { ACME, GLOBEX, useRowhouse } from '../documents/fixture.ts'
import { useDatabase } from '../setup/database.ts'
import { needs } from '../setup/needs.ts'
import { expectClosed, REFUSED, unlessRefused } from './support/expect-closed.ts'
import { inTenant, rowsInTenant } from './support/in-tenant.ts'

const database = useDatabase({ needs: ['pgvector'] })
const fixture = useRowhouse(database)
const TABLE = 'rowhouse.documents_documents'
let owner: pg.Client

beforeAll(async () => {
  owner = await database.connect('owner')
  await fixture.rowhouse.collections.create('documents', { dimensions: 2 })
  for (const tenantId of [ACME, GLOBEX]) {
    await fixture.rowhouse
      .tenant(tenantId)
      .documents()
      .upsert(
        Array.from({ length: 200 }, (_, index) => ({
          id: `${tenantId}-${index}`,
          content: `shared word of ${tenantId}`,
          embedding: [1, 1],
          metadata: { secret: tenantId },
        })),
      )
  }
})

const asOwner = (sql: string) => () => owner.query(`begin; set local role rowhouse_owner; ${sql}; commit`)

/** Rows that the role sees for acme while it searches for something. */
async function asSearch(search: string, sql: string, tenantId = ACME): Promise<any[]> {
  await owner.query('begin')
  try {
    await owner.query(`set local app.tenant_id = '${tenantId}'; set local role rowhouse_search`)
    await owner.query(`set local rowhouse.search = '${search.replaceAll("'", "''")}'`)
    return (await owner.query(sql)).rows
  } finally {
    await owner.query('rollback')
  }
}

const policies = (using: string) =>
  asOwner(
    ['rowhouse_tenant', 'rowhouse_isolation']
      .map((name) => `alter policy ${name} on ${TABLE} using (${using})`)
      .join(';'),
  )
const OWN_ROWS = "tenant_id = nullif(current_setting('app.tenant_id', true), '')"

describe('what the role sees', () => {
  test.for<[string, string]>([
    ['a word that both tenants have', 'share'],
    ['a word of the other tenant', GLOBEX],
    ['the other tenant as a word', `'tenant ${GLOBEX}'`],
    ['anything but a word', '!unheard'],
  ])('%s: never a row of another tenant', async ([_what, search]) => {
    await expectClosed({
      probe: async () =>
        (await asSearch(search, `select document_id, tenant_id from ${TABLE}`)).filter((row) => row.tenant_id !== ACME),
      removeProtection: policies('true'),
      restoreProtection: policies(OWN_ROWS),
    })
  })

  test('nothing that is not searched for, and nothing without a search', async () => {
    for (const search of ['unheard', '']) {
      await expectClosed({
        probe: () => asSearch(search, `select document_id from ${TABLE}`),
        removeProtection: asOwner(`alter policy rowhouse_find on ${TABLE} using (true)`),
        restoreProtection: asOwner(
          `alter policy rowhouse_find on ${TABLE} using (words @@ nullif(current_setting('rowhouse.search', true), '')::tsquery)`,
        ),
      })
    }
  })

  test('nothing without a tenant', async () => {
    expect(await asSearch('share', `select document_id from ${TABLE}`, '')).toEqual([])
    expect(await asSearch('share', `select document_id from ${TABLE}`)).toHaveLength(200)
  })

  test('the policy is the first of the restrictive ones, restrictive, for reading and for this role alone', async () => {
    const { rows } = await owner.query(
      `select polname as name, polpermissive as permissive, polcmd as command, polroles::regrole[]::text[] as roles
        from pg_policy where polrelid = '${TABLE}'::regclass order by polname`,
    )
    expect(rows.map(({ name }) => name)).toEqual(['rowhouse_find', 'rowhouse_isolation', 'rowhouse_tenant'])
    expect(rows[0]).toMatchObject({ permissive: false, command: 'r', roles: ['rowhouse_search'] })
  })
})

describe('what the role may do', () => {
  test.for<[string, string]>([
    ['the content', `select content as document_id from ${TABLE}`],
    ['the embedding', `select embedding as document_id from ${TABLE}`],
    ['whole rows', `select d from ${TABLE} d`],
    ['parents', 'select parent_id from rowhouse.parents_documents'],
    ['tenants', 'select tenant_id from rowhouse.tenants'],
    ['the trail', 'select entry_id from rowhouse.audit_entries'],
  ])('not read %s', async ([_what, sql]) => {
    const table = / from ([\w.]+)/.exec(sql)![1]!
    const column = /select (\w+)/.exec(sql)![1]!
    const granted = column === 'd' ? 'select' : `select (${column})`
    const rows = () => unlessRefused(REFUSED, async () => [{ readable: await asSearch('share', sql) }])
    await expectClosed({
      probe: rows,
      removeProtection: asOwner(`grant ${granted} on ${table} to rowhouse_search`),
      restoreProtection: asOwner(
        `revoke select on ${table} from rowhouse_search; select rowhouse.let_search('${TABLE}')`,
      ),
    })
  })

  test.for<[string, string]>([
    ['insert', `insert into ${TABLE} (document_id, content, embedding) values ('x', 'x', '[1,1]')`],
    ['update', `update ${TABLE} set title = 'x'`],
    ['delete', `delete from ${TABLE}`],
    ['truncate', `truncate ${TABLE}`],
    ['create', 'create table rowhouse.planted (id int)'],
    ['define', 'create function rowhouse.planted() returns int language sql return 1'],
  ])('not %s', async ([_what, sql]) => {
    await expect(asSearch('share', sql)).rejects.toMatchObject({ code: REFUSED })
  })

  test('not name a partition', async () => {
    const { rows } = await owner.query(
      `select relid::regclass::text as name from pg_partition_tree('${TABLE}') where relid <> '${TABLE}'::regclass`,
    )
    expect(rows.length).toBeGreaterThan(16)
    for (const { name } of rows) {
      await expect(asSearch('share', `select from ${name}`)).rejects.toMatchObject({ code: REFUSED })
    }
  })

  test('nothing else: it owns one function and no relation, and executes what that function needs', async () => {
    const { rows } = await owner.query(
      `select p.proname as name, p.proowner = 'rowhouse_search'::regrole as owned from pg_proc p
        where p.pronamespace = 'rowhouse'::regnamespace
          and (p.proowner = 'rowhouse_search'::regrole
            or exists (select from aclexplode(p.proacl) a where a.grantee = 'rowhouse_search'::regrole)) order by 1`,
    )
    expect(rows.filter(({ owned }) => owned).map(({ name }) => name)).toEqual(['find_words'])
    expect(rows.filter(({ owned }) => !owned).map(({ name }) => name)).toEqual([
      'check_text_search',
      'compile_comparison',
      'compile_containment',
      'compile_field',
      'compile_filter',
      'compile_member',
      'has_operator',
      'refuse_filter',
      'text_query',
    ])
    const { rows: owned } = await owner.query("select from pg_class where relowner = 'rowhouse_search'::regrole")
    expect(owned).toEqual([])
  })
})

describe('who may be the role', () => {
  test('not the application', needs('realRoles'), async () => {
    await fixture.app.query('begin')
    await expect(fixture.app.query('set local role rowhouse_search')).rejects.toMatchObject({ code: REFUSED })
    await fixture.app.query('rollback')
    const { rows } = await owner.query(
      `select r.rolname from pg_roles r where pg_has_role(r.oid, 'rowhouse_search', 'member')
        and r.rolname in ('rowhouse_app', 'rowhouse_admin', 'rowhouse_owner')`,
    )
    expect(rows).toEqual([])
  })

  test('nobody who logs in; and it is exempt from nothing', async () => {
    const { rows } = await owner.query(
      "select rolcanlogin, rolsuper, rolbypassrls, rolcreaterole, rolcreatedb from pg_roles where rolname = 'rowhouse_search'",
    )
    expect(rows).toEqual([
      { rolcanlogin: false, rolsuper: false, rolbypassrls: false, rolcreaterole: false, rolcreatedb: false },
    ])
  })
})

describe('the function', () => {
  const find = (args: string) => rowsInTenant(fixture.app, ACME, `select * from rowhouse.find_words(${args})`)

  test('returns ids and ranks of its tenant, and nothing else', async () => {
    const rows = await find(`'${TABLE}', 'shared', 'all', 1000, null`)
    expect(rows).toHaveLength(200)
    for (const row of rows) {
      expect(Object.keys(row)).toEqual(['document_id', 'rank'])
      expect(row.document_id).toMatch(/^acme-/)
    }
  })

  test('says the tenant itself, should the policies be gone', async () => {
    await policies('true')()
    try {
      expect(
        (await find(`'${TABLE}', 'shared', 'all', 1000, null`)).every((row) => /^acme-/.test(row.document_id)),
      ).toBe(true)
      expect(await find(`'${TABLE}', '${GLOBEX}', 'all', 1000, null`)).toEqual([])
    } finally {
      await policies(OWN_ROWS)()
    }
  })

  test.for<[string, string]>([
    ['another table of rowhouse', 'rowhouse.tenants'],
    ['its parents', 'rowhouse.parents_documents'],
    ['a catalog', 'pg_catalog.pg_authid'],
  ])('searches no other table: %s', async ([_what, table]) => {
    await expect(find(`'${table}', 'x', 'all', 10, null`)).rejects.toMatchObject({ code: 'RH020' })
  })

  test('takes words and filters as words and filters', async () => {
    const injections = [
      "x' or true --",
      "'; select set_config('app.tenant_id', 'globex', true); --",
      "globex:* | 'tenant globex'",
      '%L %1$s $1',
      "\\' | globex",
    ]
    for (const injection of injections) {
      const text = `'${injection.replaceAll("'", "''")}'`
      for (const match of ['all', 'any']) {
        const rows = await find(`'${TABLE}', ${text}, '${match}', 1000, null`)
        expect(rows.filter((row) => !row.document_id.startsWith(ACME))).toEqual([])
      }
      const filter = JSON.stringify({ [injection]: { $in: [injection] } }).replaceAll("'", "''")
      expect(await find(`'${TABLE}', 'shared', 'all', 10, '${filter}'`)).toEqual([])
    }
    expect(await find(`'${TABLE}', 'shared', 'all', 10, '{"secret": "globex"}'`)).toEqual([])
    await expect(find(`'${TABLE}', 'shared', 'all', 10, '{"$sql": "true"}'`)).rejects.toMatchObject({ code: 'RH025' })
  })

  test('obeys no search that its caller has set', async () => {
    const rows = await inTenant(fixture.app, ACME, async () => {
      await fixture.app.query(`set local rowhouse.search = '!unheard'; set local row_security = on`)
      return (await fixture.app.query(`select * from rowhouse.find_words('${TABLE}', 'unheard', 'all', 10, null)`)).rows
    })
    expect(rows).toEqual([])
  })

  test('refuses without a tenant', async () => {
    const refused = rowsInTenant(
      fixture.app,
      null,
      `select * from rowhouse.find_words('${TABLE}', 'x', 'all', 10, null)`,
    )
    await expect(refused).rejects.toMatchObject({ code: 'RH001' })
  })
})

test(
  'with seals required: the index finds words for a sealed tenant, and nothing for one that SQL has set',
  needs('parallelBackends', 'realRoles'),
  async () => {
    const key = 'a key of this test, of 32 bytes or more'
    const operators = createRowhouse({ connectionString: database.url('owner'), poolOptions: { max: 1 } })
    const sealed = createRowhouse({ pool: database.pool('app', { max: 1 }), seal: key })
    try {
      await operators.seals.addKey(key)
      await operators.seals.require(true)
      const hits = await sealed.tenant(ACME).documents().search({ mode: 'text', text: 'shared', limit: 50 })
      expect(hits).toHaveLength(50)
      for (const hit of hits) expect(hit).toMatchObject({ tenantId: ACME, textStrategy: 'index' })
      const find = `select * from rowhouse.find_words('${TABLE}', 'shared', 'all', 10, null)`
      await expectClosed({
        probe: () => unlessRefused(['RH007', 'RH008'], () => rowsInTenant(fixture.app, GLOBEX, find)),
        removeProtection: () => operators.seals.require(false),
        restoreProtection: () => operators.seals.require(true),
      })
    } finally {
      await operators.seals.require(false)
      await Promise.all([operators.close(), sealed.close()])
    }
  },
)
