// P17: policies of a table do not hold for a query that names one of its partitions, and a partition that is created
// later gets none. Closed: every partition carries the policies itself, and no role has a privilege on it.
import { beforeAll, describe, expect, test } from 'vitest'
import { useDatabase } from '../setup/database.ts'
import { ACME, GLOBEX, protect, useAppTables } from './support/app-tables.ts'
import { useClients } from './support/clients.ts'
import { expectClosed, REFUSED, unlessRefused } from './support/expect-closed.ts'
import { exposures } from './support/exposures.ts'
import { rowsInTenant } from './support/in-tenant.ts'

const database = useDatabase()
useAppTables(database)
const clients = useClients(database, 'owner', 'app', 'operator')

const leavesOf = async (table: string): Promise<string[]> => {
  const { rows } = await clients.owner.query(
    'select relid::regclass::text as name from pg_partition_tree($1) where level > 0 order by 1',
    [table],
  )
  return rows.map((row) => row.name)
}

async function foreignRowsOf(table: string): Promise<unknown[]> {
  const found: unknown[] = []
  for (const partition of await leavesOf(table)) {
    found.push(
      ...(await unlessRefused(REFUSED, () =>
        rowsInTenant(clients.app, ACME, `select * from ${partition} where tenant_id <> '${ACME}'`),
      )),
    )
  }
  return found
}

/** As its owner, or as rowhouse_owner where the partitions belong to it. */
const onEachPartition = (table: string, statement: (partition: string) => string) => async () => {
  for (const partition of await leavesOf(table)) await clients.owner.query(statement(partition))
}

describe('the partitions that rowhouse lays out', () => {
  test('are out of reach', async () => {
    const grant = (verb: string, to: string) => async () => {
      await clients.owner.query('begin; set local role rowhouse_owner')
      await clients.owner.query(`${verb} usage on schema rowhouse_partitions ${to} rowhouse_app`)
      for (const partition of await leavesOf('events')) {
        await clients.owner.query(`${verb} select on ${partition} ${to} rowhouse_app`)
        await clients.owner.query(
          `alter table ${partition} ${verb === 'grant' ? 'disable' : 'enable'} row level security`,
        )
      }
      await clients.owner.query('commit')
    }
    await expectClosed({
      probe: () => foreignRowsOf('events'),
      removeProtection: grant('grant', 'to'),
      restoreProtection: grant('revoke', 'from'),
    })
  })

  test('carry the policies, should somebody grant a privilege', async () => {
    await clients.owner.query('set role rowhouse_owner')
    await clients.owner.query('grant usage on schema rowhouse_partitions to rowhouse_app')
    await onEachPartition('events', (partition) => `grant select on ${partition} to rowhouse_app`)()
    await expectClosed({
      probe: () => foreignRowsOf('events'),
      removeProtection: onEachPartition('events', (partition) => `alter table ${partition} disable row level security`),
      restoreProtection: onEachPartition('events', (partition) => `alter table ${partition} enable row level security`),
    })
    await onEachPartition('events', (partition) => `revoke select on ${partition} from rowhouse_app`)()
    await clients.owner.query('revoke usage on schema rowhouse_partitions from rowhouse_app')
    await clients.owner.query('reset role')
  })

  test('of a promoted tenant are out of reach as well', async () => {
    await rowsInTenant(clients.operator, null, `select rowhouse.promote_tenant('${GLOBEX}')`, {
      role: 'rowhouse_admin',
      commit: true,
    })
    const own = (await leavesOf('events')).filter((name) => !name.startsWith('rowhouse_partitions'))
    expect(own).toHaveLength(1)
    expect(await foreignRowsOf('events')).toEqual([])
    const { rows } = await clients.owner.query(
      'select relrowsecurity and relforcerowsecurity as secure from pg_class where oid = $1::regclass',
      own,
    )
    expect(rows).toEqual([{ secure: true }])
    const seen = await rowsInTenant(clients.app, GLOBEX, 'select count(*)::int as rows from events')
    expect(seen).toEqual([{ rows: 9 }])
  })
})

describe("partitions of the application's own", () => {
  beforeAll(async () => {
    await clients.owner.query(`
      create table measurements (tenant_id text not null, day date not null, value int, primary key (tenant_id, day))
        partition by range (day);
      create table measurements_2026 partition of measurements for values from ('2026-01-01') to ('2027-01-01');
      grant select on measurements_2026 to rowhouse_app`)
    await protect(clients.owner, 'measurements')
    for (const tenantId of [ACME, GLOBEX]) {
      await rowsInTenant(clients.app, tenantId, "insert into measurements (day, value) values ('2026-05-05', 1)", {
        commit: true,
      })
    }
  })

  test('lose their privileges and get the policies', async () => {
    await expectClosed({
      probe: () => foreignRowsOf('measurements'),
      removeProtection: () =>
        clients.owner.query(
          'grant select on measurements_2026 to rowhouse_app; alter table measurements_2026 disable row level security',
        ),
      restoreProtection: () => protect(clients.owner, 'measurements'),
    })
  })

  test('that are made later are found, and protected by the next protect_table', async () => {
    await clients.owner.query(`
      create table measurements_2027 partition of measurements for values from ('2027-01-01') to ('2028-01-01');
      grant select on measurements_2027 to rowhouse_app`)
    await rowsInTenant(clients.app, GLOBEX, "insert into measurements (day, value) values ('2027-05-05', 1)", {
      commit: true,
    })
    expect(await foreignRowsOf('measurements')).toHaveLength(1)
    const { findings } = await protect(clients.owner, 'measurements')
    expect(findings.map(({ kind }) => kind)).toContain('future_partitions')
    expect(await foreignRowsOf('measurements')).toEqual([])
  })
})

describe('a table that inherits from a protected one', () => {
  const inherit = () =>
    clients.owner.query(`
      create table archived_invoices () inherits (invoices);
      insert into archived_invoices (tenant_id, id, customer_id, note, total)
        values ('${GLOBEX}', 900, gen_random_uuid(), 'archived', 1)`)

  test('is filtered when it is read through the other, and noticed when it can be read itself', async () => {
    await clients.owner.query(`set app.tenant_id = '${GLOBEX}'`)
    await inherit()
    await clients.owner.query('reset app.tenant_id')
    expect(await rowsInTenant(clients.app, ACME, "select from invoices where note = 'archived'")).toEqual([])
    expect(await rowsInTenant(clients.app, GLOBEX, "select from invoices where note = 'archived'")).toHaveLength(1)
    await expectClosed({
      probe: async () => [
        ...(await unlessRefused(REFUSED, () => rowsInTenant(clients.app, ACME, 'select * from archived_invoices'))),
        ...(await exposures(clients.owner, 'unprotected_table')).filter((line) => line.includes('may select')),
      ],
      removeProtection: () => clients.owner.query('grant select on archived_invoices to rowhouse_app'),
      restoreProtection: () => clients.owner.query('revoke select on archived_invoices from rowhouse_app'),
    })
    await clients.owner.query('drop table archived_invoices')
  })
})
