import type { DemoRun, DemoStep } from '../demo-run.ts'

/** Seals the audit trails of the tenants that are left, verifies them, and shows that a change would be found. */
export const verifyAudit: DemoStep = async (run) => {
  const { show, rowhouse, database } = run
  const { lincoln, kennedy } = database.tenantIds
  show.section('Verify the audit trails')
  await rowhouse.tenant(lincoln, { userId: 'u_1' }).audit.append({ action: 'archive.open', detail: { box: 7 } })
  await show.refused('The application may not change an entry', '42501', () =>
    rowhouse.withTenant(lincoln, (db) =>
      db
        .withSchema('rowhouse')
        .updateTable('audit_entries' as never)
        .set({ action: 'archive.close' } as never)
        .execute(),
    ),
  )
  const rows: (string | number)[][] = []
  const intact: Record<string, boolean> = {}
  for (const id of [lincoln, kennedy]) {
    const { digest } = await rowhouse.auditLog.seal(id)
    const verified = await rowhouse.auditLog.verify(id, { anchor: digest })
    intact[id] = verified.intact
    rows.push([id, verified.entries, verified.segments, `${digest.slice(0, 16)}...`, verified.unsealed])
  }
  show.table(['tenant', 'entries', 'segments', 'digest', 'not sealed'], rows)
  show.claim('The chain of each tenant is intact, up to the digest that was noted', intact, {
    [lincoln]: true,
    [kennedy]: true,
  })
  if (database.embedded) await tamper(run)
}

/** As whoever owns the tables and switches the trigger off, in a transaction that is rolled back. */
async function tamper({ show, pool, database }: DemoRun): Promise<void> {
  const { lincoln } = database.tenantIds
  const client = await pool.connect()
  try {
    await client.query(`begin; set local role rowhouse_owner; set local app.tenant_id = '${lincoln}'`)
    await client.query('alter table rowhouse.audit_entries disable trigger user')
    const change = `update rowhouse.audit_entries set detail = '{"box": 8}' where action = 'archive.open'`
    show.code(change)
    await client.query(change)
    const { rows } = await client.query('select rowhouse.verify_audit($1) as result', [lincoln])
    const { intact, findings } = rows[0].result as { intact: boolean; findings: readonly { kind: string }[] }
    show.claim('Whoever owns the tables can change it, and it shows', [intact, findings.length > 0], [false, true])
  } finally {
    await client.query('rollback')
    client.release()
  }
}
