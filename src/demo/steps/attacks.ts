import { sql } from 'kysely'
import pg from 'pg'
import { createRowhouse } from '../../rowhouse.ts'
import { DEMO_COLLECTION, DEMO_TABLE } from '../demo-database.ts'
import type { DemoRun, DemoStep, DemoTables } from '../demo-run.ts'

/** Plays the ways in which tenants usually see each other's data. */
export const attack: DemoStep = async (run) => {
  run.show.section(`Attacks, as the tenant ${run.database.tenantIds.lincoln}`)
  await forgetFilter(run)
  await injectSql(run)
  await stealIds(run)
  await reuseConnection(run)
  await queryPartition(run)
}

/** Runs raw SQL as the tenant, in a transaction of its own; nothing is added to the text. */
async function runAsTenant<Row>({ rowhouse }: DemoRun, tenantId: string, statement: string): Promise<Row[]> {
  const { rows } = await rowhouse.withTenant(tenantId, (db) => sql<Row>`${sql.raw(statement)}`.execute(db))
  return rows
}

async function forgetFilter(run: DemoRun): Promise<void> {
  const { lincoln } = run.database.tenantIds
  run.show.text('A forgotten filter:')
  const statement = `select tenant_id, count(*)::int from ${DEMO_TABLE} group by tenant_id`
  run.show.code(statement)
  run.show.claim('Only its own rows are there to be counted', await runAsTenant(run, lincoln, statement), [
    { tenant_id: lincoln, count: 3 },
  ])
}

async function injectSql(run: DemoRun): Promise<void> {
  const { lincoln, roosevelt } = run.database.tenantIds
  run.show.text('Injected SQL, in a filter that is built from text:')
  const byAuthor = (author: string) => `select tenant_id, author from ${DEMO_TABLE} where author = '${author}'`
  const always = byAuthor("' or 1=1 --")
  run.show.code(always)
  const rows = await runAsTenant<{ tenant_id: string }>(run, lincoln, always)
  run.show.claim(
    'The condition is always true, and still only its own three rows match',
    rows.map((row) => row.tenant_id),
    [lincoln, lincoln, lincoln],
  )
  const stacked = byAuthor(`'; set local app.tenant_id = '${roosevelt}'; select * from ${DEMO_TABLE} --`)
  run.show.code(stacked)
  await run.show.refused('A second statement behind the first is refused', '42601', () =>
    runAsTenant(run, lincoln, stacked),
  )
}

async function stealIds(run: DemoRun): Promise<void> {
  const { show, rowhouse, database } = run
  const { lincoln, roosevelt } = database.tenantIds
  show.text('A stolen id, of an annotation and of a document of roosevelt:')
  const [stolen] = await runAsTenant<{ id: string }>(run, roosevelt, `select id from ${DEMO_TABLE} limit 1`)
  const where = `where id = '${stolen!.id}'`
  show.code(`select * from ${DEMO_TABLE} ${where}`)
  show.claim('Nothing is found', await runAsTenant(run, lincoln, `select * from ${DEMO_TABLE} ${where}`), [])
  show.code(`update ${DEMO_TABLE} set note = 'mine' ${where} returning id`)
  show.claim(
    'Nothing is changed',
    await runAsTenant(run, lincoln, `update ${DEMO_TABLE} set note = 'mine' ${where} returning id`),
    [],
  )
  const insert = `insert into ${DEMO_TABLE} (tenant_id, author, note) values ('${roosevelt}', 'me', 'planted')`
  show.code(insert)
  await show.refused('A row cannot be planted', '42501', () => runAsTenant(run, lincoln, insert))
  const documentId = 'franklin-d-roosevelt-1941-001'
  show.code(`tenant.documents('${DEMO_COLLECTION}').get('${documentId}')`)
  show.claim(
    'The document is there for roosevelt and for nobody else',
    {
      lincoln: await rowhouse.tenant(lincoln).documents(DEMO_COLLECTION).get(documentId),
      roosevelt: (await rowhouse.tenant(roosevelt).documents(DEMO_COLLECTION).get(documentId))?.id,
    },
    { lincoln: undefined, roosevelt: documentId },
  )
  show.code(`rowhouse.withTenant("lincoln' or '1'='1", ...)`)
  await show.refused('A forged tenant id is none', 'invalid_tenant_id', () =>
    rowhouse.withTenant(`lincoln' or '1'='1`, async () => {}),
  )
}

async function reuseConnection({ show, database }: DemoRun): Promise<void> {
  const { lincoln, roosevelt } = database.tenantIds
  show.text('A connection that is used again: a pool of one, and a callback that crashes half-way:')
  const pool = new pg.Pool({ connectionString: database.connectionString, max: 1 })
  try {
    const rowhouse = createRowhouse<DemoTables>({ pool })
    const countAs = (tenantId: string) =>
      rowhouse.withTenant(tenantId, async (db) => {
        const { rows } = await sql<{ tenant_id: string; connection: number }>`
          select tenant_id, pg_backend_pid() as connection from ${sql.raw(DEMO_TABLE)}`.execute(db)
        return rows
      })
    const first = await countAs(lincoln)
    await show.refused('The crash reaches the caller', 'crashed', () =>
      rowhouse.withTenant(lincoln, async (db) => {
        await db.insertInto(DEMO_TABLE).values({ author: 'me', note: 'half done' }).execute()
        throw Object.assign(new Error('the callback crashed after an insert'), { code: 'crashed' })
      }),
    )
    const next = await countAs(roosevelt)
    show.claim(
      'The next tenant gets the same connection and sees its own rows',
      next.map((row) => ({ ...row })),
      Array(3).fill({ tenant_id: roosevelt, connection: first[0]?.connection }),
    )
    show.claim('What the crashed callback wrote is rolled back', (await countAs(lincoln)).length, 3)
    const { rows } = await pool.query(
      `select coalesce(current_setting('app.tenant_id', true), '') as tenant, current_user = session_user as own_role`,
    )
    show.claim('The connection carries no tenant and no role when it is idle', rows, [{ tenant: '', own_role: true }])
  } finally {
    await pool.end()
  }
}

async function queryPartition(run: DemoRun): Promise<void> {
  const { lincoln, roosevelt } = run.database.tenantIds
  run.show.text('The documents of roosevelt, by the name of the partition that they are in:')
  const [{ partition } = { partition: '' }] = await runAsTenant<{ partition: string }>(
    run,
    roosevelt,
    `select tableoid::regclass::text as partition from rowhouse.documents_${DEMO_COLLECTION} limit 1`,
  )
  const statement = `select content from ${partition}`
  run.show.code(statement)
  await run.show.refused('A partition is reached through its table only', '42501', () =>
    runAsTenant(run, lincoln, statement),
  )
}
