import { ARCHIVES } from '../archives.ts'
import type { DemoStep } from '../demo-run.ts'

/** Provisions the three tenants. */
export const provisionTenants: DemoStep = async ({ show, database, rowhouse }) => {
  show.section('Provision three tenants')
  const rows: (string | number)[][] = []
  const statuses: string[] = []
  for (const [key, archive] of Object.entries(ARCHIVES)) {
    const id = database.tenantIds[key as keyof typeof ARCHIVES]
    const tenant = await rowhouse.tenants.provision(id, { name: archive.name, tier: 'demo' })
    rows.push([tenant.id, tenant.name, tenant.tier, tenant.status])
    statuses.push(tenant.status)
  }
  show.table(['tenant', 'name', 'tier', 'status'], rows)
  show.claim('Three tenants are active', statuses, ['active', 'active', 'active'])
}
