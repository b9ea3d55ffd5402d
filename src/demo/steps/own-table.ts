import { sql } from 'kysely'
import { ARCHIVES } from '../archives.ts'
import { DEMO_SCHEMA, DEMO_TABLE } from '../demo-database.ts'
import type { DemoStep } from '../demo-run.ts'

/** Puts an ordinary table of the application under protection. */
export const protectOwnTable: DemoStep = async ({ show, database, pool, rowhouse }) => {
  show.section("Protect a table of the application's own")
  show.text(
    'annotations is an ordinary table. Its queries are supposed to say where tenant_id = ...; this one forgets it:',
  )
  await createAnnotations(pool, database.tenantIds)
  const statement = `select author, note from ${DEMO_TABLE}`
  show.code(statement)
  const { rowCount } = await pool.query(statement)
  show.claim('Before: it returns the rows of all three tenants', rowCount, 9)

  show.code(`select rowhouse.protect_table('${DEMO_TABLE}')`)
  const report = await rowhouse.protectTable(DEMO_TABLE)
  const done = report.steps.filter((step) => step.done).length
  show.text(`${done} statements: write guard, forced row-level security, two policies, privileges, registry.`)
  show.claim('It reports nothing that it could not make safe', report.findings, [])

  show.code(statement)
  const notes: Record<string, string[]> = {}
  const expected: Record<string, string[]> = {}
  for (const [key, archive] of Object.entries(ARCHIVES)) {
    const id = database.tenantIds[key as keyof typeof ARCHIVES]
    const { rows } = await rowhouse.withTenant(id, (db) => sql<{ note: string }>`${sql.raw(statement)}`.execute(db))
    notes[id] = rows.map((row) => row.note).sort()
    expected[id] = archive.annotations.map((annotation) => annotation.note).sort()
  }
  show.claim('After: the same statement returns to each tenant its own three rows', notes, expected)
}

/** What the application's own migrations have done long ago. */
async function createAnnotations(pool: DemoPool, tenantIds: Readonly<Record<string, string>>): Promise<void> {
  await pool.query(`
    create schema ${DEMO_SCHEMA};
    create table ${DEMO_TABLE} (
      tenant_id text not null,
      id uuid not null default gen_random_uuid(),
      author text not null,
      note text not null,
      primary key (tenant_id, id)
    )`)
  for (const [key, archive] of Object.entries(ARCHIVES)) {
    for (const { author, note } of archive.annotations) {
      await pool.query(`insert into ${DEMO_TABLE} (tenant_id, author, note) values ($1, $2, $3)`, [
        tenantIds[key],
        author,
        note,
      ])
    }
  }
}

type DemoPool = Parameters<DemoStep>[0]['pool']
