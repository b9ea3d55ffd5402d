// P31: a foreign key is checked without policies: one without the tenant accepts a row of another tenant (so it tells
// that it exists), and a cascade from it deletes in another tenant. Closed: foreign keys contain the tenant.
import { beforeAll, expect, test } from 'vitest'
import { useDatabase } from '../setup/database.ts'
import { ACME, GLOBEX, protect, useAppTables } from './support/app-tables.ts'
import { useClients } from './support/clients.ts'
import { expectClosed } from './support/expect-closed.ts'
import { inTenant, rowsInTenant, undone } from './support/in-tenant.ts'

const database = useDatabase()
useAppTables(database)
const clients = useClients(database, 'owner', 'app')

const MISSING = '00000000-0000-4000-8000-000000000000'

beforeAll(async () => {
  await clients.owner.query(`
    create table projects (tenant_id text not null, id uuid not null unique, primary key (tenant_id, id));
    create table tasks (tenant_id text not null, id int not null, project_id uuid not null, primary key (tenant_id, id),
      constraint tasks_project foreign key (tenant_id, project_id) references projects (tenant_id, id) on delete cascade)`)
  await protect(clients.owner, 'projects')
  await protect(clients.owner, 'tasks')
  await rowsInTenant(clients.app, GLOBEX, 'insert into projects (id) values (gen_random_uuid())', { commit: true })
})

const withoutTenant = () =>
  clients.owner.query(`alter table tasks drop constraint tasks_project,
    add constraint tasks_project foreign key (project_id) references projects (id) on delete cascade`)
const withTenant = () =>
  clients.owner.query(`alter table tasks drop constraint tasks_project,
    add constraint tasks_project foreign key (tenant_id, project_id) references projects (tenant_id, id) on delete cascade`)

const projectOfGlobex = async (): Promise<string> =>
  (await rowsInTenant(clients.app, GLOBEX, 'select id from projects limit 1'))[0].id

test('a row of another tenant and a missing one give the identical error', async () => {
  const answerTo = (project: string) =>
    rowsInTenant(clients.app, ACME, `insert into tasks (id, project_id) values (1, '${project}')`).then(
      () => 'accepted',
      (error) => JSON.stringify({ ...error, message: error.message }),
    )
  await expectClosed({
    probe: async () => {
      const [other, missing] = [await answerTo(await projectOfGlobex()), await answerTo(MISSING)]
      return other === missing ? [] : [other, missing]
    },
    removeProtection: withoutTenant,
    restoreProtection: withTenant,
  })
})

test('a delete of one tenant does not cascade into another', async () => {
  await expectClosed({
    probe: async () => {
      const project = await projectOfGlobex()
      return inTenant(clients.app, ACME, async () => {
        // Refused with the tenant in the key; where it is not, the row is there and goes with globex's project.
        const written = await undoneUnlessWritten(`insert into tasks (id, project_id) values (2, '${project}')`)
        if (!written) return []
        await clients.app.query(`set local app.tenant_id = '${GLOBEX}'`)
        await clients.app.query('delete from projects where id = $1', [project])
        await clients.app.query(`set local app.tenant_id = '${ACME}'`)
        const { rowCount } = await clients.app.query('select from tasks where id = 2')
        return rowCount === 0 ? ['the task of acme is gone'] : []
      })
    },
    removeProtection: withoutTenant,
    restoreProtection: withTenant,
  })
})

async function undoneUnlessWritten(statement: string): Promise<boolean> {
  await clients.app.query('savepoint attempt')
  try {
    await clients.app.query(statement)
    return true
  } catch {
    await clients.app.query('rollback to savepoint attempt')
    return false
  }
}

test('a foreign key without the tenant is reported on both sides', async () => {
  for (const table of ['tasks', 'projects']) {
    await expectClosed({
      probe: async () =>
        (await protect(clients.owner, table)).findings.filter(({ kind }) => kind === 'foreign_key_without_tenant'),
      removeProtection: withoutTenant,
      restoreProtection: withTenant,
    })
  }
})

test('on update and on delete actions stay inside the tenant', async () => {
  await inTenant(clients.app, ACME, async () => {
    await clients.app.query("insert into projects (id) values ('11111111-1111-4111-8111-111111111111')")
    await clients.app.query("insert into tasks (id, project_id) values (3, '11111111-1111-4111-8111-111111111111')")
    await undone(clients.app, async () => {
      await clients.app.query("delete from projects where id = '11111111-1111-4111-8111-111111111111'")
      expect((await clients.app.query('select from tasks where id = 3')).rowCount).toBe(0)
    })
  })
})
