// P26: TRUNCATE, REFERENCES and TRIGGER are not subject to policies: with the grant, one tenant empties the table.
// Closed: the application's role has none of them anywhere, and protect_table takes them away where it had.
import { describe, expect, test } from 'vitest'
import { useDatabase } from '../setup/database.ts'
import { needs } from '../setup/needs.ts'
import { ACME, APP_TABLES, GLOBEX, protect, useAppTables } from './support/app-tables.ts'
import { useClients } from './support/clients.ts'
import { expectClosed, REFUSED, unlessRefused } from './support/expect-closed.ts'
import { inTenant, rowsInTenant } from './support/in-tenant.ts'
import { reachableRelations } from './support/reachable-relations.ts'

const database = useDatabase()
useAppTables(database)
const clients = useClients(database, 'owner', 'app')

test.each(APP_TABLES)('%s: a tenant can not truncate the rows of another', async (table) => {
  const truncated = () =>
    unlessRefused([REFUSED, '0A000'], () =>
      inTenant(clients.app, ACME, async () => {
        await clients.app.query(`truncate ${table} cascade`)
        await clients.app.query(`set local app.tenant_id = '${GLOBEX}'`)
        const { rows } = await clients.app.query(`select count(*)::int as left from ${table}`)
        return rows[0].left === 0 ? ['rows of the other tenant are gone'] : []
      }),
    )
  await expectClosed({
    probe: truncated,
    removeProtection: () => clients.owner.query(`grant truncate on ${APP_TABLES.join(', ')} to rowhouse_app`),
    restoreProtection: async () => {
      for (const each of APP_TABLES) await protect(clients.owner, each)
    },
  })
})

describe('the matrix of privileges', needs('realRoles'), () => {
  const beyondRows = async () =>
    (await reachableRelations(clients.owner))
      .filter(({ kind }) => kind !== 'S')
      .flatMap(({ name, privileges }) =>
        privileges
          .filter((privilege) => !['select', 'insert', 'update', 'delete'].includes(privilege))
          .map((privilege) => `${privilege} on ${name}`),
      )

  test.each(['truncate', 'references', 'trigger'])('nobody gave the application %s', async (privilege) => {
    await expectClosed({
      probe: beyondRows,
      removeProtection: () => clients.owner.query(`grant ${privilege} on invoices to rowhouse_app`),
      restoreProtection: () => protect(clients.owner, 'invoices'),
    })
  })

  test('nobody gave it references of a single column', async () => {
    await expectClosed({
      probe: beyondRows,
      removeProtection: () => clients.owner.query('grant references (id) on invoices to rowhouse_app'),
      restoreProtection: () => clients.owner.query('revoke references (id) on invoices from rowhouse_app'),
    })
  })

  test('a grant to everybody is noticed as well, and reported', async () => {
    await expectClosed({
      probe: beyondRows,
      removeProtection: async () => {
        await clients.owner.query('grant truncate on invoices to public')
        const { findings } = await protect(clients.owner, 'invoices')
        expect(findings).toContainEqual(expect.objectContaining({ kind: 'privilege_around_policies', level: 'error' }))
      },
      restoreProtection: () => clients.owner.query('revoke truncate on invoices from public'),
    })
  })

  test('the application can create nothing in the database', async () => {
    const { rows } = await clients.owner.query(`
      select has_database_privilege('rowhouse_app', current_database(), 'create') as "inDatabase",
        array(select nspname::text from pg_namespace
          where has_schema_privilege('rowhouse_app', oid, 'create') and nspname not like 'pg\\_temp%') as "inSchemas"`)
    expect(rows).toEqual([{ inDatabase: false, inSchemas: [] }])
  })
})

test('a reference to a table needs a privilege that the application has not', async () => {
  const attempt = rowsInTenant(
    clients.app,
    ACME,
    'create temporary table probe (tenant_id text, id int, foreign key (tenant_id, id) references invoices)',
  )
  await expect(attempt).rejects.toMatchObject({ code: expect.stringMatching(/42501|42P16/) })
})
