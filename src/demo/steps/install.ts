import type { DemoStep } from '../demo-run.ts'

/** Installs rowhouse, and shows that the role of requests is held by row-level security. */
export const install: DemoStep = async ({ show, database, pool, rowhouse }) => {
  show.section('Install rowhouse into a Postgres')
  const begun = performance.now()
  const report = await rowhouse.migrate()
  const seconds = ((performance.now() - begun) / 1000).toFixed(1)
  const where = database.embedded
    ? 'embedded in this process (PGlite)'
    : `database ${report.database} of the given server`
  show.text(`PostgreSQL ${report.serverVersion}, ${where}.`)
  show.text(
    report.applied.length === 0
      ? `rowhouse ${report.version} was installed already.`
      : `rowhouse ${report.version}: ${report.applied.length} SQL files applied in ${seconds} s.`,
  )
  if (!database.embedded) {
    show.text('The demo adds a schema, a collection and tenants of its own and removes them at the end.')
  }
  const { rows } = await pool.query(
    `select rolsuper, rolbypassrls, rolcanlogin from pg_roles where rolname = 'rowhouse_app'`,
  )
  show.claim('Requests run as a role that row-level security holds for: no superuser, no BYPASSRLS', rows, [
    { rolsuper: false, rolbypassrls: false, rolcanlogin: false },
  ])
}
