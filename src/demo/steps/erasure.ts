import { ARCHIVES } from '../archives.ts'
import { DEMO_COLLECTION, DEMO_TABLE } from '../demo-database.ts'
import type { DemoRun, DemoStep } from '../demo-run.ts'

const AUDIT_TABLE = 'rowhouse.audit_entries'

/** Erases one tenant, and shows that it is gone and the others are not. */
export const eraseTenant: DemoStep = async (run) => {
  const { show, rowhouse, database } = run
  const { roosevelt } = database.tenantIds
  show.section('Erase a tenant')
  const before = await countAll(run)
  show.code(`select rowhouse.erase_tenant('${roosevelt}')`)
  const receipt = await rowhouse.tenants.erase(roosevelt)
  const erased = Object.entries(receipt.tables).filter(([, rows]) => rows > 0)
  show.table(
    ['table', 'rows erased'],
    [...erased, [`in all ${Object.keys(receipt.tables).length} tables`, receipt.rows]],
  )
  show.text(
    `Receipt ${receipt.erasureNumber} of ${receipt.erasedAt}, by ${receipt.erasedBy}; ` +
      `digest ${receipt.auditDigest.slice(0, 16)}..., chained to the receipt before.`,
  )
  show.claim(
    `No row is left, in ${receipt.residue.registeredTablesChecked} registered and ` +
      `${receipt.residue.otherTablesChecked} other tables that could hold one`,
    receipt.residue.rows,
    0,
  )
  const verified = await rowhouse.tenants.verifyErasures()
  show.claim(
    'The receipt is stored, and the chain of receipts is intact',
    verified.filter((erasure) => !erasure.intact || erasure.tenantId === roosevelt),
    [{ erasureNumber: receipt.erasureNumber, tenantId: roosevelt, intact: true }],
  )
  const { [AUDIT_TABLE]: audited = 0, [DEMO_TABLE]: annotations = 0 } = receipt.tables
  const { [`rowhouse.documents_${DEMO_COLLECTION}`]: documents = 0, 'rowhouse.usage_events': events } = receipt.tables
  show.claim(
    'As many documents, annotations and records of usage were erased as the tenant had',
    [documents + annotations, events],
    [before[roosevelt], 1],
  )
  const { intact, purgedEntries } = await rowhouse.auditLog.verify(roosevelt, { anchor: receipt.audit.digest })
  show.claim(
    `Its audit trail is gone too; the chain of digests still shows that none of the ${audited} entries was changed before`,
    { intact, purgedEntries },
    { intact: true, purgedEntries: audited },
  )
  const { [roosevelt]: _erased, ...others } = before
  show.claim('The other tenants still have all of theirs', await countAll(run, roosevelt), others)
  await show.refused('The tenant cannot be entered again', 'tenant_inactive', () =>
    rowhouse.withTenant(roosevelt, (db) => db.selectFrom(DEMO_TABLE).selectAll().execute()),
  )
  await show.refused('Its id is never given to anybody else', 'tenant_inactive', () =>
    rowhouse.tenants.provision(roosevelt),
  )
}

/** Documents and annotations of each tenant. */
async function countAll({ rowhouse, database }: DemoRun, except?: string): Promise<Record<string, number>> {
  const counts: Record<string, number> = {}
  for (const key of Object.keys(ARCHIVES) as (keyof typeof ARCHIVES)[]) {
    const id = database.tenantIds[key]
    if (id === except) continue
    counts[id] = await rowhouse.withTenant(id, async (db, tenant) => {
      const { annotations } = await db
        .selectFrom(DEMO_TABLE)
        .select((e) => e.fn.countAll<string>().as('annotations'))
        .executeTakeFirstOrThrow()
      return Number(annotations) + (await tenant.documents(DEMO_COLLECTION).count())
    })
  }
  return counts
}
