import type { AuditProgress } from '../../../audit/audit-log.ts'
import type { ProgressBar } from '../../progress-bar.ts'

/** Shows how far sealing or verifying is: by entries of one trail, by tenants of several. */
export function showEntries(bar: ProgressBar): (progress: AuditProgress) => void {
  return ({ tenantId, entries, totalEntries, tenants, totalTenants }) => {
    if (totalTenants === 1) bar.update({ table: tenantId, rows: entries, totalRows: totalEntries, unit: 'entries' })
    else {
      const within =
        totalEntries === 0 ? '' : `, ${entries.toLocaleString('en')} of ${totalEntries.toLocaleString('en')} entries`
      bar.update({ table: `${tenantId}${within}`, rows: tenants, totalRows: totalTenants, unit: 'tenants' })
    }
  }
}
